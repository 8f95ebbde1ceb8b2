"""A sequence while it is filled, and the report of each of its passes."""

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Rows
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float32, Int

from trimask import rng
from trimask.sampling.canvas import Canvas, find_canvases
from trimask.sampling.config import SamplerConfig
from trimask.sampling.guidance import NO_GUIDANCE, Branch, Guidance
from trimask.sampling.length import Given
from trimask.sampling.track import Track
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence, resize_spans, take_targets


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Event:
    """What one pass did to one sequence.

    Attributes:
        row: the sequence's place in the request.
        number: its passes so far, from 1; 0 before the first.
        revealed, remasked: slots of the sequence as it is now: continuing a span moves those behind it.
        edited: revealed slots whose code a corrector has replaced.
        num_masked: slots that are still masked.
        tokens: returns the sequence, with mask tokens where slots are masked. Call it before the next pass.
        log_probability: returns log p of each code that the pass put into the sequence, at its slot, and NaN
            at all others: p is what the pass predicts, with guidance and before filters. Call it before the
            next pass.
    """

    row: int
    number: int
    revealed: Int[np.ndarray, "revealed"]
    remasked: Int[np.ndarray, "remasked"]
    edited: Int[np.ndarray, "edited"]
    num_masked: int
    tokens: Callable[[], Int[np.ndarray, "slots"]]
    log_probability: Callable[[], Float32[np.ndarray, "slots"]]


@final
class Row:
    """A sequence while it is filled.

    A span may be continued when it is full: then another row, the next `piece`, fills what it gained.
    `planned` are the frames that the spans had before any rule was asked, of spans whose length is for the
    rule to say.

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
        planned: Mapping[str, int] | None = None,
        piece: int = 0,
        num_passes: int = 0,
    ):
        for modality in config.targets:
            vocabulary.modality_number(modality)  # raises UserError if there is none of this name
        self.document, self.config, self.seed, self.key = document, config, seed, key
        self.place, self.piece, self.num_passes = place, piece, num_passes
        # Streams are numbered by step, and each piece begins with step 0: it must not see the same numbers.
        stream = rng.key(key, "piece", piece) if piece else key
        canvases = find_canvases(document, vocabulary, seed=seed, key=stream)
        self.planned = _find_planned(document, canvases, config) if planned is None else planned
        self.tracks = [Track(canvas=canvas, law=config.of_target(canvas.modality)) for canvas in canvases]
        self.guidance = guidance
        self.branches = guidance.documents(document, vocabulary, is_scaled=config.is_guided)
        self.weights = tuple(branch.weight for branch in guidance.branches)
        self.recompute = config.recompute

    @property
    def is_full(self) -> bool:
        return all(track.is_full for track in self.tracks)

    def resized(self, vocabulary: Vocabulary, num_frames: Mapping[str, int]) -> "Row":
        """Return this row, before its first pass, with spans of other lengths."""
        return self._with(self.document, num_frames, vocabulary, self.piece)

    def continued(
        self, vocabulary: Vocabulary, tokens: Int[np.ndarray, "slots"], num_frames: Mapping[str, int]
    ) -> "Row":
        """Return the row that fills the frames which spans of this one, filled with `tokens`, gain."""
        given = replace(self.document, tokens=tokens, maskable=np.zeros_like(self.document.maskable))
        return self._with(given, num_frames, vocabulary, self.piece + 1)

    def _with(
        self, document: Sequence, num_frames: Mapping[str, int], vocabulary: Vocabulary, piece: int
    ) -> "Row":
        def resize(guide: Sequence) -> Sequence:
            return resize_spans(vocabulary, take_targets(guide, document), num_frames)

        base, branches = self.guidance.base, self.guidance.branches
        return Row(
            resize_spans(vocabulary, document, num_frames),
            vocabulary,
            self.config,
            seed=self.seed,
            key=self.key,
            place=self.place,
            guidance=Guidance(
                base=None if base is None else resize(base),
                branches=tuple(Branch(document=resize(b.document), weight=b.weight) for b in branches),
            ),
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
