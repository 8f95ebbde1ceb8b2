"""A picture becomes what it shows, or is set aside by name: never black, clipped or cut in silence."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from odd_media import coloured, motif, odd_pictures, saved
from trimask.media.limits import Limits
from trimask.media.picture import FORMATS, crop_square, decode_picture, reject_decoder_errors
from trimask.media.rejection import Reason, Rejected

LIMITS = Limits()
ODD = odd_pictures()
MENDED = {"long_text.png", "without_end.jpg", "padded_with_zeros.jpg"}  # Pillow alone does not open these


def decode(data: bytes, size: int = 96) -> np.ndarray:
    return decode_picture(data, size=size, limits=LIMITS)


@pytest.mark.parametrize("name", ODD)
def test_the_right_pixels(name: str) -> None:
    data, right, tolerance = ODD[name]
    difference = np.abs(decode(data).astype(int) - right)
    assert difference.max() <= tolerance and difference.mean() <= max(1, tolerance / 20)


@pytest.mark.parametrize("name", sorted(ODD.keys() - MENDED))
def test_a_loaded_picture_is_seen_as_its_file(name: str) -> None:
    with reject_decoder_errors(), PIL.Image.open(io.BytesIO(ODD[name][0])) as opened:
        place = opened.tell()
        np.testing.assert_array_equal(crop_square(opened, 64), decode(ODD[name][0], 64))
        assert opened.tell() == place


def png16(values: np.ndarray) -> bytes:
    """RGB of 16 bits a channel, which Pillow reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colours_of_sixteen_bits() -> None:
    found = decode(png16(coloured().astype(np.uint16) * 257))
    np.testing.assert_array_equal(found, coloured())
    with pytest.raises(Rejected, match="fewer bits than it says") as caught:
        decode(png16(coloured().astype(np.uint16) * 16))
    assert caught.value.reason is Reason.RANGE


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (motif() * 10, Reason.RANGE),
        (motif() * 0.05, Reason.RANGE),
        (motif() * 1e6, Reason.RANGE),
        (motif() - 0.5, Reason.RANGE),
        (np.where(motif() > 0.9, np.nan, motif()).astype(np.float32), Reason.CORRUPT),
        ((motif() * 2**24).astype(np.int32), Reason.RANGE),
        ((motif() * 100 - 50).astype(np.int32), Reason.RANGE),
        ((motif() * 12).astype(np.uint16), Reason.RANGE),
    ],
)
def test_a_range_that_cannot_be_told(values: np.ndarray, reason: Reason) -> None:
    with pytest.raises(Rejected) as caught:
        decode(saved(values, "TIFF"))
    assert caught.value.reason is reason and caught.value.detail


def test_what_a_sixteen_bit_grey_calls_transparent_is_white() -> None:
    values = (motif() * 60_000).astype(np.uint16)
    found = decode(saved(values, transparency=int(values[48, 48])))
    assert (found[48, 48] == 255).all() and (found[48, 90] == values[48, 90] >> 8).all()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_cut_is_never_half_grey(progressive: bool) -> None:
    data = saved(coloured(), "JPEG", quality=90, progressive=progressive)
    for part in (0.95, 0.8, 0.5):
        for padding in (b"", bytes(3000)):
            with pytest.raises(Rejected) as caught:
                decode(data[: int(len(data) * part)] + padding, 64)
            assert caught.value.reason is Reason.CORRUPT


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = saved(coloured(), "JPEG", progressive=True)
    scan = data.rfind(b"\xff\xda")
    with pytest.raises(Rejected, match="scans") as caught:
        decode(data[:-2] + data[scan:-2] * 200 + data[-2:])
    assert caught.value.reason is Reason.OVERSIZED


def test_tiles_beyond_memory_are_refused() -> None:
    tile = zlib.compress(bytes(1000))
    tags = {
        256: 64,
        257: 64,
        258: 8,
        259: 8,
        262: 1,
        277: 1,
        322: 65_520,
        323: 65_520,
        324: 8,
        325: len(tile),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    place = 8 + len(tile)
    data = b"II*\0" + struct.pack("<I", place) + tile + struct.pack("<H", len(tags)) + entries + bytes(4)
    with pytest.raises(Rejected, match="tiles of 65520 x 65520") as caught:
        decode(data)
    assert caught.value.reason is Reason.OVERSIZED


@pytest.mark.parametrize("form", ["EPS", "PPM", "QOI", "ICO", "PCX", "TGA"])
def test_other_formats_are_refused_whatever_they_are_called(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subprocess.check_call", lambda *words, **options: pytest.fail("started a program"))
    assert form not in FORMATS
    with pytest.raises(Rejected) as caught:
        decode(saved(coloured(), form))
    assert caught.value.reason is Reason.CORRUPT


def test_the_middle_of_a_panorama_may_be_blank() -> None:
    wide = np.full((100, 400, 3), 255, dtype=np.uint8)
    wide[:, :100] = 0
    with pytest.raises(Rejected, match="central square") as caught:
        decode(saved(wide))
    assert caught.value.reason is Reason.BLANK


def test_what_libtiff_prints_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(saved(coloured(), "TIFF", compression="jpeg"))
    data[20:400] = bytes(380)
    with pytest.raises(Rejected):
        decode(bytes(data))
    assert capfd.readouterr() == ("", "")
