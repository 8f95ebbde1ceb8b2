"""A checkpoint that is being read is not removed: readers hold it, and the writer asks before it removes."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# `flock`, which goes by the opened file: other readers of the same file in this process do not end it.


@contextmanager
def held(file: Path) -> Iterator[bool]:
    """Whether `file` is there; if so, no writer removes it within this. Writes nothing.

    On a file system without locks it is taken on trust.
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
def about_to_remove(file: Path) -> Iterator[bool]:
    """Whether nobody holds `file`; if so, nobody can within this."""
    try:
        handle = os.open(file, os.O_RDWR | os.O_NONBLOCK)  # some file systems lock only what can be written
    except OSError:
        yield True  # not whole, or not ours to read: nobody reads it
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
    """Whether the opened file is still what the path names: the writer may have come first."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(file))
    except OSError:
        return False
