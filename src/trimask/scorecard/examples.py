"""What a scorecard is over: captioned pictures, recordings and passages, wherever they come from."""

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
    """A picture of which only the codes were kept: what the tokenizer makes of them."""

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
    """A recording of which only the codes were kept: what the tokenizer makes of them."""

    text: str
    voice: str
    language: str
    sample_rate: int
    codes: Int[np.ndarray, "frames codebooks"]
    decoded: Float32[np.ndarray, "samples"]

    def waveform(self) -> Float32[np.ndarray, "samples"]:
        return self.decoded


def image_input(row: Picture) -> Image.Image | Int[np.ndarray, "cells codebooks"]:
    """What a model is given of a picture: the codes where they were kept, so as not to code them twice."""
    return row.codes if isinstance(row, DecodedPicture) else Image.fromarray(row.pixels())


def speech_input(row: Recording, sample_rate: int) -> np.ndarray:
    """What a model is given of a recording: the codes where they were kept, else samples at its rate."""
    return row.codes if isinstance(row, DecodedRecording) else waveform_at(row, sample_rate)


class Examples(ABC):
    """What a model is scored on, in splits.

    Attributes:
        held_out: the split that stands for data that the model has not seen.
        tasks: (source, task) pairs that the model was trained on, in the order of the scorecard.
        passages: the source of free text.
        text_window: ids of a passage at most.
        reference: what stands for the real pictures and recordings, where it is not themselves.
    """

    held_out: HeldOut
    tasks: tuple[tuple[str, str], ...]
    passages: str
    text_window: int
    reference: str | None

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The training split first, the held-out one last."""

    @abstractmethod
    def sources(self, split: str) -> Mapping[str, ExampleSource]:
        """The tokenized sources of a split, or a part of them."""

    @abstractmethod
    def pictures(self, split: str, count: int) -> Sequence[Picture]:
        """Captioned pictures of a split: all, or `count` of them where that takes less."""

    @abstractmethod
    def recordings(self, split: str, count: int) -> Sequence[Recording]:
        """Recordings of a split: all, or `count` of them where that takes less."""

    @abstractmethod
    def texts(self, source: ExampleSource, count: int) -> list[str]:
        """`count` passages of a source of free text, or all."""

    @abstractmethod
    def training_words(self) -> set[str]:
        """Words of the training text, as `normalize_words` gives them."""

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """What the data is."""

    @abstractmethod
    def list_left_out(self) -> list[dict[str, str]]:
        """Scores that the data has nothing for, and why."""
