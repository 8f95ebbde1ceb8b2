"""A sequence while it is filled, and the report of each of its passes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int

from trimask.sampling.canvas import find_canvases
from trimask.sampling.config import SamplerConfig
from trimask.sampling.track import Track
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Event:
    """What one pass did to one sequence.

    Attributes:
        row: the sequence's place in the request.
        number: its passes so far, from 1; 0 before the first.
        revealed, remasked: slots of the sequence.
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
    """A sequence while it is filled."""

    def __init__(
        self,
        document: Sequence,
        vocabulary: Vocabulary,
        config: SamplerConfig,
        *,
        seed: int,
        key: int,
        place: int,
    ):
        self.document, self.place, self.num_passes = document, place, 0
        canvases = find_canvases(document, vocabulary, seed=seed, key=key)
        self.tracks = [Track(canvas=canvas, law=config) for canvas in canvases]
        self.has_condition = bool(document.is_condition.any())
        self.recompute = config.recompute

    @property
    def is_full(self) -> bool:
        return all(track.is_full for track in self.tracks)
