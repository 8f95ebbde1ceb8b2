"""Keep checkpoints from being removed while they are read: readers lock them, and the writer checks first."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# `flock` belongs to the open file: other readers of the same file in this process do not release it.


@contextmanager
def hold_for_reading(file: Path) -> Iterator[bool]:
    """Yield whether `file` exists; if so, no writer removes it inside `with`. Writes nothing.

    On a file system without locks, this is not enforced.
    """
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        yield False
        return
    try:
        _lock(handle, fcntl.LOCK_SH)
        yield _is_at(handle, file)
    finally:
        os.close(handle)


@contextmanager
def lock_for_removal(file: Path) -> Iterator[bool]:
    """Yield whether no reader holds `file`; if so, none can inside `with`."""
    try:
        handle = os.open(file, os.O_RDWR | os.O_NONBLOCK)  # some file systems lock only what can be written
    except OSError:
        yield True  # incomplete or unreadable: nobody reads it
        return
    try:
        yield _lock(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here
        return True
    return True


def _is_at(handle: int, file: Path) -> bool:
    """Return whether the path still names the opened file: the writer may have been faster."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(file))
    except OSError:
        return False
