"""Open regular files without blocking, and read them up to a limit."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from trimask.media.rejection import Reason, Rejected


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: it cannot be opened, or it is a pipe, device or folder; reading a pipe could block forever.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file but a pipe, device or folder", str(path))
    return os.fdopen(handle, "rb")


def read_bounded(path: Path, limit: int) -> bytes:
    """Read the bytes of a regular file, even if it grows or reports a wrong size.

    Raises:
        Rejected: it has more than `limit` bytes.
        OSError: it cannot be read.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > limit else file.read(limit + 1)
    if size > limit or len(data) > limit:
        raise Rejected(Reason.OVERSIZED, f"{max(size, len(data))} bytes, the limit is {limit}")
    return data
