"""Pictures and recordings that a user gives, and the files that samples become."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import soundfile
from jaxtyping import Float32

from trimask.cli.console import say
from trimask.cli.failure import Failed
from trimask.io import atomic_write
from trimask.sampling.generate import Generated
from trimask.sampling.given import given_pixels, given_waveform


def read_image(path: Path, size: int) -> PIL.Image.Image:
    """The picture in `path` as the model sees it; says what that is. Failed if it is none."""
    try:
        pixels = given_pixels(path, size)
    except ValueError as error:
        raise Failed(f"{error}: give a PNG, JPEG or WebP file") from error
    say(f"{path}: the model sees its middle square at {size} x {size}")
    return PIL.Image.fromarray(pixels)


def read_audio(path: Path, sample_rate: int) -> Float32[np.ndarray, "samples"]:
    """The recording in `path` as the model hears it; says what that is. Failed if it is none."""
    try:
        waveform = given_waveform(path, sample_rate)
    except ValueError as error:
        raise Failed(f"{error}: give a WAV, FLAC, Ogg or MP3 file") from error
    say(f"{path}: the model hears one channel at {sample_rate} Hz, {len(waveform) / sample_rate:.3g} s")
    return waveform


def write_samples(
    results: Sequence[Generated],
    out: Path | None,
    *,
    stem: str,
    filmstrip: Sequence[PIL.Image.Image] | None = None,
) -> dict[str, Any]:
    """Write `results` as `out`/stem_k.{txt,png,wav}, each file whole or not at all, and describe them as JSON
    values: per sample its text and files, and all files.
    """
    samples = []
    for number, result in enumerate(results):
        described: dict[str, Any] = {"is_complete": result.is_complete}
        if result.text is not None:
            described["text"] = result.text
        if out is not None:
            described |= _write(result, out / f"{stem}_{number}")
        samples.append(described)
    files = [sample[kind] for sample in samples for kind in ("text_file", "image", "audio") if kind in sample]
    if filmstrip is not None and out is not None:
        path = out / f"{stem}_filmstrip.png"
        with atomic_write(path) as temporary:
            side_by_side(filmstrip).save(temporary)
        files.append(str(path))
        return {"samples": samples, "filmstrip": str(path), "files": files}
    return {"samples": samples, "files": files}


def side_by_side(images: Sequence[PIL.Image.Image]) -> PIL.Image.Image:
    """One picture of several of one size."""
    width, height = images[0].size
    strip = PIL.Image.new("RGB", (width * len(images), height))
    for number, image in enumerate(images):
        strip.paste(image, (number * width, 0))
    return strip


def _write(result: Generated, stem: Path) -> dict[str, Any]:
    # Appended, not `with_suffix`: a stem may hold dots.
    written: dict[str, Any] = {}
    if result.text is not None:
        path = stem.with_name(f"{stem.name}.txt")
        with atomic_write(path) as temporary:
            temporary.write_text(result.text + "\n", encoding="utf-8")
        written["text_file"] = str(path)
    if result.image is not None:
        path = stem.with_name(f"{stem.name}.png")
        with atomic_write(path) as temporary:
            result.image.save(temporary)
        written["image"] = str(path)
    if result.waveform is not None:
        assert result.sample_rate is not None
        path = stem.with_name(f"{stem.name}.wav")
        with atomic_write(path) as temporary:
            soundfile.write(temporary, np.clip(result.waveform, -1, 1), result.sample_rate, subtype="PCM_16")
        written |= {"audio": str(path), "sample_rate": result.sample_rate}
    return written
