"""Filters: reshape a categorical distribution before a code is drawn from it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from trimask.errors import UserError


class Filter(ABC):
    """Log-probabilities in, log-probabilities out, up to a constant per slot; never all -inf."""

    __slots__ = ()

    @abstractmethod
    def __call__(
        self, log_probabilities: Float[Tensor, "slots codes"], masked: Float[Tensor, "slots"]
    ) -> Float[Tensor, "slots codes"]:
        """Return the reshaped log-probabilities.

        Args:
            masked: the fraction of each slot's sequence (in this modality) that is masked before the step,
                for filters that follow a schedule.
        """


def apply_filters(
    filters: Iterable[Filter],
    log_probabilities: Float[Tensor, "slots codes"],
    masked: Float[Tensor, "slots"],
) -> Float[Tensor, "slots codes"]:
    """Apply the filters in order."""
    for each in filters:
        filtered: object = each(log_probabilities, masked)
        if not isinstance(filtered, Tensor) or filtered.shape != log_probabilities.shape:
            raise UserError(
                f"the filter {each!r} returned {type(filtered).__name__}: return log-probabilities of the "
                f"shape that it got, {tuple(log_probabilities.shape)}"
            )
        # Ours keep to it, and the host waits for a GPU to look.
        if not type(each).__module__.startswith("trimask."):
            _check_drawable(each, filtered)
        log_probabilities = filtered
    return log_probabilities


def _check_drawable(law: Filter, filtered: Tensor) -> None:
    """Raise UserError where a user's filter leaves nothing to draw from."""
    most = filtered.amax(1)  # NaN if any is
    if filtered.is_floating_point() and bool((most > -math.inf).logical_and(most < math.inf).all()):
        return
    raise UserError(
        f"the filter {law!r} returned NaN, infinity, or -infinity for all codes of a slot: return "
        "log-probabilities of which one or more per slot are finite, and none NaN"
    )


_COLDEST = 1e-4


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Temperature(Filter):
    """p^(1/temperature): below 1 sharpens, 1 changes nothing, 0 keeps only the most probable code.

    The temperature is `value`, or goes linearly from `value`, where everything is masked, to `last`, where
    nothing is.

    Raises: UserError when a value is negative or not finite.
    """

    value: float
    last: float | None = None

    def __post_init__(self) -> None:
        for value in (self.value, self.last or 0.0):
            # Below this, divided log-probabilities exceed float32's resolution.
            if value != 0 and not _COLDEST <= value < math.inf:
                raise UserError(
                    f"temperature is {value}: give a finite number of at least 0 (0 is greedy, 1 as "
                    f"trained; between 0 and {_COLDEST:g} there is none)"
                )

    def __call__(
        self, log_probabilities: Float[Tensor, "slots codes"], masked: Float[Tensor, "slots"]
    ) -> Float[Tensor, "slots codes"]:
        if self.last is None and self.value != 0:
            return log_probabilities / self.value
        greedy = torch.full_like(log_probabilities, -math.inf)
        greedy = greedy.scatter(1, log_probabilities.argmax(1, keepdim=True), 0.0)
        if self.last is None:
            return greedy
        temperature = (self.last + (self.value - self.last) * masked).to(log_probabilities.dtype)[:, None]
        warm = log_probabilities / temperature.clamp(min=_COLDEST)
        return torch.where(temperature < _COLDEST, greedy, warm)


_PARTITION = 64  # more codes than most truncated distributions keep


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TopP(Filter):
    """Keep the fewest codes, most probable first, whose probabilities sum to at least `value`; 1 keeps all.

    Raises: UserError unless 0 < value <= 1.
    """

    value: float

    def __post_init__(self) -> None:
        if not 0 < self.value <= 1:
            raise UserError(f"top_p is {self.value}: give a number above 0 and at most 1 (1 keeps all)")

    def __call__(
        self, log_probabilities: Float[Tensor, "slots codes"], masked: Float[Tensor, "slots"]
    ) -> Float[Tensor, "slots codes"]:
        if self.value == 1:
            return log_probabilities
        p = torch.softmax(log_probabilities.to(torch.float64), dim=-1)
        size = min(_PARTITION, p.shape[1])
        best = p.topk(size, dim=1).values
        # A GPU sorts them all: the host would wait for it to see whether the best are enough.
        if size < p.shape[1] and (p.is_cuda or bool((best.sum(1) < self.value).any())):
            best = p.sort(dim=1, descending=True).values
        # No probability precedes the first code, so at least one code stays.
        num_kept = (best.cumsum(1) - best < self.value).sum(1, keepdim=True)
        least = best.gather(1, num_kept - 1)
        is_tied = p == least
        num_tied = num_kept - (p > least).sum(1, keepdim=True)
        is_kept = (p > least) | (is_tied & (is_tied.cumsum(1) <= num_tied))
        return log_probabilities.masked_fill(~is_kept, -math.inf)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class MinP(Filter):
    """Keep the codes that are at least `value` times as probable as the most probable one (Nguyen et al.,
    arXiv 2407.01082) [L].

    Raises: UserError unless 0 <= value <= 1.
    """

    value: float

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise UserError(f"min_p is {self.value}: give a number from 0 (keeps all) to 1")

    def __call__(
        self, log_probabilities: Float[Tensor, "slots codes"], masked: Float[Tensor, "slots"]
    ) -> Float[Tensor, "slots codes"]:
        if self.value == 0:
            return log_probabilities
        limit = log_probabilities.amax(1, keepdim=True) + math.log(self.value)
        return log_probabilities.masked_fill(log_probabilities < limit, -math.inf)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TopK(Filter):
    """Keep the `value` most probable codes (all, if the range has fewer).

    Raises: UserError when the value is below 1.
    """

    value: int

    def __post_init__(self) -> None:
        if self.value < 1:
            raise UserError(f"top_k is {self.value}: give at least 1")

    def __call__(
        self, log_probabilities: Float[Tensor, "slots codes"], masked: Float[Tensor, "slots"]
    ) -> Float[Tensor, "slots codes"]:
        code = log_probabilities.sort(dim=-1, descending=True, stable=True).indices[:, : self.value]
        kept = torch.zeros_like(log_probabilities, dtype=torch.bool).scatter(1, code, True)
        return log_probabilities.masked_fill(~kept, -math.inf)
