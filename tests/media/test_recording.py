"""Guarded decoding of recordings: the right samples, or the right reason."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from trimask.media.limits import Limits
from trimask.media.recording import decode_recording
from trimask.media.rejection import Reason, Rejected

LIMITS = Limits()
RATE = 16_000


def noise(seconds: float = 0.5, rate: int = RATE, channels: int = 1) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(round(seconds * rate), channels))
    return (0.1 * drawn).astype(np.float32)


def encoded(samples: np.ndarray, rate: int = RATE, form: str = "WAV", subtype: str | None = "FLOAT") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=form, subtype=subtype)
    return out.getvalue()


def decode(data: bytes, limits: Limits = LIMITS, **options: Any) -> np.ndarray:
    return decode_recording(data, sample_rate=RATE, limits=limits, **options)


def test_one_channel_at_the_right_rate_is_kept():
    samples = noise()
    np.testing.assert_array_equal(decode(encoded(samples)), samples[:, 0].clip(-1, 1))


def test_channels_are_averaged_and_the_rate_is_changed():
    samples = noise(rate=44_100, channels=2)
    expected = soxr.resample(samples.mean(axis=1), 44_100, RATE).clip(-1, 1)
    np.testing.assert_allclose(decode(encoded(samples, 44_100)), expected, atol=1e-6)


@pytest.mark.parametrize("form", ["FLAC", "OGG", "MP3", "AIFF"])
def test_other_formats(form: str):
    found = decode(encoded(noise(), form=form, subtype=None))
    assert found.dtype == np.float32 and abs(len(found) - RATE // 2) < 3000


def altered(data: bytes, at: int, form: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, at, value)
    return bytes(changed)


WAV = encoded(noise(), subtype="PCM_16")
NOT_FINITE = noise()
NOT_FINITE[100] = np.nan


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"RIFF no sound", Reason.CORRUPT),
        (encoded(noise(0)), Reason.EMPTY),
        (encoded(noise(0.01)), Reason.DURATION),
        (encoded(noise(31)), Reason.DURATION),
        (encoded(noise() * 1e-4), Reason.SILENT),
        (encoded(noise() * 0), Reason.SILENT),
        (encoded(NOT_FINITE), Reason.CORRUPT),
        (encoded(noise(channels=17)), Reason.OVERSIZED),
        (altered(WAV, 24, "<I", 1000), Reason.SAMPLE_RATE),
        (altered(WAV, 24, "<I", 2_000_000_000), Reason.SAMPLE_RATE),
        (encoded(noise(), form="FLAC", subtype=None)[:2000], Reason.CORRUPT),
    ],
    # A float WAV holds the time at which it was made: its bytes must not name the test.
    ids=lambda value: "data" if isinstance(value, bytes) else str(value),
)
def test_what_is_wrong_has_a_reason(data: bytes, reason: Reason):
    with pytest.raises(Rejected) as caught:
        decode(data)
    assert caught.value.reason is reason and caught.value.detail


def test_the_column_must_agree_with_the_header():
    assert len(decode(WAV, stated_rate=16_000))
    with pytest.raises(Rejected, match="16000 Hz by its header, 22050 in its column") as caught:
        decode(WAV, stated_rate=22_050)
    assert caught.value.reason is Reason.SAMPLE_RATE


def test_nobody_speaks_so_fast():
    assert len(decode(WAV, num_characters=15))
    with pytest.raises(Rejected, match=r"25 characters in 0.5 s") as caught:
        decode(WAV, num_characters=25)
    assert caught.value.reason is Reason.SAMPLE_RATE


def test_a_bomb_is_refused_by_its_header_alone(monkeypatch: pytest.MonkeyPatch):
    def read(*arguments: Any, **options: Any):
        raise AssertionError("decoded")

    hours = encoded(np.zeros((3600 * 8000, 1), dtype=np.int16), 8000, "FLAC", "PCM_16")
    assert len(hours) < 100_000
    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    with pytest.raises(Rejected, match="3600 s by its header"):
        decode(hours)
