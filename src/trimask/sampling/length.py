"""Length rules: how many frames a span of variable length has.

A masked model fills a span of fixed size, and the end code says where the content ends in it. The document
plans that size. A rule may choose another one before anything is filled, and may continue a span that is full
and has no end code: what is filled then stays, and more frames follow.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from trimask.errors import UserError
from trimask.vocabulary.layout import CodeSpace

LONGEST_SPAN = 65_536
"""The most frames of a span: far beyond any training span, and still fits in memory."""
ReadEnds = Callable[[], Float64[np.ndarray, "frames"]]
"""Returns P(end code) at each frame of an all-masked span, the mean over its codebooks, without guidance and
filters; 0 at given frames. The first call takes a pass."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A target span of variable length, as length rules see it.

    Attributes:
        space: the modality.
        num_planned: the frames that the document had for it at first, from the length policy.
        num_frames: the frames that it has now.
        num_given: frames at its start that are given or filled already.
        others: frames of the other spans of its sequence, by modality.
    """

    space: CodeSpace
    num_planned: int
    num_frames: int
    num_given: int
    others: Mapping[str, int]


class LengthRule(ABC):
    """How many frames a span has. A rule is not asked about spans in which given frames follow masked ones:
    their size is known.
    """

    __slots__ = ()

    @abstractmethod
    def begin(self, span: Span, read_ends: ReadEnds) -> int:
        """Return the frames of a span before it is filled; numbers that leave nothing to fill are raised."""

    @abstractmethod
    def extend(self, span: Span) -> int:
        """Return the frames with which a span goes on that is full and has no end code; `span.num_frames`, or
        less, to leave it as it is. Called again whenever it is full.
        """


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Given(LengthRule):
    """As the document has it: from the length policy, or as the user says [D]."""

    def begin(self, span: Span, read_ends: ReadEnds) -> int:
        return span.num_planned

    def extend(self, span: Span) -> int:
        return span.num_frames


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted(LengthRule):
    """As the model says: end codes fill the rest of a span, so P(end code at frame i) of an all-masked span
    is the model's P(at most i frames of content). The span has room for the content, and its end code, with
    probability `quantile`, and at most the planned frames [D].

    It is the shortest from whose last frame on P(end) is at least `quantile`: a model's P(end) may fall
    again, above all at the end of passages that were cut in training.

    Raises: UserError unless 0 < quantile < 1.
    """

    quantile: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise UserError(f"Predicted.quantile is {self.quantile}: give a number above 0 and below 1")

    def begin(self, span: Span, read_ends: ReadEnds) -> int:
        is_below = read_ends() < self.quantile
        longest_below = int(is_below.nonzero()[0].max(initial=-1))
        return min(longest_below + 2, span.num_planned)

    def extend(self, span: Span) -> int:
        return span.num_frames


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Grown(LengthRule):
    """As `first` says, and a span that is full without an end code goes on by `share` of its planned frames
    at a time, up to `most` times the planned frames [D].

    Far beyond the spans of training a model may repeat itself, or never end.

    Raises: UserError unless share is above 0 and most at least 1.
    """

    first: LengthRule = Given()
    share: float = 0.5
    most: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.share < math.inf:
            raise UserError(f"Grown.share is {self.share}: give a number above 0")
        if not 1 <= self.most < math.inf:
            raise UserError(f"Grown.most is {self.most}: give a number of at least 1")

    def begin(self, span: Span, read_ends: ReadEnds) -> int:
        return self.first.begin(span, read_ends)

    def extend(self, span: Span) -> int:
        # Cut before they are rounded: a float may be too large for a whole number.
        longest = math.floor(min(self.most * span.num_planned, LONGEST_SPAN))
        return min(span.num_frames + math.ceil(min(self.share * span.num_planned, LONGEST_SPAN)), longest)
