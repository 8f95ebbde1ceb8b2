"""Decode untrusted recordings into mono samples at a tokenizer's rate.

Samples are scaled, mixed down and resampled in the same way for training data and for users' inputs.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from trimask.media.limits import Limits
from trimask.media.mp3 import min_decoded_samples
from trimask.media.quiet import quiet_libraries
from trimask.media.recording_links import split_recordings
from trimask.media.rejection import Reason, Rejected, first_line

SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd"}
)
_FORMATS = ("WAV", "WAVEX", "AIFF", "AU", "FLAC", "OGG", "MP3")
_MOST_SAMPLES = 64_000_000  # of all channels together: 256 MB
_HOT, _INTEGER = 16.0, 32768.0  # largest floats with full scale 1, and full scale of 16-bit integers
_OFFSET = 0.01  # −40 dB of full scale
_CANCELLED = 0.2  # share of the energy of uncorrelated channels below which they cancel
_SILENT = Limits().silence


def decode_recording(
    data: bytes, *, sample_rate: int, limits: Limits, stated_rate: object = None, num_characters: int = 0
) -> Float32[np.ndarray, "samples"]:
    """Decode a recording and apply `mix_down`; several recordings in one file are concatenated.

    Args:
        sample_rate: rate of the result in Hz.
        stated_rate: the rate in a column of the source, which must equal the header's; None if not stated.
        num_characters: length of the transcript, to reject impossible speaking rates.

    Returns:
        Mono samples in [-1, 1].

    Raises:
        Rejected: the recording is empty, incomplete, damaged, silent, or beyond the limits.
    """
    if not data:
        raise Rejected(Reason.EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise Rejected(Reason.OVERSIZED, f"{len(data)} bytes, the limit is {limits.max_bytes}")
    pieces, seconds = [], 0.0
    for link in split_recordings(data):
        with _reject_decoder_errors(link), soundfile.SoundFile(io.BytesIO(link)) as file:
            seconds += _check_header(file, limits, stated_rate, seconds)
            samples, rate = _read(file), file.samplerate
            if file.format == "MP3" and len(samples) < (least := min_decoded_samples(link)):
                raise Rejected(Reason.CORRUPT, f"damaged: only {len(samples)} of {least} samples decode")
        pieces.append(mix_down(samples, rate, sample_rate))
    _check_length(seconds, limits, num_characters)
    waveform = np.concatenate(pieces)
    peak = float(np.abs(waveform).max(initial=0))
    if not len(waveform):
        raise Rejected(Reason.EMPTY, f"too short for one sample at {sample_rate} Hz")
    if peak < limits.silence:
        raise Rejected(
            Reason.SILENT,
            f"its loudest sample is {peak:.2g} of full scale, the minimum is {limits.silence:g}",
        )
    return waveform


def mix_down(samples: np.ndarray, rate: int, sample_rate: int) -> Float32[np.ndarray, "resampled"]:
    """Convert samples to mono floats in [-1, 1] at `sample_rate` Hz.

    Nothing is clipped: floats up to 16 times full scale are scaled down; floats whose peak is between 128 and
    32,768 are taken as 16-bit integers and divided by 32,768; others are rejected. A constant offset above
    0.01 is removed. The channels that are not silent are averaged; if they cancel (one is the inverse of the
    other), the loudest is used.

    Args:
        samples: samples × channels, or mono; floats, or integers of any width.
        rate: rate of `samples` in Hz.

    Raises:
        Rejected: samples are not finite, or their full scale is unclear.
    """
    floats = _to_full_scale(samples if samples.ndim == 2 else samples[:, None])
    offset = floats.mean(axis=0)
    floats = floats - np.where(np.abs(offset) > _OFFSET, offset, 0).astype(np.float32)
    mono = _average_channels(floats)
    if rate != sample_rate:
        mono = resample(mono, rate, sample_rate)
    return (mono / max(1.0, float(np.abs(mono).max(initial=0)))).astype(np.float32)


def resample(
    waveform: Float32[np.ndarray, "samples"], before: int, after: int
) -> Float32[np.ndarray, "resampled"]:
    """Resample `waveform` from `before` to `after` samples per second."""
    if before == after or not len(waveform):
        return waveform
    return soxr.resample(waveform, before, after).astype(np.float32)


@contextmanager
def _reject_decoder_errors(link: bytes) -> Iterator[None]:
    """Convert exceptions of libsndfile to `Rejected`, and suppress what mpg123 prints."""
    try:
        with quiet_libraries() if link.startswith(b"\xff") else nullcontext():
            yield
    except Rejected:
        raise
    except MemoryError as error:
        raise Rejected(Reason.OVERSIZED, first_line(error)) from error
    except Exception as error:  # libsndfile's errors, and its wrapper's for unusual headers
        raise Rejected(Reason.CORRUPT, f"cut short or damaged: {first_line(error)}") from error


def _read(file: soundfile.SoundFile) -> Float32[np.ndarray, "samples channels"]:
    num_samples = file.frames
    samples = file.read(num_samples, dtype="float32", always_2d=True)
    if len(samples) < num_samples:
        raise Rejected(Reason.CORRUPT, f"cut short: it has {len(samples)} of {num_samples} samples")
    return samples


def _check_header(file: soundfile.SoundFile, limits: Limits, stated_rate: object, before: float) -> float:
    """Return the duration in seconds by the header; reject it if it is beyond the limits.

    Args:
        before: seconds of the earlier recordings in the same file.
    """
    rate, channels = file.samplerate, file.channels
    if file.format not in _FORMATS:
        raise Rejected(Reason.CORRUPT, f"{file.format} is not supported: save it as WAV or FLAC")
    if not limits.min_rate <= rate <= limits.max_rate:
        raise Rejected(
            Reason.SAMPLE_RATE,
            f"{rate} samples per second, the limits are {limits.min_rate} and {limits.max_rate}",
        )
    if stated_rate is not None and stated_rate != rate:
        raise Rejected(Reason.SAMPLE_RATE, f"{rate} Hz by its header, {stated_rate!r} in its column")
    if channels > limits.max_channels:
        raise Rejected(Reason.OVERSIZED, f"{channels} channels, the limit is {limits.max_channels}")
    if not file.frames:
        raise Rejected(Reason.EMPTY, "0 samples")
    seconds = file.frames / rate
    if before + seconds > limits.max_seconds:
        _reject_length(before + seconds, limits)
    if file.frames * channels > _MOST_SAMPLES:
        raise Rejected(
            Reason.OVERSIZED,
            f"{file.frames * channels} samples in all channels, the limit is {_MOST_SAMPLES}",
        )
    return seconds


def _check_length(seconds: float, limits: Limits, num_characters: int) -> None:
    if seconds < limits.min_seconds:
        _reject_length(seconds, limits)
    if num_characters > limits.max_characters_per_second * seconds:
        raise Rejected(
            Reason.SAMPLE_RATE,
            f"{num_characters} characters in {seconds:.4g} s is too fast for speech: the sample rate is "
            "wrong, or the transcript belongs to another recording",
        )


def _reject_length(seconds: float, limits: Limits) -> None:
    raise Rejected(
        Reason.DURATION,
        f"{seconds:.4g} s by its header, the limits are {limits.min_seconds:g} and {limits.max_seconds:g} s",
    )


def _to_full_scale(samples: np.ndarray) -> Float32[np.ndarray, "samples channels"]:
    """Convert samples to floats with full scale 1; their peak may be a little above."""
    if np.issubdtype(samples.dtype, np.integer):
        bounds = np.iinfo(samples.dtype)
        middle = 0 if bounds.min else (int(bounds.max) + 1) // 2
        return ((samples.astype(np.float64) - middle) / ((int(bounds.max) + 1) - middle)).astype(np.float32)
    if not np.isfinite(samples).all():
        raise Rejected(Reason.CORRUPT, "samples are not finite")
    peak = float(np.abs(samples).max(initial=0))
    if peak <= _HOT:
        return samples.astype(np.float32)
    if _INTEGER / 256 < peak <= _INTEGER:
        return (samples / _INTEGER).astype(np.float32)
    raise Rejected(
        Reason.RANGE,
        f"its loudest sample is {peak:.6g}, which fits neither full scale 1 nor {_INTEGER:.0f}: scale it to "
        "[-1, 1]",
    )


def _average_channels(samples: Float32[np.ndarray, "samples channels"]) -> Float32[np.ndarray, "samples"]:
    """Average the channels that are not silent, or return the loudest if they cancel."""
    peaks = np.abs(samples).max(axis=0, initial=0)
    heard = samples[:, peaks >= _SILENT] if (peaks >= _SILENT).any() else samples
    mono = heard.mean(axis=1, dtype=np.float32)
    energies = np.square(heard, dtype=np.float64).sum(axis=0)
    # The mean of n uncorrelated channels has 1/n of their mean energy.
    least = _CANCELLED / len(energies) * energies.mean()
    return heard[:, energies.argmax()] if np.square(mono, dtype=np.float64).sum() < least else mono
