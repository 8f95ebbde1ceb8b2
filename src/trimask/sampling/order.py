"""Orders: which masked slots come first.

There are three kinds, by what they look at. A `FixedOrder` ranks slots before anything is predicted. An
`EvidenceOrder` scores the predicted distribution of each slot, before codes are drawn. A `DrawnOrder` draws a
code at each masked slot first and scores what was drawn; it reveals likely codes more often than the model
predicts them, so the samples follow another law than the model's.

How many slots a step reveals is for the count (`trimask.sampling.count`) to say.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from trimask.errors import UserError
from trimask.sampling.canvas import Canvas


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step of one sequence in one modality.

    Attributes:
        number: of the step, from 0; names its random streams. Skipped steps of a plan count too.
        t, s: fraction of the slots that is masked before and after the step. A count that depends on the
            prediction cannot say in advance what is masked after it: then s = t.
        sigma: probability with which the corrector hides a revealed slot.
    """

    number: int
    t: float
    s: float
    sigma: float = 0.0


class Order(ABC):
    """Which masked slots come first: a subclass of `FixedOrder`, `EvidenceOrder` or `DrawnOrder`."""

    __slots__ = ()


class FixedOrder(Order):
    """An order that does not depend on the prediction."""

    __slots__ = ()

    @abstractmethod
    def rank(self, canvas: Canvas, step: int) -> Float64[np.ndarray, "slots"]:
        """Return a number per slot, the smallest first; ties keep the order of the slots. Called once per
        step, with its number.
        """


class ScoredOrder(Order):
    """An order that depends on the prediction."""

    __slots__ = ()

    def adjust(
        self, score: Float64[np.ndarray, "slots"], canvas: Canvas, step: Step
    ) -> Float64[np.ndarray, "slots"]:
        """Return the scores of all slots of a canvas, with noise or penalties; unchanged by default."""
        return score


class EvidenceOrder(ScoredOrder):
    """An order by the predicted distributions."""

    __slots__ = ()

    @abstractmethod
    def score(self, log_probabilities: Float[Tensor, "slots codes"]) -> Float[Tensor, "slots"]:
        """Return a score per slot, the largest first, from log p after guidance and before filters.

        Scores are rounded to a thousandth, and the sample's own noise breaks ties: smaller differences are
        the network's rounding errors, which depend on the batch.
        """


class DrawnOrder(ScoredOrder):
    """An order by the codes drawn at the masked slots; those of slots that are not revealed are discarded."""

    __slots__ = ()

    @abstractmethod
    def score(
        self,
        log_probabilities: Float[Tensor, "slots codes"],
        code: Int[Tensor, "slots"],
        row: Int[Tensor, "slots"],
    ) -> Float[Tensor, "slots"]:
        """Return a score per slot, the largest first; rounded like that of an `EvidenceOrder`.

        Args:
            log_probabilities: log p after guidance and before filters, at all masked slots of one codebook in
                some sequences.
            code: drawn at each slot, after filters.
            row: which sequence each slot belongs to.
        """


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Random(FixedOrder):
    """Every masked slot is equally likely to be next: the order of training [L: MDLM, any-order models]."""

    def rank(self, canvas: Canvas, step: int) -> Float64[np.ndarray, "slots"]:
        return canvas.uniforms("order", step)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LeftToRight(FixedOrder):
    """Frame by frame; in a picture row by row."""

    def rank(self, canvas: Canvas, step: int) -> Float64[np.ndarray, "slots"]:
        return np.arange(canvas.num_slots, dtype=np.float64)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Halton(FixedOrder):
    """The cells of a picture in the order of the Halton sequence of bases 2 and 3, which spreads the cells of
    every step evenly over the picture (Besnier et al., arXiv 2503.17076) [L].

    The codebooks of a cell follow each other. On a line, the sequence of base 2.
    """

    def rank(self, canvas: Canvas, step: int) -> Float64[np.ndarray, "slots"]:
        grid = canvas.space.grid or (1, int(canvas.frame.max()) + 1)
        order = _halton_ranks(grid)
        return order[canvas.frame] * canvas.space.num_codebooks + canvas.codebook


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Checkerboard(FixedOrder):
    """The cells of one colour of a checkerboard, then the others, both in random order [L: checkerboard
    context models of image compression]. On a line, every second frame first.
    """

    def rank(self, canvas: Canvas, step: int) -> Float64[np.ndarray, "slots"]:
        line = int(canvas.frame.max()) + 1
        row, column = np.divmod(canvas.frame, line if canvas.space.grid is None else canvas.space.grid[1])
        return (row + column) % 2 + canvas.uniforms("order", step)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CoarseFirst(FixedOrder):
    """All slots of the first codebook, then those of the next, each in the order `inner`."""

    inner: FixedOrder = Random()

    def rank(self, canvas: Canvas, step: int) -> Float64[np.ndarray, "slots"]:
        inside = np.empty(canvas.num_slots)
        inside[self.inner.rank(canvas, step).argsort(kind="stable")] = np.arange(canvas.num_slots)
        return canvas.codebook * float(canvas.num_slots) + inside


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LowestEntropy(EvidenceOrder):
    """The slots whose distributions have the least entropy first [L: Dream, EB-sampler 2505.24857]."""

    def score(self, log_probabilities: Float[Tensor, "slots codes"]) -> Float[Tensor, "slots"]:
        return -entropy(log_probabilities)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LargestMargin(EvidenceOrder):
    """The slots where the two most probable codes differ most in probability first (Kim et al., arXiv
    2502.06768) [L]."""

    def score(self, log_probabilities: Float[Tensor, "slots codes"]) -> Float[Tensor, "slots"]:
        if log_probabilities.shape[1] == 1:
            return torch.ones_like(log_probabilities[:, 0])
        best = log_probabilities.topk(2, dim=1).values.exp()
        return best[:, 0] - best[:, 1]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LargestProbability(EvidenceOrder):
    """The slots whose most probable code is most probable first."""

    def score(self, log_probabilities: Float[Tensor, "slots codes"]) -> Float[Tensor, "slots"]:
        return log_probabilities.amax(1)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Confidence(DrawnOrder):
    """The slots with the largest log p(drawn code) + noise_temperature · s · Gumbel − codebook_penalty ·
    codebook first (MaskGIT, LLaDA, OmniVoice) [L].

    The noise fades with the fraction s that is masked after the step; a `codebook_penalty` of a few nats
    fills coarse codebooks first.

    Raises: UserError when a parameter is negative or not finite.
    """

    noise_temperature: float = 0.0
    codebook_penalty: float = 0.0

    def __post_init__(self) -> None:
        _check_parameters(self, "noise_temperature", "codebook_penalty")

    def score(
        self,
        log_probabilities: Float[Tensor, "slots codes"],
        code: Int[Tensor, "slots"],
        row: Int[Tensor, "slots"],
    ) -> Float[Tensor, "slots"]:
        return log_probabilities.gather(1, code[:, None])[:, 0]

    def adjust(
        self, score: Float64[np.ndarray, "slots"], canvas: Canvas, step: Step
    ) -> Float64[np.ndarray, "slots"]:
        noise = gumbel(canvas, step) if self.noise_temperature else 0.0
        return score + self.noise_temperature * step.s * noise - self.codebook_penalty * canvas.codebook


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CalibratedConfidence(DrawnOrder):
    """The slots with the largest log p(drawn code) − log p̄(drawn code) first, where p̄ is the mean
    distribution over the sequence's masked slots of that codebook (idea: Chatterbox-Flash, arXiv 2605.30748)
    [L].

    A code that is likely everywhere, such as the end of a text, does not come first because it is common.
    The noise is that of `Confidence`.

    Raises: UserError when the temperature is negative or not finite.
    """

    noise_temperature: float = 0.0

    def __post_init__(self) -> None:
        _check_parameters(self, "noise_temperature")

    def score(
        self,
        log_probabilities: Float[Tensor, "slots codes"],
        code: Int[Tensor, "slots"],
        row: Int[Tensor, "slots"],
    ) -> Float[Tensor, "slots"]:
        _, place = row.unique(return_inverse=True)
        count = torch.bincount(place)
        total = log_probabilities.new_zeros(len(count), log_probabilities.shape[1])
        mean = total.index_add(0, place, log_probabilities.exp()) / count[:, None]
        drawn = log_probabilities.gather(1, code[:, None])[:, 0]
        return drawn - mean[place, code].clamp(min=torch.finfo(mean.dtype).tiny).log()

    def adjust(
        self, score: Float64[np.ndarray, "slots"], canvas: Canvas, step: Step
    ) -> Float64[np.ndarray, "slots"]:
        noise = gumbel(canvas, step) if self.noise_temperature else 0.0
        return score + self.noise_temperature * step.s * noise


def entropy(log_probabilities: Float[Tensor, "slots codes"]) -> Float[Tensor, "slots"]:
    """Return the entropy of each distribution in nats."""
    return torch.special.entr(log_probabilities.exp()).sum(1)


def gumbel(canvas: Canvas, step: Step) -> Float64[np.ndarray, "slots"]:
    """Draw standard Gumbel noise for the scores of a step."""
    return -np.log(-np.log(canvas.uniforms("gumbel", step.number).clip(min=2.0**-54)))


@cache
def _halton_ranks(grid: tuple[int, int]) -> Float64[np.ndarray, "cells"]:
    """Return the place of each cell of a grid in the order in which the Halton sequence visits cells."""
    bases, num_cells = (2, 3) if min(grid) > 1 else (2, 2), grid[0] * grid[1]
    rank, point, num_found = np.full(num_cells, -1.0), 0, 0
    while num_found < num_cells:
        row, column = (int(side * _radical_inverse(point, b)) for side, b in zip(grid, bases, strict=True))
        cell = row * grid[1] + column
        if rank[cell] < 0:
            rank[cell], num_found = num_found, num_found + 1
        point += 1
    return rank


def _radical_inverse(number: int, base: int) -> float:
    """Mirror the digits of `number` about the point."""
    value, scale = 0.0, 1.0
    while number:
        number, digit = divmod(number, base)
        scale /= base
        value += digit * scale
    return value


def _check_parameters(order: Order, *names: str) -> None:
    for name in names:
        value = getattr(order, name)
        if not 0 <= value < math.inf:
            raise UserError(f"{type(order).__name__}.{name} is {value}: give a finite number of at least 0")
