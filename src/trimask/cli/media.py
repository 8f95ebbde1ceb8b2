"""Read the pictures, recordings and codes that a user gives."""

from pathlib import Path

import numpy as np
import PIL.Image
from jaxtyping import Float32, Int

from trimask.cli.console import say
from trimask.cli.failure import Failed
from trimask.errors import UserError
from trimask.generation.given import load_pixels, load_waveform


def read_image(path: Path, size: int) -> PIL.Image.Image:
    """Read the picture in `path`, cropped and resized as the model needs it, and print what was done.

    Raises:
        Failed: it is not a picture.
    """
    try:
        pixels = load_pixels(path, size)
    except UserError as error:
        raise Failed(f"{error}: give a PNG, JPEG or WebP file") from error
    say(f"{path}: the model gets the centre square at {size} x {size} pixels")
    return PIL.Image.fromarray(pixels)


def check_mask(mask: Path, picture: Path) -> None:
    """Check that a mask has the size of the picture, so that both are cropped alike.

    Raises:
        Failed: it has another, or one of the files is no picture.
    """
    sizes = []
    for path in (mask, picture):
        try:
            with PIL.Image.open(path) as opened:
                sizes.append(opened.size)
        except (OSError, ValueError, SyntaxError) as error:
            raise Failed(f"{path} is not a picture ({error}): give a PNG, JPEG or WebP file") from error
    if sizes[0] != sizes[1]:
        (width, height), (wanted_width, wanted_height) = sizes
        raise Failed(
            f"the mask {mask} has {width} x {height} pixels, and {picture} {wanted_width} x {wanted_height}: "
            "make them equal"
        )


def read_speech(path: Path, sample_rate: int) -> Float32[np.ndarray, "samples"]:
    """Read the recording in `path`, mixed down and resampled as the model needs it, and print what was done.

    Raises:
        Failed: it is not a recording.
    """
    try:
        waveform = load_waveform(path, sample_rate)
    except UserError as error:
        raise Failed(f"{error}: give a WAV, FLAC, Ogg or MP3 file") from error
    say(f"{path}: the model gets one channel at {sample_rate} Hz, {len(waveform) / sample_rate:.3g} s")
    return waveform


def read_codes(path: Path) -> Int[np.ndarray, "frames codebooks"]:
    """Read the codes in the .npy file `path`.

    Raises:
        Failed: it does not contain an integer array, frames × codebooks.
    """
    try:
        codes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise Failed(f"{path} is not an array of codes ({error}): save one with numpy.save") from error
    if not isinstance(codes, np.ndarray) or codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise Failed(f"{path} is not an array of codes: give a .npy file of integers, frames × codebooks")
    return codes
