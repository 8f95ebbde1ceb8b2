"""A folder for one process alone."""

import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

from trimask.errors import UserError

logger = logging.getLogger(__name__)

_LOCK = ".lock"


@final
class InUse(UserError):
    """Another process has the folder."""


@contextmanager
def lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """`folder`, made if need be, for this process alone; the lock goes with the process, however it ends.

    InUse: another process has it. On a file system without locks, it is taken on trust.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    handle = _lock_file(folder / _LOCK)
    try:
        try:
            # Not `flock`, whose locks live on in children that outlive this process.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise InUse(
                f"{folder} is in use by another process: wait for it, or choose another --out"
            ) from error
        except OSError as error:
            logger.warning("%s cannot be locked (%s): make sure that one process uses it", folder, error)
        yield
    finally:
        os.close(handle)


@contextmanager
def claim(folder: str | os.PathLike[str], *, marker: str, what: str) -> Iterator[None]:
    """As `locked`, for a folder that is new, or empty, or holds the file `marker`: then it is of `what`.

    UserError: it holds something else, is a file, or another process has it.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: choose another --out")
    is_empty = not folder.exists() or all(entry.name.startswith(".") for entry in folder.iterdir())
    if not is_empty and not (folder / marker).exists():
        raise UserError(f"{folder} is not empty and holds no {what}: choose another --out")
    with lock(folder):
        yield


def _lock_file(path: Path) -> int:
    """A descriptor of the lock file, made if need be. Its bytes are never touched; it is no link, and a pipe
    does not keep us waiting.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise UserError(f"{path} is no lock file of ours: delete it, or choose another --out") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path} is no lock file of ours: delete it, or choose another --out")
    return handle
