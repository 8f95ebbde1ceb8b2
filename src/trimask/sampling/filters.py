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
    """Log-probabilities in, log-probabilities out, up to a constant per row; never all -inf."""

    __slots__ = ()

    @abstractmethod
    def __call__(self, log_probabilities: Float[Tensor, "n codes"]) -> Float[Tensor, "n codes"]: ...


def apply_filters(
    filters: Iterable[Filter], log_probabilities: Float[Tensor, "n codes"]
) -> Float[Tensor, "n codes"]:
    """Apply the filters in order."""
    for each in filters:
        log_probabilities = each(log_probabilities)
    return log_probabilities


_COLDEST = 1e-4


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Temperature(Filter):
    """p^(1/value): below 1 sharpens, 1 changes nothing, 0 keeps only the most probable code.

    Raises: UserError when the value is negative or not finite.
    """

    value: float

    def __post_init__(self) -> None:
        # Below this, divided log-probabilities exceed float32's resolution.
        if self.value != 0 and not _COLDEST <= self.value < math.inf:
            raise UserError(
                f"temperature is {self.value}: give a finite number of at least 0 (0 is greedy, 1 as "
                f"trained; between 0 and {_COLDEST:g} there is none)"
            )

    def __call__(self, log_probabilities: Float[Tensor, "n codes"]) -> Float[Tensor, "n codes"]:
        if self.value == 0:
            greedy = torch.full_like(log_probabilities, -math.inf)
            return greedy.scatter(1, log_probabilities.argmax(1, keepdim=True), 0.0)
        return log_probabilities / self.value


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

    def __call__(self, log_probabilities: Float[Tensor, "n codes"]) -> Float[Tensor, "n codes"]:
        if self.value == 1:
            return log_probabilities
        probability, code = torch.softmax(log_probabilities.to(torch.float64), dim=-1).sort(
            dim=-1, descending=True, stable=True
        )
        before = probability.cumsum(-1) - probability
        # No probability precedes the first code, so at least one code stays.
        is_dropped = torch.zeros_like(before, dtype=torch.bool).scatter(1, code, before >= self.value)
        return log_probabilities.masked_fill(is_dropped, -math.inf)


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

    def __call__(self, log_probabilities: Float[Tensor, "n codes"]) -> Float[Tensor, "n codes"]:
        code = log_probabilities.sort(dim=-1, descending=True, stable=True).indices[:, : self.value]
        kept = torch.zeros_like(log_probabilities, dtype=torch.bool).scatter(1, code, True)
        return log_probabilities.masked_fill(~kept, -math.inf)
