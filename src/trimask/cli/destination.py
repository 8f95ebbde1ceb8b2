"""Check that `--out` can be written, before long work rather than after it."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from trimask.cli.failure import Failed

_PROBE = b"\0" * 65536
_MEGABYTE = 1_000_000


def check_writable(folder: Path, *, num_bytes: int = 0) -> None:
    """Check that `folder` can be written, by a temporary file in it or in its nearest existing parent.

    Args:
        num_bytes: disk space that the work will take, as far as known.

    Raises:
        Failed: no permission, no space, or a file where a folder is needed; the message says how to fix it.
    """
    try:
        # The folder is not created: removing it again could break another process that starts there.
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
    """Say what went wrong and how to fix it, without the path."""
    what = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}: free some space, or choose another --out"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{what}: choose a folder that you may write to"
    if error.errno == errno.EIO:
        return f"{what}: the disk cannot read or write it, restore it from a copy"
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return f"{what}: a file is in the place of a folder, or the reverse: choose another --out"
    return what


def _upwards(folder: Path) -> tuple[Path, ...]:
    """Return `folder` and all its parents, from the inside out."""
    absolute = folder.absolute()
    return (absolute, *absolute.parents)
