"""Check that a path is a readable file, and name the file in errors. Imports no torch."""

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
    """Say why `path` cannot be read as a file, and how to fix it, or return None.

    The result continues a sentence that starts with the path.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError:  # a lone surrogate, or a zero byte
        return "is not a valid file name: give another"
    except OSError as error:
        if os.path.islink(path):
            return "is a broken link: give the file, or fix the link"
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return _GONE
        return f"cannot be read: {error.strerror}"
    if stat.S_ISDIR(mode):
        return "is a folder, not a file: name the file inside"
    if not stat.S_ISREG(mode):  # a pipe would wait for a writer, a device may have no end
        return "is a pipe or a device, not a file: give a file"
    return None


def require_file(path: str | os.PathLike[str]) -> Path:
    """Return `path` if it is a file.

    Raises:
        FileNotFoundError: it does not exist, or is a broken link.
        UserError: it is something else, such as a folder or a pipe.
    """
    problem = find_problem(path)
    if problem is None:
        return Path(path)
    if problem == _GONE:
        raise FileNotFoundError(f"{path} does not exist")
    is_lost = os.path.islink(path) and not os.path.exists(path)
    raise (FileNotFoundError if is_lost else UserError)(f"{path} {problem}")


def read_text(path: str | os.PathLike[str], *, errors: str = "strict", fix: str = "write it again") -> str:
    """Read the UTF-8 file at `path`.

    Args:
        errors: how to handle invalid bytes, as for `bytes.decode`.
        fix: what to do if the file is wrong, for the message.

    Raises:
        FileNotFoundError: it does not exist, or is a broken link.
        UserError: it is not a file, not UTF-8, or has more than 1 GiB.
    """
    path = require_file(path)
    with name_path_in_errors(path):
        size = path.stat().st_size
        if size > _MOST_TEXT:
            raise UserError(f"{path} has {size:,} bytes, more than trimask ever writes to such a file: {fix}")
        try:
            return path.read_text(encoding="utf-8", errors=errors)
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text ({error}): {fix}") from error


@contextmanager
def name_path_in_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add `path` to OSErrors raised in this block: a disk's read errors have no file name."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or (error.errno is None and str(path) in str(error)):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
