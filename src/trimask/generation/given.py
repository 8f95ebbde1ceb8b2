"""Read a user's pictures and recordings, processed as in training, for the tokenizers."""

from pathlib import Path

import numpy as np
import PIL.Image
from jaxtyping import Float32, UInt8

from trimask.errors import UserError
from trimask.media.limits import Limits
from trimask.media.picture import crop_square, read_picture, reject_decoder_errors
from trimask.media.recording import decode_recording, mix_down
from trimask.media.rejection import Rejected
from trimask.reading import find_problem

Encoded = str | Path | bytes
"""A file name or encoded bytes."""
# A picture that a user chose is accepted however small; the upper limits are the usual ones.
_LIMITS = Limits(min_side=1, min_seconds=1e-3, max_seconds=600.0, silence=0.0)


def load_pixels(picture: PIL.Image.Image | Encoded, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Read the middle square of a picture, as `crop_square` cuts it.

    Raises:
        UserError: the picture cannot be read; with the reason.
    """
    try:
        if isinstance(picture, PIL.Image.Image):
            if not (picture.width and picture.height):
                raise UserError(f"the picture has {picture.width} x {picture.height} pixels: give another")
            with reject_decoder_errors():
                return crop_square(picture, size, _LIMITS)
        return read_picture(_bytes(picture), size=size, limits=_LIMITS)
    except Rejected as error:
        raise UserError(f"{_name(picture, 'the picture')} cannot be read: {error.detail}") from error


def load_waveform(
    recording: np.ndarray | tuple[np.ndarray, int] | Encoded, sample_rate: int
) -> Float32[np.ndarray, "samples"]:
    """Read one channel of a recording at `sample_rate` Hz, as `mix_down` makes it.

    Args:
        recording: samples or samples × channels, with their rate in Hz or at `sample_rate`.

    Raises:
        UserError: the recording cannot be read or is empty; with the reason.
    """
    try:
        if isinstance(recording, Encoded):
            return decode_recording(_bytes(recording), sample_rate=sample_rate, limits=_LIMITS)
        samples, rate = recording if isinstance(recording, tuple) else (recording, sample_rate)
        _check_samples(samples, rate)
        waveform = mix_down(samples, int(rate), sample_rate)
    except Rejected as error:
        raise UserError(f"{_name(recording, 'the recording')} cannot be read: {error.detail}") from error
    if not len(waveform):
        raise UserError(f"{len(samples)} samples at {rate} Hz are too few at {sample_rate} Hz: give more")
    return waveform


def _check_samples(samples: np.ndarray, rate: int) -> None:
    is_rate = isinstance(rate, int | np.integer) and not isinstance(rate, bool)
    if not isinstance(samples, np.ndarray) or not is_rate:
        raise UserError(
            "speech is not a (waveform, rate) pair: give an array of samples and their rate in Hz"
        )
    if not 0 < rate <= _LIMITS.max_rate:
        raise UserError(f"speech has a rate of {rate} Hz: give one of up to {_LIMITS.max_rate}")
    is_numeric = samples.dtype.kind in "fiu"
    channels = samples.shape[1] if samples.ndim == 2 else 1
    if samples.ndim and not len(samples):
        raise UserError("speech has no samples: give a recording of some speech")
    is_shaped = samples.ndim in (1, 2) and 0 < channels <= min(_LIMITS.max_channels, len(samples))
    if not is_numeric or not is_shaped:
        raise UserError(
            f"speech has shape {samples.shape} of {samples.dtype}: give samples, or samples × channels"
        )
    if len(samples) > rate * _LIMITS.max_seconds:
        raise UserError(
            f"speech lasts {len(samples) / rate:.0f} s at {rate} Hz: give at most {_LIMITS.max_seconds:.0f} s"
        )


def _bytes(file: Encoded) -> bytes:
    if isinstance(file, bytes):
        return file
    path = Path(file)
    problem = find_problem(path)
    if problem is not None:
        raise UserError(f"{path} {problem}")
    try:
        if path.stat().st_size > _LIMITS.max_bytes:
            raise UserError(f"{path} has {path.stat().st_size} bytes, the limit is {_LIMITS.max_bytes}")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _name(given: object, otherwise: str) -> str:
    return str(given) if isinstance(given, str | Path) else otherwise
