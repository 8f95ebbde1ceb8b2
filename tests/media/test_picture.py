"""Guarded decoding of pictures: the right pixels, or the right reason."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest

from trimask.media.limits import Limits
from trimask.media.picture import decode_picture
from trimask.media.rejection import Reason, Rejected

LIMITS = Limits()


def encoded(pixels: np.ndarray, form: str = "PNG", mode: str | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    image = PIL.Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(out, format=form, **options)
    return out.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def png_header(width: int, height: int) -> bytes:
    """A whole PNG by its header, with a few bytes of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def test_a_picture_of_the_right_size_is_kept_to_the_pixel():
    pixels = noise(16, 16)
    np.testing.assert_array_equal(decode_picture(encoded(pixels), size=16, limits=LIMITS), pixels)


@pytest.mark.parametrize(
    ("form", "mode"),
    [(form, mode) for form in ("PNG", "WEBP", "GIF", "BMP", "TIFF") for mode in ("RGB", "L", "P", "1")]
    + [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "LA"), ("TIFF", "CMYK")],
)
def test_every_format_becomes_a_square(form: str, mode: str):
    found = decode_picture(encoded(noise(40, 60), form, mode), size=16, limits=LIMITS)
    assert found.shape == (16, 16, 3) and found.dtype == np.uint8


def test_the_middle_is_cut_out():
    pixels = np.zeros((8, 24, 3), dtype=np.uint8)
    pixels[:, 8:16] = noise(8, 8)
    np.testing.assert_array_equal(decode_picture(encoded(pixels), size=8, limits=LIMITS), pixels[:, 8:16])


def test_what_is_transparent_is_white():
    pixels = noise(8, 8, 4)
    pixels[:, :4, 3], pixels[:, 4:, 3] = 0, 255
    found = decode_picture(encoded(pixels), size=8, limits=LIMITS)
    assert (found[:, :4] == 255).all()
    np.testing.assert_array_equal(found[:, 4:], pixels[:, 4:, :3])


def test_sixteen_bits_of_grey_are_not_clipped():
    deep = (np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).astype(np.uint16)
    found = decode_picture(encoded(deep), size=8, limits=LIMITS)
    np.testing.assert_array_equal(found[..., 0], deep // 256)


def test_the_camera_was_held_sideways():
    pixels = noise(8, 8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    found = decode_picture(encoded(pixels, exif=exif), size=8, limits=LIMITS)
    np.testing.assert_array_equal(found, np.rot90(pixels, -1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"no picture at all", Reason.CORRUPT),
        (encoded(noise(64, 64))[:3000], Reason.CORRUPT),
        (encoded(noise(64, 64), "JPEG")[:300], Reason.CORRUPT),
        (encoded(noise(64, 64), "WEBP")[:300], Reason.CORRUPT),
        (encoded(noise(3, 64)), Reason.TOO_SMALL),
        (encoded(np.full((20, 20, 3), 9, dtype=np.uint8)), Reason.BLANK),
        (png_header(50_000, 50_000), Reason.OVERSIZED),
        (png_header(9_000, 9_000), Reason.OVERSIZED),
        (png_header(200, 200), Reason.CORRUPT),
    ],
    ids=lambda value: "data" if isinstance(value, bytes) else str(value),
)
def test_what_is_wrong_has_a_reason(data: bytes, reason: Reason):
    with pytest.raises(Rejected) as caught:
        decode_picture(data, size=16, limits=LIMITS)
    assert caught.value.reason is reason and caught.value.detail
    assert " at 0x" not in caught.value.detail  # it would differ between runs


def test_a_bomb_is_refused_by_its_header_alone(monkeypatch: pytest.MonkeyPatch):
    def load(self: PIL.ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", load)
    with pytest.raises(Rejected, match="9000 x 9000"):
        decode_picture(png_header(9_000, 9_000), size=16, limits=LIMITS)


def test_an_encoded_file_has_a_limit():
    with pytest.raises(Rejected, match="the limit is 10"):
        decode_picture(bytes(11), size=16, limits=Limits(max_bytes=10))
