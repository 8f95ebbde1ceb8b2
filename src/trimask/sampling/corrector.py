"""Correctors: revealed slots that are hidden again, or replaced, so that early mistakes can be repaired.

Only slots that were generated are corrected, never given ones.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from trimask.errors import UserError
from trimask.sampling.canvas import Canvas
from trimask.sampling.order import Step


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Revealed:
    """The slots of a canvas before a step, as a corrector sees them.

    Attributes:
        canvas: the slots.
        step: from t to s; `step.sigma` is the corrector's own.
        visible: generated slots that are revealed.
        log_probability: log p of each visible code when it was drawn, before filters; NaN elsewhere.
        score: the order's score of each masked slot; NaN elsewhere, and everywhere in a fixed order.
        num_masked_after: how many slots are masked after the step.
        now: returns log p of each visible code in the current prediction; NaN elsewhere.
    """

    canvas: Canvas
    step: Step
    visible: Bool[np.ndarray, "slots"]
    log_probability: Float64[np.ndarray, "slots"]
    score: Float64[np.ndarray, "slots"]
    num_masked_after: int
    now: Callable[[], Float64[np.ndarray, "slots"]]


class Corrector(ABC):
    """A subclass of `Remasking` or `Editing`."""

    __slots__ = ()
    rereads: ClassVar[bool] = False
    """Whether it needs the prediction at revealed slots, which costs their logits. Training shows a revealed
    token to the network and has no loss there, so what is predicted there is not trained."""


class Remasking(Corrector):
    """Hides revealed slots again; the count then reveals more of the others. Needs a count with steps."""

    __slots__ = ()
    needs_scores: ClassVar[bool] = False
    """Whether it compares with the order's scores of masked slots."""

    def sigma(self, t: float, s: float) -> float:
        """Return the probability with which a step from t to s hides a revealed slot, for the count
        `Ancestral`; 0 if it does not follow from the times."""
        return 0.0

    def shift(self, t: float, s: float) -> tuple[float, float]:
        """Return the times t and s at which the step is taken, if the corrector changes them."""
        return t, s

    @abstractmethod
    def choose(self, revealed: Revealed) -> Bool[np.ndarray, "slots"]:
        """Return the visible slots to hide. Not called in the last step."""


class Editing(Corrector):
    """Replaces revealed codes."""

    __slots__ = ()
    rereads: ClassVar[bool] = True

    @abstractmethod
    def edit(
        self, log_probabilities: Float[Tensor, "slots codes"], code: Int[Tensor, "slots"]
    ) -> Int[Tensor, "slots"]:
        """Return the codes of revealed slots, given log p there and their codes."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ReMDMCap(Remasking):
    """Hide each revealed slot with σ = min(cap, (1 − α_s) / α_t) (ReMDM, arXiv 2503.00307) [L].

    Raises: UserError unless 0 <= cap <= 1.
    """

    cap: float = 0.02

    def __post_init__(self) -> None:
        _check_share(self, "cap")

    def sigma(self, t: float, s: float) -> float:
        return min(self.cap, _limit(t, s))

    def choose(self, revealed: Revealed) -> Bool[np.ndarray, "slots"]:
        return _draw(revealed, np.full(len(revealed.visible), revealed.step.sigma))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ReMDMRescale(Remasking):
    """Hide each revealed slot with σ = scale · min(1, (1 − α_s) / α_t) (ReMDM) [L].

    Raises: UserError unless 0 <= scale <= 1.
    """

    scale: float = 0.1

    def __post_init__(self) -> None:
        _check_share(self, "scale")

    def sigma(self, t: float, s: float) -> float:
        return self.scale * _limit(t, s)

    def choose(self, revealed: Revealed) -> Bool[np.ndarray, "slots"]:
        return _draw(revealed, np.full(len(revealed.visible), revealed.step.sigma))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ReMDMConfidence(Remasking):
    """Hide revealed slot i with η_i · scale · min(1, (1 − α_s) / α_t), where η is the softmax of −p over the
    revealed slots and p the probability of the code when it was drawn (ReMDM) [L].

    At most one slot is hidden per step in expectation. The count `Ancestral` reveals as without a corrector,
    so the fraction of masked slots is not exactly that of the times.

    Raises: UserError unless 0 <= scale <= 1.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_share(self, "scale")

    def choose(self, revealed: Revealed) -> Bool[np.ndarray, "slots"]:
        weight = np.where(revealed.visible, np.exp(-np.exp(revealed.log_probability)), 0.0)
        share = weight / max(weight.sum(), 1e-300)
        return _draw(revealed, share * self.scale * _limit(revealed.step.t, revealed.step.s))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ReMDMLoop(Remasking):
    """Reveal without correction down to `level` masked, then hold there for a part of the steps, hiding and
    revealing slots, then reveal the rest (ReMDM's loop variant) [L].

    Times of the grid above `start` map linearly to [level, 1], times below `stop` to [0, level]; between
    them, every step goes from `level` to `level` with σ = min(cap, level / (1 − level)).

    Raises: UserError unless 0 < stop < start < 1, 0 < level < 1 and 0 <= cap <= 1.
    """

    start: float = 0.55
    stop: float = 0.05
    level: float = 0.1
    cap: float = 0.02

    def __post_init__(self) -> None:
        _check_share(self, "cap")
        if not 0 < self.stop < self.start < 1 or not 0 < self.level < 1:
            raise UserError(
                f"ReMDMLoop has start {self.start}, stop {self.stop}, level {self.level}: give 0 < stop < "
                "start < 1 and a level between 0 and 1"
            )

    def shift(self, t: float, s: float) -> tuple[float, float]:
        return self._held(t), self._held(s)

    def _held(self, t: float) -> float:
        if t >= self.start:
            return self.level + (1 - self.level) * (t - self.start) / (1 - self.start)
        return self.level * min(t / self.stop, 1.0)

    def sigma(self, t: float, s: float) -> float:
        return min(self.cap, _limit(t, s)) if t == s else 0.0

    def choose(self, revealed: Revealed) -> Bool[np.ndarray, "slots"]:
        return _draw(revealed, np.full(len(revealed.visible), revealed.step.sigma))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PathPlanning(Remasking):
    """Rank revealed and masked slots together, revealed ones by strength · log p of their code in the current
    prediction, masked ones by the order's score; the last ones are masked after the step (P2, arXiv
    2502.03540, self-planning) [L].

    A larger `strength` hides more; 0 hides nothing that a score below 0 could replace.

    Raises: UserError when the strength is negative or not finite.
    """

    strength: float = 1.0

    rereads: ClassVar[bool] = True
    needs_scores: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise UserError(f"PathPlanning.strength is {self.strength}: give a finite number of at least 0")

    def choose(self, revealed: Revealed) -> Bool[np.ndarray, "slots"]:
        score = np.where(revealed.visible, self.strength * revealed.now(), revealed.score)
        score[np.isnan(score)] = -math.inf  # masked slots of later blocks, which have no score, stay masked
        first = score.argsort(kind="stable")[: revealed.num_masked_after]
        is_masked = np.zeros_like(revealed.visible)
        is_masked[first] = True
        return is_masked & revealed.visible


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TokenEditing(Editing):
    """Replace a revealed code by the most probable one, where that has at least this probability (LLaDA 2.1)
    [L].

    Raises: UserError unless 0 < probability <= 1.
    """

    probability: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise UserError(
                f"TokenEditing.probability is {self.probability}: give a number above 0, at most 1"
            )

    def edit(
        self, log_probabilities: Float[Tensor, "slots codes"], code: Int[Tensor, "slots"]
    ) -> Int[Tensor, "slots"]:
        best, place = log_probabilities.max(1)
        return torch.where(best >= math.log(self.probability), place, code)


def _limit(t: float, s: float) -> float:
    """Return (1 − α_s) / α_t, at most 1: `diffusion.reverse.remask_limit` for numbers."""
    return min(1.0, s / (1 - t)) if t < 1 else 1.0


def _draw(revealed: Revealed, probability: Float64[np.ndarray, "slots"]) -> Bool[np.ndarray, "slots"]:
    uniforms = revealed.canvas.uniforms("remask", revealed.step.number)
    return revealed.visible & (uniforms < probability)


def _check_share(corrector: Corrector, name: str) -> None:
    value = getattr(corrector, name)
    if not 0 <= value <= 1:
        raise UserError(f"{type(corrector).__name__}.{name} is {value}: give a number from 0 to 1")
