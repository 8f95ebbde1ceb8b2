"""Counts: how many masked slots a step reveals.

A `PlannedCount` says it before the prediction, from the times of a grid; an `AdaptiveCount` looks at the
predicted distributions. Which slots they are, the order says (`trimask.sampling.order`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from trimask.errors import UserError
from trimask.sampling.canvas import Canvas
from trimask.sampling.order import Step, entropy


class Count(ABC):
    """How many masked slots a step reveals: a subclass of `PlannedCount` or `AdaptiveCount`."""

    __slots__ = ()
    # All counts are dataclasses; their base class may not be.
    has_steps: ClassVar[bool] = False
    """Whether the sampler's `num_steps` and `grid` set its times."""


class PlannedCount(Count):
    """A count that does not depend on the prediction."""

    __slots__ = ()

    @abstractmethod
    def times(
        self, canvas: Canvas, grid: Float64[np.ndarray, "times"] | None
    ) -> Float64[np.ndarray, "times"]:
        """Return the times between steps, decreasing from 1: the expected fraction of masked slots.

        Args:
            grid: the times of the sampler's grid; None unless `has_steps`.
        """

    @abstractmethod
    def number(self, canvas: Canvas, num_masked: int, num_remasked: int, step: Step) -> int:
        """Return how many of `num_masked` slots the step reveals, while the corrector hides `num_remasked`
        others. Numbers out of range are cut; a step to s = 0 must return `num_masked`."""


class AdaptiveCount(Count):
    """A count that depends on the predicted distributions.

    Attributes:
        num_passes: number of passes that `accept` looks back on, the current one included.
        compares: whether `measure` needs the distributions of the previous pass.
    """

    __slots__ = ()
    num_passes: ClassVar[int] = 1
    compares: ClassVar[bool] = False

    @abstractmethod
    def measure(
        self,
        log_probabilities: Float[Tensor, "slots codes"],
        previous: Float[Tensor, "slots codes"] | None,
    ) -> Float[Tensor, "slots features"]:
        """Return what `accept` needs to know of each slot, from log p after guidance and before filters.

        Args:
            previous: log p of the same slots in the previous pass, NaN where they were not predicted; None
                unless `compares`.
        """

    @abstractmethod
    def accept(self, history: Sequence[Float64[np.ndarray, "slots features"]]) -> Bool[np.ndarray, "slots"]:
        """Return which slots to reveal. If none is accepted, the first is revealed.

        Args:
            history: measures of the masked slots of one sequence in their order, first slot first; of the
                current pass, then of earlier ones (NaN where a slot was not measured), `num_passes` in all.
        """


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Scheduled(PlannedCount):
    """Reveal so many slots that round(n · s) of n stay masked at time s (MaskGIT) [L]."""

    has_steps: ClassVar[bool] = True

    def times(
        self, canvas: Canvas, grid: Float64[np.ndarray, "times"] | None
    ) -> Float64[np.ndarray, "times"]:
        assert grid is not None
        return grid

    def number(self, canvas: Canvas, num_masked: int, num_remasked: int, step: Step) -> int:
        return num_masked + num_remasked - int(np.rint(canvas.num_slots * step.s))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Ancestral(PlannedCount):
    """Reveal each masked slot independently with probability (t − s + σ · (1 − t)) / t; σ is the corrector's,
    0 without one (MDLM, ReMDM) [L]. In random order, the exact reverse process.
    """

    has_steps: ClassVar[bool] = True

    def times(
        self, canvas: Canvas, grid: Float64[np.ndarray, "times"] | None
    ) -> Float64[np.ndarray, "times"]:
        assert grid is not None
        return grid

    def number(self, canvas: Canvas, num_masked: int, num_remasked: int, step: Step) -> int:
        # `diffusion.reverse.remask_probabilities` for numbers: tensors would take longer than all the rest.
        probability = (step.t - step.s + step.sigma * (1 - step.t)) / step.t
        uniforms = canvas.uniforms("count", step.number, np.arange(num_masked))
        return int((uniforms < probability).sum())


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class FirstHitting(PlannedCount):
    """Reveal one slot per pass, at the time at which the reverse process would reveal its next one: the exact
    law of infinitely many steps, without passes that reveal nothing (Zheng et al., arXiv 2409.02908) [L].

    The times of n slots are n uniforms in decreasing order: t ← t · u^(1/n) in each step.
    """

    def times(
        self, canvas: Canvas, grid: Float64[np.ndarray, "times"] | None
    ) -> Float64[np.ndarray, "times"]:
        return np.concatenate([[1.0], np.sort(canvas.uniforms("hitting"))[::-1]])

    def number(self, canvas: Canvas, num_masked: int, num_remasked: int, step: Step) -> int:
        return 1


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold(AdaptiveCount):
    """Reveal all slots whose most probable code has at least this probability (Fast-dLLM, arXiv 2505.22618)
    [L].

    Raises: UserError unless 0 < probability <= 1.
    """

    probability: float = 0.9

    def __post_init__(self) -> None:
        _check_range(self, "probability", 1.0)

    def measure(
        self,
        log_probabilities: Float[Tensor, "slots codes"],
        previous: Float[Tensor, "slots codes"] | None,
    ) -> Float[Tensor, "slots features"]:
        return _largest_probability(log_probabilities)

    def accept(self, history: Sequence[Float64[np.ndarray, "slots features"]]) -> Bool[np.ndarray, "slots"]:
        return history[0][:, 0] >= self.probability


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class EntropyBound(AdaptiveCount):
    """Reveal as many slots, in order, as keep Σ H − max H at or below `nats`, where H are their entropies: a
    bound on what the slots know of each other (EB-sampler, arXiv 2505.24857) [L].

    Raises: UserError unless the bound is positive and finite.
    """

    nats: float = 0.1

    def __post_init__(self) -> None:
        _check_range(self, "nats", math.inf)

    def measure(
        self,
        log_probabilities: Float[Tensor, "slots codes"],
        previous: Float[Tensor, "slots codes"] | None,
    ) -> Float[Tensor, "slots features"]:
        return entropy(log_probabilities)[:, None]

    def accept(self, history: Sequence[Float64[np.ndarray, "slots features"]]) -> Bool[np.ndarray, "slots"]:
        entropies = history[0][:, 0]
        return entropies.cumsum() - np.maximum.accumulate(entropies) <= self.nats


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class FactorRule(AdaptiveCount):
    """Reveal the first n slots for the largest n with (n + 1) · (1 − p_n) < factor, where p_n is the
    probability of the n-th slot's most probable code (Fast-dLLM, arXiv 2505.22618) [L].

    Raises: UserError unless the factor is positive and finite.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        _check_range(self, "factor", math.inf)

    def measure(
        self,
        log_probabilities: Float[Tensor, "slots codes"],
        previous: Float[Tensor, "slots codes"] | None,
    ) -> Float[Tensor, "slots features"]:
        return _largest_probability(log_probabilities)

    def accept(self, history: Sequence[Float64[np.ndarray, "slots features"]]) -> Bool[np.ndarray, "slots"]:
        number = np.arange(1, len(history[0]) + 1)
        holds = (number + 1) * (1 - history[0][:, 0]) < self.factor
        return number <= (number[holds].max() if holds.any() else 0)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class FrechetBound(AdaptiveCount):
    """Reveal as many slots, in order, as keep Σ (1 − p) at or below `risk`, where p are the probabilities of
    their most probable codes: by Fréchet's inequality, all of these are jointly right with a probability of
    at least 1 − risk [L: Fréchet 1935; as a rule arXiv 2606.02955].

    Raises: UserError unless the risk is positive and finite.
    """

    risk: float = 0.5

    def __post_init__(self) -> None:
        _check_range(self, "risk", math.inf)

    def measure(
        self,
        log_probabilities: Float[Tensor, "slots codes"],
        previous: Float[Tensor, "slots codes"] | None,
    ) -> Float[Tensor, "slots features"]:
        return _largest_probability(log_probabilities)

    def accept(self, history: Sequence[Float64[np.ndarray, "slots features"]]) -> Bool[np.ndarray, "slots"]:
        return (1 - history[0][:, 0]).cumsum() <= self.risk


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class StableAndSure(AdaptiveCount):
    """Reveal the slots whose most probable code has at least this probability, and whose distribution moved
    by less than `nats` of Kullback-Leibler divergence in each of the last two passes (KLASS, arXiv
    2511.05664) [L].

    Raises: UserError unless 0 < probability <= 1 and the divergence is positive and finite.
    """

    probability: float = 0.9
    nats: float = 0.01

    num_passes: ClassVar[int] = 2
    compares: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_range(self, "probability", 1.0)
        _check_range(self, "nats", math.inf)

    def measure(
        self,
        log_probabilities: Float[Tensor, "slots codes"],
        previous: Float[Tensor, "slots codes"] | None,
    ) -> Float[Tensor, "slots features"]:
        assert previous is not None
        p = log_probabilities.exp()
        moved = (p * (log_probabilities - previous)).nan_to_num(nan=math.inf).sum(1)
        return torch.stack([p.amax(1), moved], dim=1)

    def accept(self, history: Sequence[Float64[np.ndarray, "slots features"]]) -> Bool[np.ndarray, "slots"]:
        is_stable = [measured[:, 1] < self.nats for measured in history]
        return np.logical_and.reduce(is_stable) & (history[0][:, 0] >= self.probability)


def _largest_probability(log_probabilities: Float[Tensor, "slots codes"]) -> Float[Tensor, "slots 1"]:
    return log_probabilities.amax(1, keepdim=True).exp()


def _check_range(count: Count, name: str, most: float) -> None:
    value = getattr(count, name)
    if not 0 < value <= most or not math.isfinite(value):
        limit = "" if math.isinf(most) else f", at most {most:g}"
        raise UserError(f"{type(count).__name__}.{name} is {value}: give a number above 0{limit}")
