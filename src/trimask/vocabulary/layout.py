"""The id space: special tokens first, then one contiguous range of ids per codebook of each modality.

    pad | a mask per modality, or one | a token per task | begin and close per modality | the ranges

A contiguous range per codebook lets the model compute logits over one range only: a position's modality and
codebook are always known, so normalizing over that range alone is exact [D].

Ids are data: a vocabulary stores the names of its special tokens, modalities and tasks in id order, and looks
them up by name, so that weights keep their meaning whatever is added to the package.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Int

from trimask.errors import UserError
from trimask.vocabulary.alignment import Even, TextAlignment
from trimask.vocabulary.axes import PictureAxes
from trimask.vocabulary.codebooks import CodebookLayout, Flattened
from trimask.vocabulary.task import TASKS, Task

_MOST_CODEBOOKS = 1024
_LARGEST = 1 << 24  # ids of a codebook
_LONGEST_SIDE = 4096  # cells
PAD, _MASK = "pad", "mask"
RESERVED = frozenset(
    ("is_complete", "text_file", "sample_rate", "filmstrip", "settings", "keys", "languages", "all")
)
"""Names that no modality may have: beside the names of modalities, samples described in JSON, prepared shards
and the losses of studies have these.
"""


class MaskTokens(enum.Enum):
    """The tokens that hide codes: one for each modality, which names what kind of code is to be predicted
    [D]; or one for all [L: MMaDA, arXiv 2505.15809], which leaves that to boundaries and positions.
    """

    PER_MODALITY = "per_modality"
    SHARED = "shared"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CodeSpace:
    """A modality's codes, as its tokenizer declares them.

    Attributes:
        name: of the modality.
        codebook_size: codes of each codebook.
        has_end: whether spans vary in length and close with an end code (text, speech); other spans have a
            known length.
        grid: (rows, columns) of a span that is a picture; None for a line.
        frame_rate: frames per second; None if frames are not time steps.

    Raises: UserError for a reserved name, sizes out of range, or a grid whose size varies.
    """

    name: str
    num_codebooks: int
    codebook_size: int
    has_end: bool
    grid: tuple[int, int] | None = None
    frame_rate: float | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise UserError(f"modality {self.name!r}: give a name of letters, digits and underscores")
        if self.name in RESERVED:
            raise UserError(
                f"modality {self.name!r}: trimask uses this name in its files, beside those of modalities: "
                "choose another"
            )
        for what, most in (("num_codebooks", _MOST_CODEBOOKS), ("codebook_size", _LARGEST)):
            if not 1 <= getattr(self, what) <= most:
                raise UserError(
                    f"{self.name}: {what} {getattr(self, what)} must be at least 1 and at most {most:,}"
                )
        if self.grid is not None and not all(1 <= side <= _LONGEST_SIDE for side in self.grid):
            raise UserError(f"{self.name}: grid {self.grid}, each side must be from 1 to {_LONGEST_SIDE:,}")
        if self.has_end and self.grid is not None:
            raise UserError(
                f"{self.name}: a span on the grid {self.grid} has a fixed size: set has_end to False"
            )
        if self.frame_rate is not None and not 1e-3 <= self.frame_rate <= 1e6:
            raise UserError(f"{self.name}: frame_rate {self.frame_rate} must be from 0.001 to 1,000,000")

    @property
    def range_size(self) -> int:
        """Number of ids of one codebook: its codes, and any end code."""
        return self.codebook_size + int(self.has_end)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRange:
    """The ids [start, stop) of one codebook; `index` numbers the ranges over all modalities."""

    index: int
    modality: str
    codebook: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


@final
@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """All token ids. The same rows always give the same ids.

    Attributes:
        spaces: the modalities, in the order of their ranges.
        tasks: in the order of their numbers in a batch.
        layouts: codebook layout by modality; `Flattened` by default.
        alignment: position of text relative to speech.
        picture_axes: rotary coordinates of spans on a grid.
        specials: names of the special tokens, in id order; by default all that the rows need, with a mask
            token per modality.

    Raises: UserError for duplicate names, a task with an unknown modality, or a missing special token.
    """

    spaces: tuple[CodeSpace, ...]
    tasks: tuple[Task, ...] = TASKS
    layouts: dict[str, CodebookLayout] = field(default_factory=dict)
    alignment: TextAlignment = Even()
    picture_axes: PictureAxes = PictureAxes.GRID
    specials: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_names("modality", self.modalities)
        _check_names("task", [task.name for task in self.tasks])
        for task in self.tasks:
            unknown = {name for spans in task.spans for name in spans} - set(self.modalities)
            if unknown:
                raise UserError(
                    f"task {task.name} has spans of {sorted(unknown)[0]}, and the modalities are "
                    f"{', '.join(self.modalities)}"
                )
        for name in self.layouts:
            self.space(name)
        tasks = [task.name for task in self.tasks]
        if not self.specials:
            object.__setattr__(self, "specials", special_names(self.modalities, tasks))
        masks = MaskTokens.SHARED if _MASK in self.specials else MaskTokens.PER_MODALITY
        needed = special_names(self.modalities, tasks, masks)
        _check_names("special token", self.specials)
        missing = [name for name in needed if name not in self.specials]
        if missing:
            raise UserError(f"the vocabulary has no special token {missing[0]}: it has {self.specials}")
        if self.specials[0] != PAD:
            raise UserError(f"the first special token is {self.specials[0]}: {PAD} must be, since rows are 0")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of their numbers."""
        return tuple(space.name for space in self.spaces)

    def space(self, modality: str) -> CodeSpace:
        return self.spaces[self.modality_number(modality)]

    def modality_number(self, modality: str) -> int:
        """UserError: there is no modality of this name."""
        return _place("modality", modality, self.modalities)

    def layout(self, modality: str) -> CodebookLayout:
        """Return the codebook layout of a modality."""
        return self.layouts.get(modality, Flattened())

    def task(self, name: str) -> Task:
        """Return the row of a task. UserError: there is no such task."""
        return self.tasks[self.task_number(name)]

    def task_number(self, name: str) -> int:
        return _place("task", name, [task.name for task in self.tasks])

    @property
    def pad(self) -> int:
        return self.special(PAD)

    def mask(self, modality: str) -> int:
        """Return the mask token of a modality, its own or the one of all (`MaskTokens`)."""
        return self.special(_MASK if _MASK in self._special_ids else f"{_MASK}:{modality}")

    def task_token(self, task: str) -> int:
        return self.special(f"task:{task}")

    def begin(self, modality: str) -> int:
        """Return the boundary token that opens a span [P: modality boundary tokens delimit spans]."""
        return self.special(f"begin:{modality}")

    def close(self, modality: str) -> int:
        """Return the boundary token that closes a span."""
        return self.special(f"close:{modality}")

    def special(self, name: str) -> int:
        """Return the id of a special token. UserError: there is no such token."""
        if name not in self._special_ids:
            raise UserError(f"the vocabulary has no special token {name}: it has {', '.join(self.specials)}")
        return self._special_ids[name]

    @cached_property
    def _special_ids(self) -> dict[str, int]:
        return {name: token for token, name in enumerate(self.specials)}

    @property
    def num_special(self) -> int:
        return len(self.specials)

    @cached_property
    def ranges(self) -> tuple[TokenRange, ...]:
        """Every codebook's range, in the order of the modalities, coarse codebook first."""
        ranges: list[TokenRange] = []
        start = self.num_special
        for space in self.spaces:
            for codebook in range(space.num_codebooks):
                stop = start + space.range_size
                ranges.append(
                    TokenRange(
                        index=len(ranges), modality=space.name, codebook=codebook, start=start, stop=stop
                    )
                )
                start = stop
        return tuple(ranges)

    def ranges_of(self, modality: str) -> tuple[TokenRange, ...]:
        return tuple(r for r in self.ranges if r.modality == modality)

    @cached_property
    def mask_of_range(self) -> Int[np.ndarray, "ranges"]:
        """Mask token id by range index."""
        return np.array([self.mask(r.modality) for r in self.ranges], dtype=np.int64)

    @cached_property
    def modality_of_range(self) -> Int[np.ndarray, "ranges"]:
        """Number of the modality by range index."""
        return np.array([self.modality_number(r.modality) for r in self.ranges], dtype=np.int64)

    @property
    def size(self) -> int:
        return self.ranges[-1].stop

    def tokens(
        self, modality: str, codes: Int[np.ndarray, "frames codebooks"], num_end: int = 0
    ) -> Int[np.ndarray, "span_frames codebooks"]:
        """Return the token ids of `codes`, followed by `num_end` frames of end tokens."""
        space = self.space(modality)
        if codes.ndim != 2 or codes.shape[1] != space.num_codebooks:
            raise UserError(
                f"{modality} codes have shape {codes.shape}: "
                f"expected (frames, {space.num_codebooks} codebooks)"
            )
        if codes.size and (codes.min() < 0 or codes.max() >= space.codebook_size):
            raise UserError(
                f"{modality} codes span [{codes.min()}, {codes.max()}]: "
                f"the codebook has {space.codebook_size} codes"
            )
        if num_end and not space.has_end:
            raise UserError(f"{modality} spans have a fixed length: num_end must be 0, not {num_end}")
        starts = np.array([r.start for r in self.ranges_of(modality)], dtype=np.int64)
        end = np.tile(starts + space.codebook_size, (num_end, 1))
        return np.concatenate([codes.astype(np.int64) + starts, end.astype(np.int64)])

    def codes(
        self, modality: str, tokens: Int[np.ndarray, "frames codebooks"]
    ) -> tuple[Int[np.ndarray, "content codebooks"], bool]:
        """Invert `tokens`: return the codes before the first end frame, and whether an end was found.

        A frame ends the span if any of its codebooks holds the end token; later frames are not content.
        """
        space = self.space(modality)
        starts = np.array([r.start for r in self.ranges_of(modality)], dtype=np.int64)
        codes = np.asarray(tokens, dtype=np.int64) - starts
        if codes.size and (codes.min() < 0 or codes.max() >= space.range_size):
            raise UserError(f"tokens outside the {modality} ranges (a mask or another modality's token)")
        if not space.has_end:
            return codes, True
        is_end = (codes == space.codebook_size).any(axis=1)
        if not is_end.any():
            return codes, False
        return codes[: int(is_end.argmax())], True


def special_names(
    modalities: Sequence[str], tasks: Iterable[str], masks: MaskTokens = MaskTokens.PER_MODALITY
) -> tuple[str, ...]:
    """Return the special tokens that these modalities and tasks need."""
    own = [f"{_MASK}:{name}" for name in modalities]
    return (
        PAD,
        *([_MASK] if masks is MaskTokens.SHARED else own),
        *(f"task:{name}" for name in tasks),
        *(f"begin:{name}" for name in modalities),
        *(f"close:{name}" for name in modalities),
    )


def _place(what: str, name: str, names: Sequence[str]) -> int:
    if name not in names:
        raise UserError(f"there is no {what} {name!r}: choose one of {', '.join(names)}")
    return list(names).index(name)


def _check_names(what: str, names: Sequence[str]) -> None:
    if not names:
        raise UserError(f"the vocabulary has no {what}: give at least one")
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise UserError(f"the vocabulary has {what} {twice} twice: each needs a name of its own")
