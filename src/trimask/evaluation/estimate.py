"""A figure with its 95 % interval and the number of examples that it is over."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from trimask import rng

_Z = 1.959964  # standard errors of a 95 % interval


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """`value` with a 95 % interval [`low`, `high`] over `n` examples."""

    value: float
    low: float
    high: float
    n: int

    def as_json(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def mean(values: Sequence[float] | np.ndarray, *, seed: int = 0, num_resamples: int = 2000) -> Estimate:
    """The mean, with the percentile bootstrap over examples.

    Raises:
        ValueError: no values.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise ValueError("a mean needs at least one value")
    drawn = rng.generator(seed, "bootstrap").integers(0, len(array), (num_resamples, len(array)))
    low, high = np.quantile(array[drawn].mean(1), [0.025, 0.975])
    return Estimate(value=float(array.mean()), low=float(low), high=float(high), n=len(array))


def proportion(hits: Sequence[bool] | np.ndarray) -> Estimate:
    """The share of hits, with Wilson's score interval: unlike the bootstrap's it has a width at 0 and at 1.

    Raises:
        ValueError: no examples.
    """
    n = len(hits)
    if not n:
        raise ValueError("a proportion needs at least one example")
    share = float(np.mean(np.asarray(hits, dtype=np.float64)))
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return Estimate(value=share, low=max(centre - half, 0.0), high=min(centre + half, 1.0), n=n)


def normal(value: float, standard_error: float, n: int) -> Estimate:
    """A value with a standard error, as an interval of ± 1.96 standard errors."""
    return Estimate(value=value, low=value - _Z * standard_error, high=value + _Z * standard_error, n=n)


def ratio(numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
    """Σ numerators / Σ denominators over examples, with the delta method's standard error."""
    value = float(numerators.sum() / denominators.sum())
    residual = numerators - value * denominators
    return normal(value, float(np.sqrt((residual**2).sum()) / denominators.sum()), len(numerators))
