"""Detect changes to the content of a source; copies, new links and new time stamps do not count."""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from trimask import io
from trimask.errors import UserError
from trimask.media.regular import open_file

INVENTORY = "source.jsonl"
_ENDS = 4096  # bytes
_BLOCK = 1 << 20
Report = Callable[[str], None]


def fingerprint(root: Path, names: Iterable[str]) -> str:
    """Hash the names and sizes of files, and the first and last 4 KiB of each. Links are followed."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(os.fsencode(name) + b"\0")
        try:
            with open_file(root / name) as file:
                size = os.fstat(file.fileno()).st_size
                digest.update(b"%d\0%s" % (size, file.read(min(size, _ENDS))))
                if size > _ENDS:
                    file.seek(max(size - _ENDS, _ENDS))
                    digest.update(file.read(_ENDS))
        except OSError:  # a pipe, or not readable: its reader reports it
            digest.update(b"\0")
    return digest.hexdigest()


def check_inventory(out: Path, root: Path, names: Iterable[str], report: Report = lambda m: None) -> None:
    """Store the SHA-256 of every file under `out`, or compare the files with the stored hashes.

    A file is hashed again only if its size, times or inode have changed.

    Args:
        report: called with progress messages.

    Raises:
        UserError: a file has changed.
    """
    path = out / INVENTORY
    before = dict(_read_stored(path))
    now: dict[str, tuple[list[int], str]] = {}
    fresh: list[str] = []
    for name in names:
        stamp = _stamp(root / name)
        if stamp is not None:
            stamp_before, digest = before.get(name, (None, ""))
            now[name] = (stamp, digest if stamp == stamp_before else "")
            fresh += [name] if stamp != stamp_before else []
    total = sum(now[name][0][0] for name in fresh)
    done = 0
    for name in fresh:
        digest = hashlib.sha256()
        with open_file(root / name) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                done += len(block)
                report(f"hashing the source, {min(done, total) / 1e9:.1f} of {total / 1e9:.1f} GB")
        now[name] = (now[name][0], digest.hexdigest())
    changed = [name for name in fresh if name in before and before[name][1] != now[name][1]]
    if changed:
        raise UserError(
            f"{root / changed[0]} has changed since {out} was started: restore it, or choose another --out"
        )
    if before != now:
        _write(path, now)


def _stamp(path: Path) -> list[int] | None:
    """Return values that change whenever the file's bytes do; None if it is no regular file."""
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino]


def _read_stored(path: Path) -> Iterator[tuple[str, tuple[list[int], str]]]:
    if not path.is_file():
        return
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            row = json.loads(line)
            yield str(row["name"]), (list(row["stamp"]), str(row["sha256"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): choose another --out") from error


def _write(path: Path, files: Mapping[str, tuple[list[int], str]]) -> None:
    with io.atomic_write(path) as temporary, temporary.open("w", encoding="ascii") as lines:
        for name, (stamp, digest) in files.items():
            lines.write(json.dumps({"name": name, "stamp": stamp, "sha256": digest}) + "\n")
