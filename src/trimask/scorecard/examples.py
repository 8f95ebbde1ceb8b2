"""The interface of a scorecard's examples: captioned pictures, recordings and text passages, in splits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float32, Int, UInt8
from PIL import Image

from trimask.data.source import ExampleSource
from trimask.media.encoded import Picture, Recording, waveform_at
from trimask.scorecard.suite import HeldOut


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DecodedPicture:
    """A picture stored as codes only, with the pixels that they decode to."""

    key: str
    concept: str
    caption: str
    codes: Int[np.ndarray, "cells codebooks"]
    decoded: UInt8[np.ndarray, "h w 3"]

    def pixels(self) -> UInt8[np.ndarray, "h w 3"]:
        return self.decoded


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DecodedRecording:
    """A recording stored as codes only, with the waveform that they decode to."""

    text: str
    voice: str
    language: str
    sample_rate: int
    codes: Int[np.ndarray, "frames codebooks"]
    decoded: Float32[np.ndarray, "samples"]

    def waveform(self) -> Float32[np.ndarray, "samples"]:
        return self.decoded


def image_input(row: Picture) -> Image.Image | Int[np.ndarray, "cells codebooks"]:
    """Return a picture as the model's input: its stored codes, so as not to encode twice, else the image."""
    return row.codes if isinstance(row, DecodedPicture) else Image.fromarray(row.pixels())


def speech_input(row: Recording, sample_rate: int) -> np.ndarray:
    """Return a recording as the model's input: its stored codes, else samples at `sample_rate`."""
    return row.codes if isinstance(row, DecodedRecording) else waveform_at(row, sample_rate)


class Examples(ABC):
    """Examples to score a model on, in splits.

    Attributes:
        held_out: the split used as unseen data.
        tasks: (source, task) pairs that the model was trained on, in the order of the scorecard.
        passages: name of the source of free text.
        text_window: maximum length of a passage, in ids.
        reference: a note on what real pictures and recordings are replaced by, if they are not available.
    """

    held_out: HeldOut
    tasks: tuple[tuple[str, str], ...]
    passages: str
    text_window: int
    reference: str | None

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Return the splits, the training split first, the held-out one last."""

    @abstractmethod
    def sources(self, split: str) -> Mapping[str, ExampleSource]:
        """Return the tokenized sources of a split, or a part of them, by name."""

    @abstractmethod
    def pictures(self, split: str, count: int) -> Sequence[Picture]:
        """Return captioned pictures of a split: all, or `count` of them if fewer are cheaper to load."""

    @abstractmethod
    def recordings(self, split: str, count: int) -> Sequence[Recording]:
        """Return recordings of a split: all, or `count` of them if fewer are cheaper to load."""

    @abstractmethod
    def texts(self, source: ExampleSource, count: int) -> list[str]:
        """Return up to `count` passages of a source of free text."""

    @abstractmethod
    def training_words(self) -> set[str]:
        """Return the words of the training text, normalized by `normalize_words`."""

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """Describe the data as JSON values."""

    @abstractmethod
    def list_left_out(self) -> list[dict[str, str]]:
        """List the scores that the data has no examples for, and why, as JSON values."""
