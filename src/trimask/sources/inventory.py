"""Whether a source is still the same: perhaps touched, copied or linked anew, but not changed."""

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
    """Of the names of files, their sizes, and their first and last 4 kB; what links lead to counts, and times
    do not.
    """
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
        except OSError:  # a pipe, or not ours to read: told where it is read
            digest.update(b"\0")
    return digest.hexdigest()


def check_inventory(out: Path, root: Path, names: Iterable[str], report: Report = lambda m: None) -> None:
    """Keep the SHA-256 of every file in `out`; where they are kept already, compare.

    A file is read again only if its times, its size or its place on the disk are others than they were.

    Raises:
        UserError: a file has changed.
    """
    path = out / INVENTORY
    before = dict(_kept(path))
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
            f"{root / changed[0]} has changed since {out} was begun: put it back, or choose another --out"
        )
    if before != now:
        _write(path, now)


def _stamp(path: Path) -> list[int] | None:
    """What changes when a file's bytes do; None for what is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino]


def _kept(path: Path) -> Iterator[tuple[str, tuple[list[int], str]]]:
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
