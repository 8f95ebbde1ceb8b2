"""Classifier-free guidance: which predictions are mixed, and with what weights."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import TypeGuard, final

import numpy as np
from jaxtyping import Float64

from trimask.errors import UserError
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence, drop_conditions

_STRONGEST = 10_000


class GuidanceRamp(ABC):
    """The guidance strength as tokens are revealed."""

    __slots__ = ()

    @abstractmethod
    def scale(self, guidance_scale: float, revealed: float) -> float:
        """Return w for a sequence, given the fraction of its targets (of a modality) already revealed. Where
        w is 1 for all slots of a sequence, it costs no second pass.

        A further branch of weight v has the weight `scale(1 + v, revealed)` − 1. A guidance scale of 1 is
        none, and is not asked for.
        """


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ConstantGuidance(GuidanceRamp):
    """The full scale from the first step."""

    def scale(self, guidance_scale: float, revealed: float) -> float:
        return guidance_scale


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LinearGuidance(GuidanceRamp):
    """w = 1 + (guidance_scale - 1) · revealed: early guidance hurts (arXiv 2507.08965) [L]; the first step
    costs one pass."""

    def scale(self, guidance_scale: float, revealed: float) -> float:
        return 1 + (guidance_scale - 1) * revealed


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class IntervalGuidance(GuidanceRamp):
    """The scale of `ramp` while start <= revealed < stop, and no guidance, hence no second pass, outside
    (Kynkäänniemi et al., arXiv 2404.07724) [L].

    Raises: UserError unless 0 <= start < stop <= 1.
    """

    start: float = 0.0
    stop: float = 1.0
    ramp: GuidanceRamp = ConstantGuidance()

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= 1:
            raise UserError(
                f"IntervalGuidance goes from {self.start} to {self.stop}: give 0 <= start < stop <= 1"
            )

    def scale(self, guidance_scale: float, revealed: float) -> float:
        is_inside = self.start <= revealed < self.stop
        return self.ramp.scale(guidance_scale, revealed) if is_inside else 1.0


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Branch:
    """Another input for the same targets: a document with other conditions, and the weight of what is
    predicted from it. A negative weight leads away from its conditions.

    Raises: UserError for a weight that is not finite or too large for float32.
    """

    document: Sequence
    weight: float

    def __post_init__(self) -> None:
        check_weight(self.weight)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Guidance:
    """What guides a sequence beside its own conditions:

        log p = base + w · (own − base) + Σ_i w_i · (branch_i − base),    normalized,

    where w is the guidance scale, and `own` what is predicted from the sequence itself (classifier-free
    guidance, Ho & Salimans, arXiv 2207.12598; several conditions: Liu et al., arXiv 2206.01714) [L].

    Attributes:
        base: the document from which conditions lead away: one with a negative prompt, for example. None for
            the sequence with its conditions dropped.
        branches: further conditions.
    """

    base: Sequence | None = None
    branches: tuple[Branch, ...] = ()

    def documents(
        self, document: Sequence, vocabulary: Vocabulary, *, is_scaled: bool
    ) -> tuple[Sequence, ...]:
        """Return the documents that guide `document`: the base and those of the branches; none if nothing
        guides it.

        Args:
            is_scaled: whether any of its guidance scales differs from 1.

        Raises:
            UserError: one has other targets than `document`.
        """
        has_base = self.base is not None or bool(document.is_condition.any())
        if not self.branches and not (is_scaled and has_base):
            return ()
        base = drop_conditions(document, vocabulary) if self.base is None else self.base
        found = (base, *(branch.document for branch in self.branches))
        for each in found:
            _check_targets(document, each)
        return found


NO_GUIDANCE = Guidance()
"""By its own conditions alone."""


def _check_targets(document: Sequence, other: Sequence) -> None:
    """Raise UserError unless both have the same targets, given in part or not, wherever they stand."""
    if document.task == other.task and list(document.spans) == list(other.spans):
        pairs = [
            (slice(*document.spans[modality]), slice(*other.spans[modality]))
            for modality in document.task.targets_of(list(document.spans))
        ]
        is_equal = [
            np.array_equal(document.maskable[here], other.maskable[there])
            and np.array_equal(
                document.tokens[here][~document.maskable[here]], other.tokens[there][~other.maskable[there]]
            )
            for here, there in pairs
        ]
        if all(is_equal):
            return
    raise UserError(
        f"a document that guides a sequence of task {document.task.name} has other targets than it: make it "
        "from the sequence, with exchange_conditions or drop_conditions"
    )


def weigh(
    ramp: GuidanceRamp, guidance_scale: float, weights: Rows[float], revealed: float
) -> Float64[np.ndarray, "terms"]:
    """Return w and the weights of further branches for the next pass. A weight is 0 where the ramp gives no
    guidance. UserError if a user's ramp returns something else than a number.
    """
    own = 1.0 if guidance_scale == 1 else _scale(ramp, guidance_scale, revealed)
    return np.array([own, *(_scale(ramp, 1 + weight, revealed) - 1 for weight in weights)])


def _scale(ramp: GuidanceRamp, guidance_scale: float, revealed: float) -> float:
    scale: object = ramp.scale(guidance_scale, revealed)
    # One more than the largest scale: the weight of a branch comes as 1 + weight.
    if _is_number(scale) and abs(scale) <= _STRONGEST + 1:
        return float(scale)
    raise UserError(
        f"`scale` of the guidance ramp {ramp!r} returned {scale!r}: return a finite number, at most "
        f"{_STRONGEST:,}"
    )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value)


def check_guidance_scale(scale: float) -> None:
    """Raise UserError unless the scale is at least 0 and small enough for float32."""
    if not _is_number(scale) or not 0 <= scale <= _STRONGEST:
        raise UserError(
            f"guidance_scale is {scale!r}: give a finite number of at least 0 (1 is no guidance), at most "
            f"{_STRONGEST:,}"
        )


def check_weight(weight: float) -> None:
    """Raise UserError unless the weight of a further condition is finite and small enough for float32."""
    if not _is_number(weight) or not abs(weight) <= _STRONGEST:
        raise UserError(
            f"a further condition has the weight {weight}: give a number between -{_STRONGEST:,} and "
            f"{_STRONGEST:,}"
        )
