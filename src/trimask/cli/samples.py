"""The files that samples become: none is written over another; each has beside it how to make it again."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, final

import numpy as np
import PIL.Image
import soundfile

from trimask.io import atomic_write
from trimask.sampling.generate import Generated
from trimask.vocabulary.task import MODALITIES


@final
class SampleFolder:
    """A folder that samples are written to."""

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
        """Write `result` as stem_K.{txt,png,wav}, codes of any other modality M as stem_K_M.npy, each file
        whole or not at all, and `made_with` beside them as stem_K.json; K is the next number that is free.
        Returns the files as JSON values.
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
        place = self._claim(stem, made_with, suffixes.values())
        # Appended, not `with_suffix`: a stem may hold dots.
        paths = {kind: place.with_name(f"{place.name}{suffix}") for kind, suffix in suffixes.items()}
        try:
            for kind, path in paths.items():
                with atomic_write(path) as temporary:
                    _write(kind, result, filmstrip, temporary)
        except BaseException as error:  # settings of what is not there would say that it is
            Path(f"{place}.json").unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno is not None:
                raise OSError(error.errno, error.strerror, f"{place}") from error
            raise
        written: dict[str, Any] = {kind: str(path) for kind, path in paths.items()}
        if result.sample_rate is not None:
            written["sample_rate"] = result.sample_rate
        return written | {"settings": f"{place}.json"}

    def _claim(self, stem: str, made_with: Mapping[str, Any], suffixes: Collection[str]) -> Path:
        """The next place that no file has; its JSON is written first, so that no other process takes it."""
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
    """One picture of several of one size."""
    width, height = images[0].size
    strip = PIL.Image.new("RGB", (width * len(images), height))
    for number, image in enumerate(images):
        strip.paste(image, (number * width, 0))
    return strip
