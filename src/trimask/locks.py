"""Lock a folder for one process."""

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
    """The folder is locked by another process."""


@contextmanager
def lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Lock `folder`, created if needed, for this process; the lock ends with the block or the process.

    On a file system without locks, log a warning instead.

    Raises:
        InUse: another process has locked it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    handle = _lock_file(folder / _LOCK)
    try:
        try:
            # Not `flock`: its locks are inherited by children, which may outlive this process.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise InUse(
                f"{folder} is in use by another process: wait for it, or choose another --out"
            ) from error
        except OSError as error:
            logger.warning("%s cannot be locked (%s): make sure that only one process uses it", folder, error)
        yield
    finally:
        os.close(handle)


@contextmanager
def claim(folder: str | os.PathLike[str], *, marker: str, what: str) -> Iterator[None]:
    """Lock `folder` as `lock` does, if it is new, empty, or holds the file `marker` of an earlier `what`.

    Raises:
        InUse: another process has locked it.
        UserError: it holds something else, or is a file.
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
    """Open the lock file, created if needed, and return its descriptor.

    The file is never written. Links are not followed, and opening a pipe does not block.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise UserError(f"{path} is not a lock file: delete it, or choose another --out") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path} is not a lock file: delete it, or choose another --out")
    return handle
