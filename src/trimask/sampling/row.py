"""A sequence while it is filled, and the report of each of its passes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Int

from trimask import rng
from trimask.sampling.canvas import Canvas, find_canvases
from trimask.sampling.config import SamplerConfig
from trimask.sampling.length import Given
from trimask.sampling.track import Track
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence, resize_spans


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Event:
    """What one pass did to one sequence.

    Attributes:
        row: the sequence's place in the request.
        number: its passes so far, from 1; 0 before the first.
        revealed, remasked: slots of the sequence as it is now: continuing a span moves those behind it.
        num_masked: slots that are still masked.
        tokens: returns the sequence, with mask tokens where slots are masked. Call it before the next pass.
    """

    row: int
    number: int
    revealed: Int[np.ndarray, "revealed"]
    remasked: Int[np.ndarray, "remasked"]
    num_masked: int
    tokens: Callable[[], Int[np.ndarray, "slots"]]


@final
class Row:
    """A sequence while it is filled.

    A span may be continued when it is full: then another row, the next `piece`, fills what it gained.
    `planned` are the frames that the spans had before any rule was asked, of spans whose length is for the
    rule to say.
    """

    def __init__(
        self,
        document: Sequence,
        vocabulary: Vocabulary,
        config: SamplerConfig,
        *,
        seed: int,
        key: int,
        place: int,
        planned: Mapping[str, int] | None = None,
        piece: int = 0,
        num_passes: int = 0,
    ):
        self.document, self.config, self.seed, self.key = document, config, seed, key
        self.place, self.piece, self.num_passes = place, piece, num_passes
        # Streams are numbered by step, and each piece begins with step 0: it must not see the same numbers.
        stream = rng.key(key, "piece", piece) if piece else key
        canvases = find_canvases(document, vocabulary, seed=seed, key=stream)
        self.planned = _find_planned(document, canvases, config) if planned is None else planned
        self.tracks = [Track(canvas=canvas, law=config) for canvas in canvases]
        self.has_condition = bool(document.is_condition.any())
        self.recompute = config.recompute

    @property
    def is_full(self) -> bool:
        return all(track.is_full for track in self.tracks)

    def resized(self, vocabulary: Vocabulary, num_frames: Mapping[str, int]) -> "Row":
        """Return this row, before its first pass, with spans of other lengths."""
        return self._with(resize_spans(vocabulary, self.document, num_frames), vocabulary, self.piece)

    def continued(
        self, vocabulary: Vocabulary, tokens: Int[np.ndarray, "slots"], num_frames: Mapping[str, int]
    ) -> "Row":
        """Return the row that fills the frames which spans of this one, filled with `tokens`, gain."""
        given = replace(self.document, tokens=tokens, maskable=np.zeros_like(self.document.maskable))
        return self._with(resize_spans(vocabulary, given, num_frames), vocabulary, self.piece + 1)

    def _with(self, document: Sequence, vocabulary: Vocabulary, piece: int) -> "Row":
        return Row(
            document,
            vocabulary,
            self.config,
            seed=self.seed,
            key=self.key,
            place=self.place,
            planned=self.planned,
            piece=piece,
            num_passes=self.num_passes,
        )


def _find_planned(document: Sequence, canvases: list[Canvas], config: SamplerConfig) -> Mapping[str, int]:
    """Return the frames of the spans of variable length, unless given frames follow what is to be filled."""
    if isinstance(config.length, Given):
        return {}
    found = {}
    for canvas in canvases:
        if canvas.space.has_end and not canvas.is_inside.any():
            start, stop = document.spans[canvas.modality]
            found[canvas.modality] = (stop - start) // canvas.space.num_codebooks
    return found
