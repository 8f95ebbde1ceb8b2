"""The quickstart data as a model's tokenizers take them: at their picture size and their sample rate."""

import numpy as np
import PIL.Image
from jaxtyping import Float32, UInt8

from trimask.data.quickstart import CaptionedImage, Utterance


def pixels_at(row: CaptionedImage, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The picture, resized to `size` pixels along each side."""
    pixels = row.pixels()
    if pixels.shape[:2] == (size, size):
        return pixels
    # As pictures that a user gives are resized.
    resized = PIL.Image.fromarray(pixels).resize((size, size), PIL.Image.Resampling.LANCZOS)
    return np.array(resized)


def waveform_at(row: Utterance, sample_rate: int) -> Float32[np.ndarray, "samples"]:
    """The reading, at `sample_rate` (Hz)."""
    return resample(row.waveform(), row.sample_rate, sample_rate)


def resample(
    waveform: Float32[np.ndarray, "samples"], before: int, after: int
) -> Float32[np.ndarray, "resampled"]:
    """`waveform` from `before` to `after` samples a second. ImportError where soxr is not installed."""
    if before == after or not len(waveform):
        return waveform
    try:
        import soxr
    except ImportError as error:
        raise ImportError(
            f"audio of {before} Hz is needed at {after} Hz, and soxr is not installed: "
            "pip install 'trimask[pretrained]'"
        ) from error
    return soxr.resample(waveform, before, after).astype(np.float32)
