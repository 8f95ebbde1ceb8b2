"""Pictures and recordings that a user gives, and the files that samples become."""

from pathlib import Path

import numpy as np
import PIL.Image
import soundfile
from jaxtyping import Float32

from trimask.cli.console import say
from trimask.cli.failure import Failed, UsageError


def read_image(path: Path, size: int) -> PIL.Image.Image:
    """The picture in `path`; says so when it will be resized to `size`."""
    try:
        with path.open("rb") as file:
            image = PIL.Image.open(file)
            image.load()
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise Failed(
            f"{path} cannot be read as a picture ({error}): give a PNG, JPEG or WebP file"
        ) from error
    if image.size != (size, size):
        say(f"{path} is {image.width} x {image.height}: resized to {size} x {size}, what the model sees")
    return image


def read_audio(path: Path, sample_rate: int) -> Float32[np.ndarray, "samples"]:
    """The recording in `path` as one channel.

    Raises:
        Failed: not a recording.
        UsageError: another sample rate, or nothing in it; with the mend.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise Failed(
            f"{path} cannot be read as a recording ({error}): give a WAV, FLAC or Ogg file"
        ) from error
    if rate != sample_rate:
        mend = f"ffmpeg -i {path} -ac 1 -ar {sample_rate} {path.stem}-{sample_rate}.wav"
        raise UsageError(
            f"{path} has {rate} samples a second, the model takes {sample_rate}: convert it: `{mend}`"
        )
    if not len(samples):
        raise UsageError(f"{path} is empty: give a recording of some speech")
    if samples.shape[1] > 1:
        say(f"{path} has {samples.shape[1]} channels: their mean is taken")
    return samples.mean(axis=1)
