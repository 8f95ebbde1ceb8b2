"""Regular files, opened without waiting for anyone and read no further than allowed."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from trimask.media.rejection import Reason, Rejected


def open_file(path: Path) -> BinaryIO:
    """A regular file, to be read. OSError for a pipe or a device, which might keep us waiting."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "no file, but a pipe, a device or a folder", str(path))
    return os.fdopen(handle, "rb")


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a regular file, also of one that grows, or that says it is shorter.

    Raises:
        Rejected: there are more than `limit`. OSError: it cannot be read.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > limit else file.read(limit + 1)
    if size > limit or len(data) > limit:
        raise Rejected(Reason.OVERSIZED, f"{max(size, len(data))} bytes, the limit is {limit}")
    return data
