"""A file that is about to be read: whether it is one, and which it was that failed. Takes no torch."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trimask.errors import UserError

_MOST_TEXT = 2**30  # bytes
_GONE = "does not exist: give another name"


def find_problem(path: str | os.PathLike[str]) -> str | None:
    """What is in the way of reading a file at `path`, with the mend: the rest of a sentence that begins with
    the path. None if nothing is.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError:  # half a character, or a zero byte
        return "is no name of a file: give another"
    except OSError as error:
        if os.path.islink(path):
            return "is a link that leads nowhere: give the file, or mend the link"
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return _GONE
        return f"cannot be read: {error.strerror}"
    if stat.S_ISDIR(mode):
        return "is a folder, not a file: name the file inside"
    if not stat.S_ISREG(mode):  # a pipe would wait for a writer, a device may have no end
        return "is a pipe or a device, not a file: give a file"
    return None


def require_file(path: str | os.PathLike[str]) -> Path:
    """`path`, if a file is there.

    Raises:
        FileNotFoundError: nothing is, or a link that leads nowhere.
        UserError: something else is.
    """
    problem = find_problem(path)
    if problem is None:
        return Path(path)
    if problem == _GONE:
        raise FileNotFoundError(f"{path} does not exist")
    is_lost = os.path.islink(path) and not os.path.exists(path)
    raise (FileNotFoundError if is_lost else UserError)(f"{path} {problem}")


def read_text(path: str | os.PathLike[str], *, errors: str = "strict", mend: str = "write it again") -> str:
    """The text of the UTF-8 file at `path`. Raises as `existing`; UserError too for one that is no UTF-8, or
    larger than any of ours; with the `mend`.
    """
    path = require_file(path)
    with name_path_in_errors(path):
        size = path.stat().st_size
        if size > _MOST_TEXT:
            raise UserError(f"{path} has {size:,} bytes, too many for what it should be: {mend}")
        try:
            return path.read_text(encoding="utf-8", errors=errors)
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text ({error}): {mend}") from error


@contextmanager
def name_path_in_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within this, an error of the system names `path`: what a disk cannot read comes without a name."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or (error.errno is None and str(path) in str(error)):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
