"""Files cut anywhere, and with flipped bytes: decoded as the whole, or set aside; nothing else comes out."""

from functools import cache

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odd_media import ENCODINGS, RATE, coloured, odd_pictures, odd_sounds, saved, sounded, tone
from trimask.media.limits import Limits
from trimask.media.picture import decode_picture
from trimask.media.recording import decode_recording
from trimask.media.rejection import Rejected

LIMITS = Limits()
SLACK = 100  # samples of those that some writers count wrongly
PICTURES = {
    "png": {"form": "PNG"},
    "jpeg": {"form": "JPEG"},
    "progressive": {"form": "JPEG", "progressive": True},
    "webp": {"form": "WEBP"},
    "gif": {"form": "GIF"},
    "bmp": {"form": "BMP"},
    "tiff": {"form": "TIFF"},
    "tiff lzw": {"form": "TIFF", "compression": "tiff_lzw"},
    "tiff jpeg": {"form": "TIFF", "compression": "jpeg"},
    "avif": {"form": "AVIF"},
    "animated": {"form": "WEBP", "save_all": True, "append_images": [PIL.Image.new("RGB", (96, 96))]},
}
PLACES = st.integers(0, 2**32 - 1)
FLIPS = st.lists(st.tuples(PLACES, st.integers(1, 255)), min_size=1, max_size=6)


def flipped(data: bytes, flips: list[tuple[int, int]], reach: int) -> bytes:
    made = bytearray(data)
    for place, value in flips:
        made[place % min(reach, len(made))] ^= value
    return bytes(made)


def seen(data: bytes) -> np.ndarray | None:
    try:
        pixels = decode_picture(data, size=32, limits=LIMITS)
    except Rejected as error:
        assert error.detail
        return None
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8
    return pixels


def heard(data: bytes) -> np.ndarray | None:
    try:
        waveform = decode_recording(data, sample_rate=RATE, limits=LIMITS)
    except Rejected as error:
        assert error.detail
        return None
    assert waveform.ndim == 1 and waveform.dtype == np.float32 and np.isfinite(waveform).all()
    assert 0 < np.abs(waveform).max() <= 1 and len(waveform) <= LIMITS.max_seconds * RATE + 1
    return waveform


@cache
def picture(name: str) -> bytes:
    return saved(coloured(), **PICTURES[name])


@cache
def sound(name: str) -> bytes:
    return sounded(tone(0.5), name)


@pytest.mark.parametrize("name", PICTURES)
@given(place=PLACES)
def test_a_cut_picture(name: str, place: int) -> None:
    data = picture(name)
    found, whole = seen(data[: place % len(data)]), seen(data)
    assert whole is not None
    assert found is None or np.abs(found.astype(int) - whole).max() <= 2


@pytest.mark.parametrize("name", ENCODINGS)
@given(place=PLACES)
def test_a_cut_recording(name: str, place: int) -> None:
    data = sound(name)
    found, whole = heard(data[: place % len(data)]), heard(data)
    assert whole is not None
    assert found is None or len(found) >= len(whole) - SLACK


@pytest.mark.parametrize("name", PICTURES)
@given(flips=FLIPS, reach=st.sampled_from([60, 2**32]))
def test_a_damaged_picture(name: str, flips: list[tuple[int, int]], reach: int) -> None:
    seen(flipped(picture(name), flips, reach))


@pytest.mark.parametrize("name", ENCODINGS)
@given(flips=FLIPS, reach=st.sampled_from([60, 2**32]))
def test_a_damaged_recording(name: str, flips: list[tuple[int, int]], reach: int) -> None:
    heard(flipped(sound(name), flips, reach))


@given(data=st.data())
def test_damaged_odd_files(data: st.DataObject) -> None:
    name, flips = data.draw(st.sampled_from(sorted(ALL))), data.draw(FLIPS)
    (seen if name in ODD_PICTURES else heard)(flipped(ALL[name], flips, 2**32))


@pytest.mark.parametrize("name", ["ogg", "opus"])
@given(flips=FLIPS)
def test_a_sum_tells_each_flip(name: str, flips: list[tuple[int, int]]) -> None:
    made = flipped(sound(name), flips, 2**32)
    assert made == sound(name) or heard(made) is None


@given(
    data=st.binary(max_size=400), head=st.sampled_from([b"", b"\xff\xfb\x90\x64", b"fLaC", b"OggS", b"ID3"])
)
def test_noise(data: bytes, head: bytes) -> None:
    seen(head + data)
    heard(head + data)
    heard(b"RIFF\0\0\0\0WAVE" + data)
    heard(b"FORM\0\0\0\0AIFF" + data)
    seen(b"\x89PNG\r\n\x1a\n" + data)
    seen(b"\xff\xd8\xff" + data)
    seen(b"II*\0" + data)


ODD_PICTURES = {name: found[0] for name, found in odd_pictures().items()}
ALL = ODD_PICTURES | {name: found[0] for name, found in odd_sounds().items()}
