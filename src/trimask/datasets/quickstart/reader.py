"""Read the embedded quickstart data. Pictures and audio are decoded on access."""

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
    """An emoji picture. Variants share a `base`, and all pictures of a base are in one split, except that
    some are in `composition`.
    """

    hexcode: str
    base: str
    caption: str
    tags: tuple[str, ...]
    group: str
    encoded: bytes
    split: str

    def pixels(self) -> np.ndarray:
        """Decode to a uint8 array of shape (64, 64, 3): RGB on white."""
        return decode_picture(self.encoded)

    @property
    def key(self) -> str:
        """A unique name of the picture."""
        return self.hexcode

    @property
    def concept(self) -> str:
        """The name that its variants share."""
        return self.base


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """A recording of `text`. `hexcode` and `base` name the picture of a caption; None for sentences."""

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
        """Decode to a float32 array of shape (num_samples,) in [-1, 1], at `sample_rate` Hz."""
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
    """A picture, its caption as spoken, and the recording of it."""

    image: CaptionedImage
    caption: str
    speech: Utterance


def load_images(split: str | None = None, *, folder: Path = ASSETS) -> list[CaptionedImage]:
    """Load the pictures of one split (train, composition, validation, test), or of all."""
    rows = read_table("images", _check_split(split), folder=folder)
    return [CaptionedImage(encoded=row.pop("image"), tags=tuple(row.pop("tags")), **row) for row in rows]


def load_speech(split: str | None = None, *, folder: Path = ASSETS) -> list[Utterance]:
    """Load the spoken captions and sentences of one split (train, validation, test), or of all."""
    return [
        Utterance(encoded=row.pop("audio"), **row)
        for row in read_table("speech", _check_split(split), folder=folder)
    ]


def load_text(split: str | None = None, *, folder: Path = ASSETS) -> list[Passage]:
    """Load the addresses of one split (train, validation, test; split by year), or of all."""
    return [Passage(**row) for row in read_table("text", _check_split(split), folder=folder)]


def captions(split: str | None = None, *, folder: Path = ASSETS) -> list[str]:
    """Return the distinct image captions as written, in the order of the pictures."""
    return list(dict.fromkeys(image.caption for image in load_images(split, folder=folder)))


def triples(split: str | None = None, *, folder: Path = ASSETS) -> list[Triple]:
    """Return all pictures with a recording of their caption. Skin-tone variants and flags have none."""
    images = {image.hexcode: image for image in load_images(split, folder=folder)}
    spoken = [speech for speech in load_speech(split, folder=folder) if speech.hexcode in images]
    return [
        Triple(image=images[speech.hexcode], caption=speech.text, speech=speech)
        for speech in spoken
        if speech.hexcode
    ]


def _check_split(split: str | None) -> str | None:
    if split is not None and split not in SPLITS:
        raise UserError(f"unknown split {split!r}: choose from {', '.join(SPLITS)}, or None for all")
    return split
