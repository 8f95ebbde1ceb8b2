"""A source that was touched, copied or linked anew is the same; one that was changed anywhere is not."""

import os
from pathlib import Path

import pytest

from trimask.sources.inventory import INVENTORY, check_inventory, fingerprint

NAMES = ("a.txt", "large.bin")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.txt").write_text("a")
    (tmp_path / "source" / "large.bin").write_bytes(bytes(range(256)) * 100)
    return tmp_path / "source"


def marks(root: Path, out: Path) -> str:
    check_inventory(out, root, NAMES)
    return fingerprint(root, NAMES)


def test_what_was_touched_is_the_same(source: Path, tmp_path: Path):
    before = marks(source, tmp_path)
    os.utime(source / "a.txt", (1, 1))
    os.chmod(source / "large.bin", 0o600)
    assert marks(source, tmp_path) == before
    copy = tmp_path / "copy"
    copy.write_bytes((source / "large.bin").read_bytes())
    os.replace(copy, source / "large.bin")
    assert marks(source, tmp_path) == before
    stored = tmp_path / "stored"
    os.rename(source / "a.txt", stored)
    (source / "a.txt").symlink_to(stored)
    assert marks(source, tmp_path) == before


@pytest.mark.parametrize("place", [0, 5000, 12_800, 25_599])
def test_one_byte_of_the_same_size_and_time_is_noticed(place: int, source: Path, tmp_path: Path):
    before = marks(source, tmp_path)
    path = source / "large.bin"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=times)
    is_an_end = not 4096 <= place < 25_600 - 4096
    assert (fingerprint(source, NAMES) != before) == is_an_end
    with pytest.raises(ValueError, match=r"large.bin has changed since"):
        check_inventory(tmp_path, source, NAMES)


def test_another_target_of_a_link_is_noticed(source: Path, tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    (source / "a.txt").unlink()
    (source / "a.txt").symlink_to(tmp_path / "one")
    before = marks(source, tmp_path)
    (source / "a.txt").unlink()
    (source / "a.txt").symlink_to(tmp_path / "two")
    assert fingerprint(source, NAMES) != before
    with pytest.raises(ValueError, match=r"a.txt has changed since"):
        check_inventory(tmp_path, source, NAMES)


def test_names_and_contents_are_not_mixed_up(tmp_path: Path):
    (tmp_path / "ab").write_text("c")
    (tmp_path / "a").write_text("bc")
    assert fingerprint(tmp_path, ["ab"]) != fingerprint(tmp_path, ["a"])
    assert fingerprint(tmp_path, ["ab", "a"]) != fingerprint(tmp_path, ["ab"])


@pytest.mark.parametrize("text", ["{", "[]\n", '{"name": 1}\n', "[" * 100_000])
def test_a_damaged_inventory_is_told(text: str, source: Path, tmp_path: Path):
    (tmp_path / INVENTORY).write_text(text)
    with pytest.raises(ValueError, match=r"source.jsonl is damaged .*: choose another --out"):
        check_inventory(tmp_path, source, NAMES)


def test_pipes_do_not_keep_us_waiting(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    fingerprint(tmp_path, ["pipe", "gone"])
    check_inventory(tmp_path, tmp_path, ["pipe", "gone"])


def test_progress_is_told(source: Path, tmp_path: Path):
    told: list[str] = []
    check_inventory(tmp_path, source, NAMES, told.append)
    assert told and told[-1].startswith("hashing the source, 0.0 of 0.0 GB")
