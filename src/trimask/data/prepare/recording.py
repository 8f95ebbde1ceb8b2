"""Encoded recordings -> one channel at the tokenizer's rate, under guard."""

import io

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from trimask.data.prepare.options import Limits
from trimask.data.prepare.rejection import Reason, Rejected, first_line

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif"})


def decode_recording(
    data: bytes, *, sample_rate: int, limits: Limits, stated_rate: object = None, num_characters: int = 0
) -> Float32[np.ndarray, "samples"]:
    """The mean of the channels, resampled to `sample_rate` Hz, in [-1, 1].

    Args:
        stated_rate: what a column of the source says of the rate; it must be the header's.
        num_characters: of the transcript, which nobody can have spoken in less than its time.

    Raises:
        Rejected: with what is wrong with the recording.
    """
    if not data:
        raise Rejected(Reason.EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise Rejected(Reason.OVERSIZED, f"{len(data)} bytes, the limit is {limits.max_bytes}")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_header(file, limits, stated_rate, num_characters)
            num_samples, rate = file.frames, file.samplerate
            samples = file.read(num_samples, dtype="float32", always_2d=True)
    except Rejected:
        raise
    except Exception as error:  # libsndfile's errors, and what its wrapper makes of strange headers
        raise Rejected(Reason.CORRUPT, first_line(error)) from error
    if len(samples) < num_samples:
        raise Rejected(Reason.CORRUPT, f"cut short: {len(samples)} of {num_samples} samples are there")
    return _one_channel(samples, rate, sample_rate, limits)


def _check_header(
    file: soundfile.SoundFile, limits: Limits, stated_rate: object, num_characters: int
) -> None:
    rate, channels = file.samplerate, file.channels
    if not limits.min_rate <= rate <= limits.max_rate:
        raise Rejected(
            Reason.SAMPLE_RATE,
            f"{rate} samples a second, the limits are {limits.min_rate} and {limits.max_rate}",
        )
    if stated_rate is not None and stated_rate != rate:
        raise Rejected(Reason.SAMPLE_RATE, f"{rate} Hz by its header, {stated_rate!r} in its column")
    if channels > limits.max_channels:
        raise Rejected(Reason.OVERSIZED, f"{channels} channels, the limit is {limits.max_channels}")
    seconds = file.frames / rate
    if not file.frames:
        raise Rejected(Reason.EMPTY, "0 samples")
    if not limits.min_seconds <= seconds <= limits.max_seconds:
        raise Rejected(
            Reason.DURATION,
            f"{seconds:.4g} s by its header, not {limits.min_seconds:g} to {limits.max_seconds:g} s",
        )
    if num_characters > limits.max_characters_per_second * seconds:
        raise Rejected(
            Reason.SAMPLE_RATE,
            f"{num_characters} characters in {seconds:.4g} s: nobody speaks so fast, the rate is wrong "
            "or the transcript is another's",
        )


def _one_channel(
    samples: Float32[np.ndarray, "samples channels"], rate: int, sample_rate: int, limits: Limits
) -> Float32[np.ndarray, "resampled"]:
    if not np.isfinite(samples).all():
        raise Rejected(Reason.CORRUPT, "samples that are no finite numbers")
    mono = samples.mean(axis=1, dtype=np.float32)
    peak = float(np.abs(mono).max())
    if peak < limits.silence:
        raise Rejected(Reason.SILENT, f"its loudest sample is {peak:.2g}")
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
    if not len(mono):
        raise Rejected(Reason.EMPTY, f"no sample is left at {sample_rate} Hz")
    return np.clip(mono, -1, 1).astype(np.float32)
