"""Recordings -> one channel at the tokenizer's rate, and the guard of encoded ones.

Scaled, mixed down and resampled here alone, for training data and for what a user gives.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from trimask.media.limits import Limits
from trimask.media.mp3 import least_samples
from trimask.media.quiet import quiet_libraries
from trimask.media.recording_links import links
from trimask.media.rejection import Reason, Rejected, first_line

SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd"}
)
_FORMATS = ("WAV", "WAVEX", "AIFF", "AU", "FLAC", "OGG", "MP3")
_MOST_SAMPLES = 64_000_000  # of all channels together: 256 MB
_HOT, _INTEGER = 16.0, 32768.0
_OFFSET = 0.01  # −40 dB of full scale
_CANCELLED = 0.2
_SILENT = Limits().silence


def decode_recording(
    data: bytes, *, sample_rate: int, limits: Limits, stated_rate: object = None, num_characters: int = 0
) -> Float32[np.ndarray, "samples"]:
    """Decode a recording and apply `mix_down`; several recordings in one file are concatenated.

    Args:
        stated_rate: what a column of the source says of the rate; it must be the header's.
        num_characters: of the transcript, which nobody can have spoken in less than its time.

    Raises:
        Rejected: with what is wrong with the recording, above all where it is not whole.
    """
    if not data:
        raise Rejected(Reason.EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise Rejected(Reason.OVERSIZED, f"{len(data)} bytes, the limit is {limits.max_bytes}")
    pieces, seconds = [], 0.0
    for link in links(data):
        with _guarded(link), soundfile.SoundFile(io.BytesIO(link)) as file:
            seconds += _check_header(file, limits, stated_rate, seconds)
            samples, rate = _read(file), file.samplerate
            if file.format == "MP3" and len(samples) < (least := least_samples(link)):
                raise Rejected(Reason.CORRUPT, f"damaged: {len(samples)} of {least} samples can be decoded")
        pieces.append(mix_down(samples, rate, sample_rate))
    _check_length(seconds, limits, num_characters)
    waveform = np.concatenate(pieces)
    peak = float(np.abs(waveform).max(initial=0))
    if not len(waveform):
        raise Rejected(Reason.EMPTY, f"no sample is left at {sample_rate} Hz")
    if peak < limits.silence:
        raise Rejected(
            Reason.SILENT, f"its loudest sample is {peak:.2g}, the least is {limits.silence:g} of full scale"
        )
    return waveform


def mix_down(samples: np.ndarray, rate: int, sample_rate: int) -> Float32[np.ndarray, "resampled"]:
    """What a tokenizer hears of a recording: float samples in [-1, 1], one channel, at `sample_rate` Hz.

    Never clipped: floats up to 16 times full scale are scaled down to it; floats between 128 and 32,768 are
    of the range of 16-bit integers, and divided by that; others are refused. A constant offset above 0.01 is
    taken away. The channels that are not silent are averaged; where they cancel (one is the other turned
    round), the loudest stands for all.

    Args:
        samples: samples × channels, or of one channel; floats, or integers of any width.

    Raises:
        Rejected: samples that are not finite, or whose range cannot be told.
    """
    floats = _full_scale(samples if samples.ndim == 2 else samples[:, None])
    offset = floats.mean(axis=0)
    floats = floats - np.where(np.abs(offset) > _OFFSET, offset, 0).astype(np.float32)
    mono = _mixed(floats)
    if rate != sample_rate:
        mono = resample(mono, rate, sample_rate)
    return (mono / max(1.0, float(np.abs(mono).max(initial=0)))).astype(np.float32)


def resample(
    waveform: Float32[np.ndarray, "samples"], before: int, after: int
) -> Float32[np.ndarray, "resampled"]:
    """`waveform` from `before` to `after` samples a second."""
    if before == after or not len(waveform):
        return waveform
    return soxr.resample(waveform, before, after).astype(np.float32)


@contextmanager
def _guarded(link: bytes) -> Iterator[None]:
    """Within this, whatever libsndfile raises is `Rejected`, and what mpg123 prints is not seen."""
    try:
        with quiet_libraries() if link.startswith(b"\xff") else nullcontext():
            yield
    except Rejected:
        raise
    except MemoryError as error:
        raise Rejected(Reason.OVERSIZED, first_line(error)) from error
    except Exception as error:  # libsndfile's errors, and what its wrapper makes of strange headers
        raise Rejected(Reason.CORRUPT, f"cut short or damaged: {first_line(error)}") from error


def _read(file: soundfile.SoundFile) -> Float32[np.ndarray, "samples channels"]:
    num_samples = file.frames
    samples = file.read(num_samples, dtype="float32", always_2d=True)
    if len(samples) < num_samples:
        raise Rejected(Reason.CORRUPT, f"cut short: {len(samples)} of {num_samples} samples are there")
    return samples


def _check_header(file: soundfile.SoundFile, limits: Limits, stated_rate: object, before: float) -> float:
    """The seconds that the header states; refuses what is not to be decoded after `before` seconds."""
    rate, channels = file.samplerate, file.channels
    if file.format not in _FORMATS:
        raise Rejected(Reason.CORRUPT, f"{file.format} is no format that is read here")
    if not limits.min_rate <= rate <= limits.max_rate:
        raise Rejected(
            Reason.SAMPLE_RATE,
            f"{rate} samples a second, the limits are {limits.min_rate} and {limits.max_rate}",
        )
    if stated_rate is not None and stated_rate != rate:
        raise Rejected(Reason.SAMPLE_RATE, f"{rate} Hz by its header, {stated_rate!r} in its column")
    if channels > limits.max_channels:
        raise Rejected(Reason.OVERSIZED, f"{channels} channels, the limit is {limits.max_channels}")
    if not file.frames:
        raise Rejected(Reason.EMPTY, "0 samples")
    seconds = file.frames / rate
    if before + seconds > limits.max_seconds:
        _refuse_length(before + seconds, limits)
    if file.frames * channels > _MOST_SAMPLES:
        raise Rejected(
            Reason.OVERSIZED,
            f"{file.frames * channels} samples in all channels, the limit is {_MOST_SAMPLES}",
        )
    return seconds


def _check_length(seconds: float, limits: Limits, num_characters: int) -> None:
    if seconds < limits.min_seconds:
        _refuse_length(seconds, limits)
    if num_characters > limits.max_characters_per_second * seconds:
        raise Rejected(
            Reason.SAMPLE_RATE,
            f"{num_characters} characters in {seconds:.4g} s: nobody speaks so fast, the rate is wrong "
            "or the transcript is another's",
        )


def _refuse_length(seconds: float, limits: Limits) -> None:
    raise Rejected(
        Reason.DURATION,
        f"{seconds:.4g} s by its header, not {limits.min_seconds:g} to {limits.max_seconds:g} s",
    )


def _full_scale(samples: np.ndarray) -> Float32[np.ndarray, "samples channels"]:
    """The samples as floats of which 1 is full scale, or little more."""
    if np.issubdtype(samples.dtype, np.integer):
        bounds = np.iinfo(samples.dtype)
        middle = 0 if bounds.min else (int(bounds.max) + 1) // 2
        return ((samples.astype(np.float64) - middle) / ((int(bounds.max) + 1) - middle)).astype(np.float32)
    if not np.isfinite(samples).all():
        raise Rejected(Reason.CORRUPT, "samples that are not finite")
    peak = float(np.abs(samples).max(initial=0))
    if peak <= _HOT:
        return samples.astype(np.float32)
    if _INTEGER / 256 < peak <= _INTEGER:
        return (samples / _INTEGER).astype(np.float32)
    raise Rejected(
        Reason.RANGE,
        f"its loudest sample is {peak:.6g}, and full scale neither 1 nor {_INTEGER:.0f}: scale it to [-1, 1]",
    )


def _mixed(samples: Float32[np.ndarray, "samples channels"]) -> Float32[np.ndarray, "samples"]:
    """The mean of the channels that are not silent, or the loudest where they cancel one another."""
    peaks = np.abs(samples).max(axis=0, initial=0)
    heard = samples[:, peaks >= _SILENT] if (peaks >= _SILENT).any() else samples
    mono = heard.mean(axis=1, dtype=np.float32)
    energies = np.square(heard, dtype=np.float64).sum(axis=0)
    # Channels that have nothing in common leave 1/n of their mean energy.
    least = _CANCELLED / len(energies) * energies.mean()
    return heard[:, energies.argmax()] if np.square(mono, dtype=np.float64).sum() < least else mono
