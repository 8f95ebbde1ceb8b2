"""A recording is heard whole, scaled by a rule, or set aside: never half of it with all of its text."""

import struct

import numpy as np
import pytest
import soundfile

from odd_media import ENCODINGS, RATE, odd_sounds, sounded, tone, with_sizes, with_total
from trimask.media import mp3
from trimask.media.limits import Limits
from trimask.media.recording import decode_recording, mix_down
from trimask.media.recording_links import split_recordings
from trimask.media.rejection import Reason, Rejected

LIMITS = Limits()
ODD = odd_sounds()


def decode(data: bytes) -> np.ndarray:
    return decode_recording(data, sample_rate=RATE, limits=LIMITS)


def rejected(data: bytes) -> Rejected:
    with pytest.raises(Rejected) as caught:
        decode(data)
    return caught.value


@pytest.mark.parametrize("name", ODD)
def test_the_right_samples(name: str) -> None:
    data, right, tolerance = ODD[name]
    found = decode(data)
    assert len(found) == len(right) and found.dtype == np.float32
    assert np.abs(found - right).max() <= tolerance


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_what_is_cut_is_set_aside(name: str, part: float) -> None:
    data = sounded(tone(4.0), name)
    error = rejected(data[: int(len(data) * part)])
    assert error.reason is Reason.CORRUPT and "cut short" in error.detail


def test_the_end_may_be_missing_between_pages_or_frames() -> None:
    ogg = sounded(tone(), "opus")
    assert "cut short" in rejected(ogg[: ogg.rfind(b"OggS")]).detail
    first, second = (ogg.find(b"OggS", at) for at in (4, 200))
    assert "pages are missing" in rejected(ogg[:first] + ogg[second:]).detail
    flipped = bytearray(ogg)
    flipped[-40] ^= 1
    assert "is damaged" in rejected(bytes(flipped)).detail


def test_several_ogg_streams_at_once_are_refused() -> None:
    ogg = sounded(tone(), "opus")
    page = ogg.find(b"OggS", 4)
    assert "several interleaved streams" in rejected(ogg[:page] + ogg[:page] + ogg[page:]).detail


def test_counts_that_lie() -> None:
    flac = sounded(tone(), "flac")
    error = rejected(with_total(flac, 2**36 - 1))
    assert error.reason is Reason.CORRUPT and "32000 of 68719476735" in error.detail
    assert len(decode(with_total(flac, 100))) == 32_000
    wav = sounded(tone())
    assert "size in its header is wrong" in rejected(with_sizes(wav, 20_000, 20_036)).detail
    assert rejected(with_sizes(wav, 128_000, 128_036)).detail.startswith("cut short: it has 64000 of 128000")
    made = bytearray(sounded(tone(), "mp3"))
    place = made.find(b"Xing") + 8
    made[place : place + 4] = b"\x7f\xff\xff\xff"
    assert "of 2147483647 frames" in rejected(bytes(made)).detail
    made[place : place + 4] = struct.pack(">I", 10)
    assert abs(len(decode(bytes(made))) - 32_000) < 3000


def test_an_mp3_without_a_count() -> None:
    made = sounded(tone(), "mp3")
    plain = made[made.find(made[:2], 4) :]
    assert b"Xing" in made and b"Xing" not in plain
    assert abs(len(decode(plain)) - 32_000) < 3000
    assert abs(len(decode(plain * 2)) - 64_000) < 4000
    assert rejected(plain[:-20]).detail == "cut short within a frame"


def test_sound_that_is_no_sound() -> None:
    assert rejected(sounded(np.full(8000, 0.5))).reason is Reason.SILENT
    quiet = rejected(sounded(tone() * 1e-3))
    assert quiet.reason is Reason.SILENT and "the minimum is 0.001" in quiet.detail
    assert rejected(sounded(tone() * 70, "float.wav")).reason is Reason.RANGE
    assert rejected(sounded(tone() * 1e6, "float.wav")).reason is Reason.RANGE


def test_channels() -> None:
    one = tone()
    other = np.random.default_rng(0).normal(size=len(one)).astype(np.float32) * 0.1
    both = mix_down(np.stack([one, other], 1), RATE, RATE)
    np.testing.assert_allclose(both, (one + other) / 2, atol=1e-6)
    six = np.stack([one, one, other * 0, other, other, other], 1)
    np.testing.assert_allclose(mix_down(six, RATE, RATE), six.sum(1) / 5, atol=1e-6)
    loudest = mix_down(np.stack([0.5 * one, -0.52 * one], 1), RATE, RATE)
    np.testing.assert_allclose(loudest, -0.52 * one, atol=1e-6)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8, np.float64])
def test_samples_of_any_type(kind: type) -> None:
    one = tone()
    if kind is np.float64:
        given = one.astype(np.float64)
    elif kind is np.uint8:
        given = np.rint(one * 128 + 128).astype(np.uint8)
    else:
        given = np.rint(one * float(np.iinfo(kind).max)).astype(kind)
    np.testing.assert_allclose(mix_down(given, RATE, RATE), one, atol=0.005)


def test_nothing_is_clipped_by_the_resampler() -> None:
    square = np.sign(np.sin(np.arange(44_100) * 0.05)).astype(np.float32)
    made = mix_down(square, 44_100, RATE)
    assert np.abs(made).max() == 1 and (np.abs(made) > 0.999).mean() < 0.01


def test_many_recordings_in_one_file_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Rejected, match="more than 1000"):
        split_recordings(sounded(tone(0.001)) * 1001)
    assert "no MP3 frame" in rejected(b"ID3\3\0\0\0\0\0\0" * 10_000).detail
    monkeypatch.setattr(mp3, "_MOST_FRAMES", 500)
    assert "more than 500 frames" in rejected((b"\xff\xf3\x18\xc4" + bytes(32)) * 501).detail
    chunk = b"junk" + struct.pack("<I", 0)
    assert "chunks" in rejected(b"RIFF\0\0\0\0WAVE" + chunk * 2000).detail


def test_a_rate_and_channels_beyond_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = sounded(np.zeros((10_000_000, 8), dtype=np.int16), rate=384_000)
    limits = Limits(max_bytes=200_000_000)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *words, **options: pytest.fail("decoded"))
    with pytest.raises(Rejected, match="80000000 samples in all channels"):
        decode_recording(wide, sample_rate=RATE, limits=limits)
