"""Pictures and recordings that a user gives."""

from pathlib import Path

import numpy as np
import PIL.Image
from jaxtyping import Float32, Int

from trimask.cli.console import say
from trimask.cli.failure import Failed
from trimask.errors import UserError
from trimask.sampling.given import load_pixels, load_waveform


def read_image(path: Path, size: int) -> PIL.Image.Image:
    """The picture in `path` as the model sees it; says what that is. Failed if it is none."""
    try:
        pixels = load_pixels(path, size)
    except UserError as error:
        raise Failed(f"{error}: give a PNG, JPEG or WebP file") from error
    say(f"{path}: the model sees its middle square at {size} x {size}")
    return PIL.Image.fromarray(pixels)


def read_speech(path: Path, sample_rate: int) -> Float32[np.ndarray, "samples"]:
    """The recording in `path` as the model hears it; says what that is. Failed if it is none."""
    try:
        waveform = load_waveform(path, sample_rate)
    except UserError as error:
        raise Failed(f"{error}: give a WAV, FLAC, Ogg or MP3 file") from error
    say(f"{path}: the model hears one channel at {sample_rate} Hz, {len(waveform) / sample_rate:.3g} s")
    return waveform


def read_codes(path: Path) -> Int[np.ndarray, "frames codebooks"]:
    """The codes in the file `path`. Failed if it holds none."""
    try:
        codes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise Failed(f"{path} is no array of codes ({error}): save one with numpy.save") from error
    if not isinstance(codes, np.ndarray) or codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise Failed(f"{path} holds no codes: give integers, frames × codebooks, of a .npy file")
    return codes
