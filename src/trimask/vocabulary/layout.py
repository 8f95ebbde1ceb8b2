"""The id space: special tokens first, then one contiguous range of ids per codebook of each modality.

    pad | mask × 3 | task × 7 | begin × 3 | end-of-span × 3 | text codes + end | image codebooks | audio
    codebooks, each + end

A contiguous range per codebook lets the model compute logits over one range only: a position's modality
    and codebook are always
known, so normalizing over that range alone is exact [D].
"""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Int

from trimask.errors import UserError
from trimask.vocabulary.alignment import Even, TextAlignment
from trimask.vocabulary.codebooks import CodebookLayout, Flattened
from trimask.vocabulary.modality import Modality, Task


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CodeSpace:
    """One modality's codes: what its tokenizer declares, and how its codebooks are laid out.

    `has_end`: spans of this modality vary in length and close with an end code inside the span (text, audio).
    `grid`: (rows, columns) of a span that is a picture; None for a line.
    """

    num_codebooks: int
    codebook_size: int
    has_end: bool
    layout: CodebookLayout = Flattened()
    grid: tuple[int, int] | None = None

    @property
    def range_size(self) -> int:
        """Ids that one codebook takes: its codes, and its end code where the modality has one."""
        return self.codebook_size + int(self.has_end)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRange:
    """The ids [start, stop) of one codebook; `index` numbers the ranges over all modalities."""

    index: int
    modality: Modality
    codebook: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


_TASKS = tuple(Task)
_NUM_MODALITIES = len(Modality)


@final
@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """All token ids. Built from the tokenizers' geometry; the same numbers always give the same ids.

    Attributes:
        alignment: where text stands beside speech.
    """

    text: CodeSpace
    image: CodeSpace
    audio: CodeSpace
    alignment: TextAlignment = Even()

    def __post_init__(self) -> None:
        if self.image.grid is None or self.image.has_end:
            raise UserError(
                "the image code space needs a grid (rows, columns) and has_end=False: image size is fixed"
            )
        if self.image.grid[0] < 1 or self.image.grid[1] < 1:
            raise UserError(f"image grid {self.image.grid}: rows and columns must be at least 1")

    def space(self, modality: Modality) -> CodeSpace:
        return (self.text, self.image, self.audio)[modality]

    @property
    def pad(self) -> int:
        return 0

    def mask(self, modality: Modality) -> int:
        """The mask token of a modality: the model must know what kind of code to predict [D]."""
        return 1 + modality

    def task(self, task: Task) -> int:
        return 1 + _NUM_MODALITIES + _TASKS.index(task)

    def begin(self, modality: Modality) -> int:
        """Boundary token that opens a span [P: modality boundary tokens delimit spans]."""
        return 1 + _NUM_MODALITIES + len(_TASKS) + modality

    def close(self, modality: Modality) -> int:
        """Boundary token that closes a span."""
        return 1 + 2 * _NUM_MODALITIES + len(_TASKS) + modality

    @property
    def num_special(self) -> int:
        return 1 + 3 * _NUM_MODALITIES + len(_TASKS)

    @cached_property
    def ranges(self) -> tuple[TokenRange, ...]:
        """Every codebook's range, text first, then image and audio, coarse codebook first."""
        ranges: list[TokenRange] = []
        start = self.num_special
        for modality in Modality:
            for codebook in range(self.space(modality).num_codebooks):
                stop = start + self.space(modality).range_size
                ranges.append(
                    TokenRange(
                        index=len(ranges), modality=modality, codebook=codebook, start=start, stop=stop
                    )
                )
                start = stop
        return tuple(ranges)

    def ranges_of(self, modality: Modality) -> tuple[TokenRange, ...]:
        return tuple(r for r in self.ranges if r.modality == modality)

    @cached_property
    def mask_of_range(self) -> Int[np.ndarray, "ranges"]:
        """Mask token id by range index."""
        return np.array([self.mask(r.modality) for r in self.ranges], dtype=np.int64)

    @property
    def size(self) -> int:
        return self.ranges[-1].stop

    def tokens(
        self, modality: Modality, codes: Int[np.ndarray, "frames codebooks"], num_end: int = 0
    ) -> Int[np.ndarray, "span_frames codebooks"]:
        """Token ids of `codes`, followed by `num_end` frames of end tokens."""
        space = self.space(modality)
        if codes.ndim != 2 or codes.shape[1] != space.num_codebooks:
            raise UserError(
                f"{modality.name.lower()} codes have shape {codes.shape}: "
                f"expected (frames, {space.num_codebooks} codebooks)"
            )
        if codes.size and (codes.min() < 0 or codes.max() >= space.codebook_size):
            raise UserError(
                f"{modality.name.lower()} codes span [{codes.min()}, {codes.max()}]: "
                f"the codebook has {space.codebook_size} codes"
            )
        if num_end and not space.has_end:
            raise UserError(
                f"{modality.name.lower()} spans have a fixed length: num_end must be 0, not {num_end}"
            )
        starts = np.array([r.start for r in self.ranges_of(modality)], dtype=np.int64)
        end = np.tile(starts + space.codebook_size, (num_end, 1))
        return np.concatenate([codes.astype(np.int64) + starts, end.astype(np.int64)])

    def codes(
        self, modality: Modality, tokens: Int[np.ndarray, "frames codebooks"]
    ) -> tuple[Int[np.ndarray, "content codebooks"], bool]:
        """Inverse of `tokens`: the codes before the first end frame, and whether an end was found.

        A frame ends the span when any of its codebooks holds the end token; what comes after is not content.
        """
        space = self.space(modality)
        starts = np.array([r.start for r in self.ranges_of(modality)], dtype=np.int64)
        codes = np.asarray(tokens, dtype=np.int64) - starts
        if codes.size and (codes.min() < 0 or codes.max() >= space.range_size):
            raise UserError(
                f"tokens outside the {modality.name.lower()} ranges (a mask or another modality's token)"
            )
        if not space.has_end:
            return codes, True
        is_end = (codes == space.codebook_size).any(axis=1)
        if not is_end.any():
            return codes, False
        return codes[: int(is_end.argmax())], True
