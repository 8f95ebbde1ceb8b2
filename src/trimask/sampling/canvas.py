"""The slots that one sequence fills in one modality, as orders, counts and correctors see them."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Bool, Float64, Int

from trimask import rng
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import Sequence


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """The n slots to fill, in order of frames and then codebooks.

    Attributes:
        space: the modality.
        slot: index of each slot in the sequence.
        frame: frame (or cell of a picture, row by row) of each slot in its span, from 0. Given frames of a
            span that is only partly filled count too.
        codebook: of each slot, from 0.
        is_inside: whether given frames follow: an end code there would cut them off, and is never drawn.
        seed, key: name the random streams. The key belongs to the request, not to its place in a batch.
    """

    space: CodeSpace
    slot: Int[np.ndarray, "slots"]
    frame: Int[np.ndarray, "slots"]
    codebook: Int[np.ndarray, "slots"]
    is_inside: Bool[np.ndarray, "slots"]
    seed: int
    key: int

    def __post_init__(self) -> None:
        for array in (self.slot, self.frame, self.codebook, self.is_inside):
            array.flags.writeable = False  # a user's order that wrote to them would move what is filled

    @property
    def num_slots(self) -> int:
        return len(self.slot)

    @property
    def modality(self) -> str:
        return self.space.name

    def uniforms(
        self, name: str, step: int = 0, at: Int[np.ndarray, "some"] | None = None
    ) -> Float64[np.ndarray, "some"]:
        """Draw a uniform per slot (of the canvas, or at some places of it) from the stream `name` of step
        `step`: a function of (seed, key, name, step, slot) alone.
        """
        stream = rng.fold_index(rng.key(self.seed, "sample", name, step), self.key)
        return rng.uniform_at(stream, self.slot if at is None else self.slot[at])

    @cached_property
    def left(self) -> Int[np.ndarray, "slots"]:
        """Place on the canvas of the previous frame's slot of the same codebook; −1 if it is not to be
        filled."""
        places = {(int(f), int(c)): i for i, (f, c) in enumerate(zip(self.frame, self.codebook, strict=True))}
        pairs = zip(self.frame, self.codebook, strict=True)
        return np.array([places.get((int(f) - 1, int(c)), -1) for f, c in pairs], dtype=np.int64)


def find_canvases(sequence: Sequence, vocabulary: Vocabulary, *, seed: int, key: int) -> list[Canvas]:
    """Return a canvas for each modality that `sequence` has masked slots of, in order of its spans."""
    found = []
    for modality, (start, stop) in sequence.spans.items():
        slot = start + sequence.maskable[start:stop].nonzero()[0]
        if len(slot):
            num_codebooks = vocabulary.space(modality).num_codebooks
            frame, codebook = np.divmod(slot - start, num_codebooks)
            space = vocabulary.space(modality)
            given = (~sequence.maskable[start:stop]).nonzero()[0]
            is_inside = slot - start < (given[-1] if space.has_end and len(given) else 0)
            found.append(
                Canvas(
                    space=space,
                    slot=slot,
                    frame=frame,
                    codebook=codebook,
                    is_inside=is_inside,
                    seed=seed,
                    key=key,
                )
            )
    return found
