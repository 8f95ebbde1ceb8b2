"""500 inputs that nobody should have: each is reported, none is fatal, none is shown as a traceback."""

import io
import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from trimask.cli import main
from trimask.media.rejection import Reason

IMAGE_NAMES = (".png", ".jpg", ".webp", ".gif", ".bmp", ".tiff")
AUDIO_NAMES = (".wav", ".flac", ".ogg", ".mp3", ".opus")
Draw = np.random.Generator


def picture(draw: Draw, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    pixels = draw.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(out, format=form)
    return out.getvalue()


def recording(draw: Draw, form: str = "WAV") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, 0.1 * draw.normal(size=2000), 8000, format=form)
    return out.getvalue()


def valid(draw: Draw) -> bytes:
    makers: list[Callable[[], bytes]] = [
        lambda: picture(draw, str(draw.choice(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]))),
        lambda: recording(draw, str(draw.choice(["WAV", "FLAC", "OGG", "MP3"]))),
    ]
    return makers[int(draw.integers(2))]()


def random_bytes(draw: Draw) -> bytes:
    return draw.bytes(int(draw.integers(0, 300)))


def truncated(draw: Draw) -> bytes:
    data = valid(draw)
    return data[: int(draw.integers(0, len(data)))]


def flipped(draw: Draw) -> bytes:
    data = bytearray(valid(draw))
    for place in draw.integers(0, min(len(data), 200), 4):
        data[place] ^= int(draw.integers(1, 256))
    return bytes(data)


def bomb(draw: Draw) -> bytes:
    """Sizes in the header that no file has."""
    kind = int(draw.integers(3))
    if kind == 0:
        data = bytearray(picture(draw))
        struct.pack_into(">II", data, 16, *(int(n) for n in draw.integers(10_000, 2**31 - 1, 2)))
    elif kind == 1:
        data = bytearray(picture(draw, "BMP"))
        struct.pack_into("<ii", data, 18, *(int(n) for n in draw.integers(10_000, 2**31 - 1, 2)))
    else:
        data = bytearray(recording(draw))
        struct.pack_into("<I", data, int(draw.choice([4, 24, 28, 40])), int(draw.integers(2**20, 2**32 - 1)))
    return bytes(data)


def caption(draw: Draw) -> bytes:
    options = [*[b"a caption"] * 12, b"", b" \n", b"\xff\xfe", b"\0", b"x" * 9000, "π".encode()]
    return options[int(draw.integers(len(options)))]


KINDS: tuple[Callable[[Draw], bytes], ...] = (random_bytes, truncated, flipped, bomb, lambda draw: b"", valid)


def loose_files(folder: Path, draw: Draw, count: int) -> None:
    folder.mkdir()
    suffixes = IMAGE_NAMES + AUDIO_NAMES + (".PNG", ".xyz", "")
    for number in range(count):
        suffix = str(draw.choice(suffixes))
        (folder / f"f{number:03d}{suffix}").write_bytes(KINDS[number % len(KINDS)](draw))
        if draw.random() < 0.8:
            (folder / f"f{number:03d}.txt").write_bytes(caption(draw))


def row(draw: Draw, number: int) -> bytes:
    """A line of CSV or JSON, or of neither."""
    lines = [
        b"file_name,text",
        f'f{number}.png,"unclosed'.encode(),
        b'"a""b",c,d,e',
        b"\xff\xfe,\x00",
        b"../../../../etc/passwd,text",
        b"." * 5000 + b".png,text",
        b"a\0b.png,text",
        b"good.png,text %d" % number,
        b'{"file_name": "good.png", "text": "t%d"}' % number,
        b'{"file_name": 7, "text": []}',
        b'{"file_name": null, "text": "\\ud800"}',
        b"[" * 3000,
        b'{"text": {"text": "nested"}}',
        b"null",
        b'{"file_name": "good.png", "text": "x", "text": NaN}',
        b"",
    ]
    return lines[int(draw.integers(len(lines)))]


def tables(folder: Path, draw: Draw, count: int, *, has_media: bool) -> None:
    folder.mkdir()
    if has_media:
        (folder / "good.png").write_bytes(picture(draw))
    for number in range(count):
        suffix = str(draw.choice([".csv", ".tsv", ".jsonl", ".json"]))
        head = b"file_name\ttext\n" if suffix == ".tsv" else b"file_name,text\n"
        head = (head if has_media else b"text\n") if suffix in (".csv", ".tsv") else b""
        rows = [row(draw, int(n)) for n in draw.integers(0, 99, 8)]
        (folder / f"t{number:03d}{suffix}").write_bytes(head + b"\n".join(rows))
    # One that is whole, so that the columns can be told.
    (folder / "a.jsonl").write_text(
        '{"file_name": "good.png", "text": "good"}\n' if has_media else '{"text": "x"}\n'
    )


def archives(folder: Path, draw: Draw, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as file:
            for name in (f"{n}.{s}" for n in range(3) for s in ("png", "txt") if draw.random() < 0.9):
                data = caption(draw) if name.endswith("txt") else KINDS[int(draw.integers(len(KINDS)))](draw)
                info = tarfile.TarInfo(name)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
        data = out.getvalue()
        cut = int(draw.integers(0, len(data))) if draw.random() < 0.4 else len(data)
        noise = random_bytes(draw) if draw.random() < 0.2 else b""
        (folder / f"a{number:03d}.tar").write_bytes(noise + data[:cut])


def parquets(folder: Path, draw: Draw, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        rows = {
            "image": [KINDS[int(draw.integers(len(KINDS)))](draw) for _ in range(3)],
            "text": [None, "", "a caption"],
        }
        out = io.BytesIO()
        pq.write_table(pa.table(rows), out)
        data = bytearray(out.getvalue())
        if number % 3 == 1:
            data[int(draw.integers(len(data)))] ^= 255
        if number % 3 == 2:
            data = data[: int(draw.integers(len(data)))]
        (folder / f"p{number:03d}.parquet").write_bytes(bytes(data))


def texts(folder: Path, draw: Draw, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        data = caption(draw) if draw.random() < 0.7 else random_bytes(draw)
        (folder / f"d{number:03d}.txt").write_bytes(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda folder, draw: loose_files(folder, draw, 300),
        lambda folder, draw: tables(folder, draw, 40, has_media=True),
        lambda folder, draw: tables(folder, draw, 40, has_media=False),
        lambda folder, draw: archives(folder, draw, 50),
        lambda folder, draw: parquets(folder, draw, 20),
        lambda folder, draw: texts(folder, draw, 50),
    ],
    ids=["loose files", "tables of files", "tables of text", "archives", "parquet", "texts"],
)
def test_nothing_is_fatal(
    make: Callable[[Path, Draw], None],
    tokenizers_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path / "raw", np.random.default_rng(0))
    words = ["--tokenizers", str(tokenizers_folder), "--workers=1", "--json"]
    assert main(["prepare", str(tmp_path / "raw"), "--out", str(tmp_path / "data"), *words]) == 0
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err and not printed.err.count("Error")
    described = json.loads(printed.out)
    lines = [json.loads(line) for line in (tmp_path / "data" / "rejected.jsonl").read_text().splitlines()]
    assert len(lines) == sum(described["rejected"].values()) > 0
    assert {line["reason"] for line in lines} <= {reason.value for reason in Reason}
    assert all(line["key"] and line["detail"] and " at 0x" not in line["detail"] for line in lines)
    assert (
        sum(found["examples"] for sources in described["counts"].values() for found in sources.values()) > 0
    )
