"""Reads the embedded quickstart data. Pictures and audio are decoded only when asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from trimask.datasets.quickstart.emoji import decode_picture
from trimask.datasets.quickstart.splits import SPLITS
from trimask.datasets.quickstart.tables import ASSETS, read_table
from trimask.datasets.quickstart.voice import decode_opus
from trimask.errors import UserError


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedImage:
    """An emoji picture. `base` names the emoji that its variants share; splits never cut through a base."""

    hexcode: str
    base: str
    caption: str
    tags: tuple[str, ...]
    group: str
    encoded: bytes
    split: str

    def pixels(self) -> np.ndarray:
        """uint8 array of shape (64, 64, 3): RGB on white."""
        return decode_picture(self.encoded)

    @property
    def key(self) -> str:
        """Of no other picture."""
        return self.hexcode

    @property
    def concept(self) -> str:
        """What its variants share."""
        return self.base


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """A reading of `text`. `hexcode` and `base` name the picture of a caption; None for sentences."""

    id: str
    text: str
    kind: str
    base: str | None
    hexcode: str | None
    voice: str
    encoded: bytes
    sample_rate: int
    num_samples: int
    split: str

    @property
    def language(self) -> str:
        return "en"

    def waveform(self) -> np.ndarray:
        """float32 array of shape (num_samples,) in [-1, 1], at `sample_rate` Hz."""
        return decode_opus(self.encoded, self.num_samples)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """One State of the Union address."""

    id: str
    year: int
    president: str
    text: str
    split: str


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Triple:
    """A picture, its caption as spoken, and the reading: three views of one thing."""

    image: CaptionedImage
    caption: str
    speech: Utterance


def load_images(split: str | None = None, *, folder: Path = ASSETS) -> list[CaptionedImage]:
    """Pictures of one split (train, composition, validation, test) or of all; flags: group "flags"."""
    rows = read_table("images", _known(split), folder=folder)
    return [CaptionedImage(encoded=row.pop("image"), tags=tuple(row.pop("tags")), **row) for row in rows]


def load_speech(split: str | None = None, *, folder: Path = ASSETS) -> list[Utterance]:
    """Spoken captions and sentences of one split (train, validation, test) or of all."""
    return [
        Utterance(encoded=row.pop("audio"), **row)
        for row in read_table("speech", _known(split), folder=folder)
    ]


def load_text(split: str | None = None, *, folder: Path = ASSETS) -> list[Passage]:
    """Addresses of one split (train, validation, test; by year) or of all."""
    return [Passage(**row) for row in read_table("text", _known(split), folder=folder)]


def captions(split: str | None = None, *, folder: Path = ASSETS) -> list[str]:
    """Distinct image captions as written, in the order of the pictures."""
    return list(dict.fromkeys(image.caption for image in load_images(split, folder=folder)))


def triples(split: str | None = None, *, folder: Path = ASSETS) -> list[Triple]:
    """All pictures whose own caption is read aloud, with the reading. Tones and flags have none."""
    images = {image.hexcode: image for image in load_images(split, folder=folder)}
    spoken = [speech for speech in load_speech(split, folder=folder) if speech.hexcode in images]
    return [
        Triple(image=images[speech.hexcode], caption=speech.text, speech=speech)
        for speech in spoken
        if speech.hexcode
    ]


def _known(split: str | None) -> str | None:
    if split is not None and split not in SPLITS:
        raise UserError(f"unknown split {split!r}: choose from {', '.join(SPLITS)}, or None for all")
    return split
