"""A sequence while it is filled, and the report of each of its passes."""

from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int

from trimask.sampling.canvas import find_canvases
from trimask.sampling.config import SamplerConfig
from trimask.sampling.guidance import NO_GUIDANCE, Guidance
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
    """A sequence while it is filled.

    `branches` are the documents that guide it, its base and further ones, and `weights` those of the further
    ones. Without branches it is not guided.
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
        guidance: Guidance = NO_GUIDANCE,
    ):
        for modality in config.targets:
            vocabulary.modality_number(modality)  # raises UserError if there is none of this name
        self.document, self.place, self.num_passes = document, place, 0
        canvases = find_canvases(document, vocabulary, seed=seed, key=key)
        self.tracks = [Track(canvas=canvas, law=config.of_target(canvas.modality)) for canvas in canvases]
        self.branches = guidance.documents(document, vocabulary, is_scaled=config.is_guided)
        self.weights = tuple(branch.weight for branch in guidance.branches)
        self.recompute = config.recompute

    @property
    def is_full(self) -> bool:
        return all(track.is_full for track in self.tracks)


def make_rows(
    vocabulary: Vocabulary,
    documents: Rows[Sequence],
    config: SamplerConfig,
    *,
    seed: int,
    keys: Rows[int] | None = None,
    guidance: Rows[Guidance] | None = None,
) -> list[Row]:
    """Make a row of each document; by default the keys are their places, and nothing but their own conditions
    guides them.
    """
    keys = range(len(documents)) if keys is None else keys
    guidance = [NO_GUIDANCE] * len(documents) if guidance is None else guidance
    return [
        Row(document, vocabulary, config, seed=seed, key=key, place=place, guidance=guided_by)
        for place, (document, key, guided_by) in enumerate(zip(documents, keys, guidance, strict=True))
    ]
