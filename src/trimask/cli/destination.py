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
    """Write a file into `folder`, made if need be, and leave everything as it was.

    Args:
        num_bytes: space that the work will take, as far as known.

    Raises:
        Failed: no permission, no space, or something in the way; the message says how to mend it.
    """
    made = _missing_folders(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(_PROBE)
            probe.flush()
            os.fsync(probe.fileno())
        free = shutil.disk_usage(folder).free
        if free < num_bytes:
            raise OSError(
                errno.ENOSPC,
                f"{free // _MEGABYTE} MB are free, {-(-num_bytes // _MEGABYTE)} MB are needed",
            )
    except OSError as error:
        raise Failed(f"cannot write to {folder}: {explain(error)}") from error
    finally:
        for path in made:
            if path.is_dir():
                path.rmdir()


def explain(error: OSError) -> str:
    """What went wrong and how to mend it, without the path."""
    what = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}: free some space, or choose another --out"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{what}: choose a folder that you may write to"
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return f"{what}: a file and a folder are in each other's way, choose another --out"
    return what


def _missing_folders(folder: Path) -> list[Path]:
    """The folders that `mkdir -p folder` would make, innermost first."""
    missing = []
    for path in (folder, *folder.parents):
        if path.exists():
            break
        missing.append(path)
    return missing
