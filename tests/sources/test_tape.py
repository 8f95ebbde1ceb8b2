"""Archives that are made to take memory or time: each is told, what stood before is kept."""

import gzip
import io
import random
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from trimask.media.limits import Limits
from trimask.media.rejection import Reason, Rejection
from trimask.prepare.decode import read_part
from trimask.sources import tape
from trimask.sources.item import Item
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import make_plan
from trimask.sources.tape import members

SMALL = PrepareOptions(limits=Limits(max_bytes=100_000))


def picture() -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(out, format="PNG")
    return out.getvalue()


def member(name: str, data: bytes, **others: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for field, value in others.items():
            setattr(info, field, value)
        archive.addfile(info, io.BytesIO(data))
        return out.getvalue()[: archive.offset]


PAIR = member("a.png", picture()) + member("a.txt", b"a caption")
BROKEN = PAIR + member("aa.txt", b"of an example that is not whole")
END = b"\0" * 1024


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def read(path: Path, data: bytes, options: PrepareOptions = SMALL) -> tuple[list[Item], list[Rejection]]:
    path.write_bytes(data)
    plan = make_plan(str(path), options)
    found = [item for part in plan.parts for item in read_part(part, options)]
    return [i for i in found if isinstance(i, Item)], [r for r in found if isinstance(r, Rejection)]


@pytest.mark.parametrize("field", ["txt", "png", "json"])
def test_two_members_of_one_key_are_both_told(field: str, tmp_path: Path):
    data = b'{"caption": "one"}' if field == "json" else b"one"
    twice = member(f"b.{field}", data) + member("b.jpg", picture()) + member(f"b.{field}", data + b" ")
    items, rejections = read(tmp_path / "a.tar", PAIR + twice + member("c.png", picture()) + END)
    assert [item.key for item in items] == ["a.tar:a"]
    assert ("a.tar:b", Reason.MALFORMED_ROW, f"two or more members are called .{field}") in [
        (found.key, found.reason, found.detail) for found in rejections
    ]


def test_many_members_of_one_key_are_not_held(tmp_path: Path):
    many = b"".join(member(f"b.{number}", b"x" * 90_000) for number in range(100))
    items, rejections = read(tmp_path / "a.tar", PAIR + many + member("c.txt", b"c") + END)
    assert [item.key for item in items] == ["a.tar:a"]
    assert [(r.key, r.reason) for r in rejections if r.reason is Reason.OVERSIZED] == [
        ("a.tar:b", Reason.OVERSIZED)
    ]
    many = b"".join(member(f"b.{number}", b"") for number in range(500))
    items, rejections = read(tmp_path / "a.tar", PAIR + many + END)
    assert len(items) == 1 and [r.reason for r in rejections] == [Reason.MALFORMED_ROW]


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_long_headers_are_not_read(kind: bytes, tmp_path: Path):
    for size in (2_000_000, 1 << 33):
        items, rejections = read(tmp_path / "a.tar", BROKEN + header(kind, size) + b"1" * 2_000_000 + END)
        assert len(items) == 1 and [r.reason for r in rejections] == [Reason.UNREADABLE_FILE]
        assert rejections[0].detail == f"after 1 items: a header of {size} bytes"


def test_long_names_are_read(tmp_path: Path):
    name = "x" * 300
    data = member(f"{name}.png", picture()) + member(f"{name}.txt", b"said", pax_headers={"comment": "é"})
    items, rejections = read(tmp_path / "a.tar", data + END)
    assert [item.key for item in items] == [f"a.tar:{name}"] and not rejections


@pytest.mark.parametrize("headers", [{"GNU.sparse.map": "0,1"}, {"GNU.sparse.size": "9"}])
def test_sparse_files_are_told(headers: dict[str, str], tmp_path: Path):
    sparse = member("b.png", b"x", pax_headers=headers)
    items, rejections = read(tmp_path / "a.tar", BROKEN + sparse + END)
    assert len(items) == 1 and "is a sparse file, which is not supported" in rejections[0].detail
    items, rejections = read(tmp_path / "a.tar", BROKEN + header(tarfile.GNUTYPE_SPARSE, 5) + END)
    assert len(items) == 1 and "is a sparse file, which is not supported" in rejections[0].detail


def test_headers_upon_headers(tmp_path: Path):
    chain = (header(tarfile.XHDTYPE, 512) + b"11 a=bcdefg\n".ljust(512, b"\0")) * 3000
    items, rejections = read(tmp_path / "a.tar", BROKEN + chain + END)
    assert len(items) == 1 and [r.reason for r in rejections] == [Reason.UNREADABLE_FILE]


def test_an_archive_that_inflates_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tape, "_FREE_BYTES", 1_000_000)
    path = tmp_path / "a.tar.gz"
    with gzip.GzipFile(path, "wb", compresslevel=9) as file:
        file.write(BROKEN)
        for _ in range(200):
            file.write(member("z.png", b"\0" * 90_000))
    items, rejections = read(path, path.read_bytes())
    assert len(items) == 1 and rejections[-1].reason is Reason.UNREADABLE_FILE
    assert "more than 200 times its size" in rejections[-1].detail


def test_a_size_that_no_file_has(tmp_path: Path):
    info = tarfile.TarInfo("b.png")
    info.size = 1 << 40
    items, rejections = read(tmp_path / "a.tar", BROKEN + info.tobuf(tarfile.GNU_FORMAT) + END)
    assert len(items) == 1 and rejections[-1].reason is Reason.UNREADABLE_FILE


def test_members_are_forgotten(tmp_path: Path):
    """Memory does not grow with the number of members."""
    path = tmp_path / "a.tar"
    path.write_bytes(b"".join(member(f"{number}.png", b"") for number in range(2000)) + END)
    seen = [found.name for found, _ in members(path)]
    assert seen == [f"{number}.png" for number in range(2000)]


PROGRAM = """
import resource, sys
from trimask.sources.tape import members
limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 30_000_000
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    for member, read in members(__import__("pathlib").Path(sys.argv[1])):
        pass
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_small_archive_takes_little_memory(kind: bytes, tmp_path: Path):
    """64 MB of header in less than one of gzip, where 30 MB may be taken."""
    path = tmp_path / "a.tar.gz"
    with gzip.GzipFile(path, "wb", compresslevel=1) as file:
        file.write(header(kind, 1 << 26))
        for _ in range(64):
            file.write(b"1" * (1 << 20))
    assert path.stat().st_size < 1_000_000
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=False
    )
    assert told.stdout == f"ReadError a header of {1 << 26} bytes\n", told.stderr


@pytest.mark.parametrize("num_bytes", [0, 1, 511, 512, 600, 20_000])
def test_a_gzipped_archive_that_is_cut_keeps_what_was_before_and_is_told(tmp_path: Path, num_bytes: int):
    """Wherever it is cut: also between two members, where tar alone would see a whole archive."""
    drawn = random.Random(0)
    pictures = [drawn.randbytes(700) for _ in range(40)]
    whole = gzip.compress(
        b"".join(
            member(f"{number}.png", picture) + member(f"{number}.txt", b"a text")
            for number, picture in enumerate(pictures)
        )
    )
    items, rejections = read(tmp_path / "a.tar.gz", whole[: num_bytes + 100])
    assert [item.image for item in items] == pictures[: len(items)] and len(items) < 40
    assert rejections[-1].reason is Reason.UNREADABLE_FILE


def test_gzipped_archives_one_after_another_are_one(tmp_path: Path):
    """As parallel compressors write them."""
    parts = [member(f"{n}.png", b"P%d" % n) + member(f"{n}.txt", b"text %d" % n) for n in range(3)]
    items, rejections = read(tmp_path / "a.tar.gz", b"".join(map(gzip.compress, [*parts, END])))
    assert [item.image for item in items] == [b"P0", b"P1", b"P2"] and not rejections
