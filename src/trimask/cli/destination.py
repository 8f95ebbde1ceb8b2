"""Whether `--out` can be written, found out before long work and not after it."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from trimask.cli.failure import Failed

_PROBE = b"\0" * 65536
_MEGABYTE = 1_000_000


def check_writable(folder: Path, *, num_bytes: int = 0) -> None:
    """Write a file into `folder`, or where it would be made, and leave everything as it was.

    Args:
        num_bytes: space that the work will take, as far as known.

    Raises:
        Failed: no permission, no space, or something in the way; the message says how to mend it.
    """
    try:
        # Nothing is made: to remove it again would be in the way of another process that begins there.
        there = next(path for path in _upwards(folder) if path.is_symlink() or path.exists())
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(_PROBE)
            probe.flush()
            os.fsync(probe.fileno())
        free = shutil.disk_usage(there).free
        if free < num_bytes:
            raise OSError(
                errno.ENOSPC,
                f"{free // _MEGABYTE} MB are free, {-(-num_bytes // _MEGABYTE)} MB are needed",
            )
    except OSError as error:
        raise Failed(f"cannot write to {folder}: {explain(error)}") from error


def explain(error: OSError) -> str:
    """What went wrong and how to mend it, without the path."""
    what = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}: free some space, or choose another --out"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{what}: choose a folder that you may write to"
    if error.errno == errno.EIO:
        return f"{what}: the disk cannot read or write it, take a copy from elsewhere"
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return f"{what}: a file and a folder are in each other's way, choose another --out"
    return what


def _upwards(folder: Path) -> tuple[Path, ...]:
    """`folder` and all that it lies in."""
    whole = folder.absolute()
    return (whole, *whole.parents)
