"""Sample files: no file is overwritten, and a JSON file beside each sample says how to reproduce it. The
user's own code that it names is copied into the folder `modules` beside it.
"""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, final

import numpy as np
import PIL.Image
import soundfile

from trimask import io
from trimask.cli.console import say
from trimask.generation.generated import Generated
from trimask.vocabulary.task import MODALITIES


@final
class SampleFolder:
    """A folder to write samples to."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._next: dict[str, int] = {}

    def write(
        self,
        result: Generated,
        *,
        stem: str,
        made_with: Mapping[str, Any],
        filmstrip: Sequence[PIL.Image.Image] | None = None,
    ) -> dict[str, Any]:
        """Write `result`, each file atomically, and return the paths as JSON values.

        The files are stem_K.{txt,png,wav}, stem_K_M.npy for the codes of any other modality M, and
        stem_K.json for `made_with`; K is the next free number. Files of the user whose classes `made_with`
        names are copied to `modules`.
        """
        kinds = (
            ("text_file", ".txt", result.text),
            ("image", ".png", result.image),
            ("speech", ".wav", result.waveform),
            ("filmstrip", "_filmstrip.png", filmstrip),
            *(
                (name, f"_{name}.npy", codes)
                for name, codes in result.codes.items()
                if name not in MODALITIES
            ),
        )
        suffixes = {kind: suffix for kind, suffix, value in kinds if value is not None}
        for copy in io.keep_modules(made_with, self._out):
            say(f"wrote {copy}, the code that the samples were made with")
        place = self._claim(stem, made_with, suffixes.values())
        # Append instead of `with_suffix`: a stem may contain dots.
        paths = {kind: place.with_name(f"{place.name}{suffix}") for kind, suffix in suffixes.items()}
        try:
            for kind, path in paths.items():
                with io.atomic_write(path) as temporary:
                    _write(kind, result, filmstrip, temporary)
        except BaseException as error:  # remove the settings of a sample that was not written
            Path(f"{place}.json").unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno is not None:
                raise OSError(error.errno, error.strerror, f"{place}") from error
            raise
        written: dict[str, Any] = {kind: str(path) for kind, path in paths.items()}
        if result.sample_rate is not None:
            written["sample_rate"] = result.sample_rate
        return written | {"settings": f"{place}.json"}

    def _claim(self, stem: str, made_with: Mapping[str, Any], suffixes: Collection[str]) -> Path:
        """Find the next free number, and write its JSON file at once, so that no other process takes it."""
        text = json.dumps(made_with, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        content = text.encode("utf-8")
        self._out.mkdir(parents=True, exist_ok=True)
        for number in count(self._next.get(stem, 0)):
            place = self._out / f"{stem}_{number}"
            if any(os.path.lexists(f"{place}{suffix}") for suffix in suffixes):
                continue
            try:
                with Path(f"{place}.json").open("xb") as file:
                    file.write(content)
            except FileExistsError:
                continue
            self._next[stem] = number + 1
            return place
        raise AssertionError("numbers do not end")


def _write(kind: str, result: Generated, filmstrip: Sequence[PIL.Image.Image] | None, path: Path) -> None:
    if kind == "text_file":
        path.write_text(f"{result.text}\n", encoding="utf-8")
    elif kind == "image" and result.image is not None:
        result.image.save(path)
    elif kind == "speech" and result.waveform is not None and result.sample_rate is not None:
        soundfile.write(path, np.clip(result.waveform, -1, 1), result.sample_rate, subtype="PCM_16")
    elif kind in result.codes:
        np.save(path, result.codes[kind], allow_pickle=False)
    elif filmstrip is not None:
        join_side_by_side(filmstrip).save(path)


def join_side_by_side(images: Sequence[PIL.Image.Image]) -> PIL.Image.Image:
    """Join images of one size into one, from left to right."""
    width, height = images[0].size
    strip = PIL.Image.new("RGB", (width * len(images), height))
    for number, image in enumerate(images):
        strip.paste(image, (number * width, 0))
    return strip
