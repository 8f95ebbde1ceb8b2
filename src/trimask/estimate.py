"""Estimates with 95 % confidence intervals.

With four or more examples the intervals cover the true value at least 93 % of the time if values are normal,
moderately skewed, or binary; one example gives no interval. With very heavy tails (log-normal, sigma 1) four
examples give 90 %, and no interval computed from the sample alone does much better.

- Means and ratios: the union of Student's t interval (sample variance over n - 1) and the same interval after
  Hall's transformation, which removes the skewness [L: Hall 1992].
- Proportions: the exact interval of Clopper and Pearson.
- Rates of counts (errors per word): the union of the interval for ratios and that of Korn and Graubard, which
  is Clopper and Pearson's with the effective sample size. So a sample without any error still has an upper
  bound above 0 [L: Korn & Graubard 1998].
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float
from scipy.special import betaincinv, stdtrit

from trimask.errors import UserError

_TAIL = 0.025
_Z = 1.959964  # standard errors of a normal 95 % interval

Bounds = tuple[Float[np.ndarray, "*rows"], Float[np.ndarray, "*rows"]]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """`value` with a 95 % interval [`low`, `high`] over `n` examples.

    The interval is infinite if the data give none. `n` is None if the estimate combines different examples.
    """

    value: float
    low: float
    high: float
    n: int | None = None

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    def apply_increasing(self, function: Callable[[float], float]) -> "Estimate":
        """Return the estimate of `function`, which must be increasing, of the value."""
        value = function(self.value)
        if not self.has_interval:
            return Estimate(value=value, low=-math.inf, high=math.inf, n=self.n)
        return Estimate(value=value, low=function(self.low), high=function(self.high), n=self.n)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON, without `low` and `high` if there is no interval."""
        ends = {"low": self.low, "high": self.high} if self.has_interval else {}
        return {"value": self.value, **ends, "n": self.n}


def mean(values: Sequence[float] | np.ndarray, *, is_share: bool = False) -> Estimate:
    """Estimate the mean.

    Args:
        is_share: values and interval are in [0, 1]; if all values are equal, use a proportion's interval.

    Raises:
        UserError: no values.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise UserError("a mean needs at least one value")
    return _estimate(float(array.mean()), mean_bounds(array[None], is_share=is_share), len(array))


def proportion(hits: Sequence[bool] | np.ndarray) -> Estimate:
    """Estimate the proportion of hits.

    Raises:
        UserError: no examples.
    """
    array = np.asarray(hits, dtype=np.float64)
    if not len(array):
        raise UserError("a proportion needs at least one example")
    return _estimate(float(array.mean()), proportion_bounds(array[None]), len(array))


def ratio(numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
    """Estimate Σ numerators / Σ denominators over examples."""
    value = float(numerators.sum() / denominators.sum())
    return _estimate(value, ratio_bounds(numerators[None], denominators[None]), len(numerators))


def rate(counts: np.ndarray, sizes: np.ndarray, *, most: float = math.inf) -> Estimate:
    """Estimate the rate Σ counts / Σ sizes of counted events (errors per word), which is at most `most`."""
    value = float(counts.sum() / sizes.sum())
    return _estimate(value, rate_bounds(counts[None], sizes[None], most=most), len(counts))


def change_of_rate(changes: np.ndarray, sizes: np.ndarray) -> Estimate:
    """Estimate Σ changes / Σ sizes: the change of a rate on the same examples, with `changes` in counts."""
    value = float(changes.sum() / sizes.sum())
    return _estimate(value, change_bounds(changes[None], sizes[None]), len(changes))


def from_standard_error(value: float, standard_error: float, n: int, *, freedom: int) -> Estimate:
    """Make the estimate of a value whose standard error has `freedom` degrees of freedom."""
    if freedom < 1:
        return Estimate(value=value, low=-math.inf, high=math.inf, n=n)
    half = float(stdtrit(freedom, 1 - _TAIL)) * standard_error
    return Estimate(value=value, low=value - half, high=value + half, n=n)


def mean_bounds(values: Float[np.ndarray, "*rows n"], *, is_share: bool = False) -> Bounds:
    """Return the interval of the mean over the last axis."""
    value = values.mean(-1)
    if is_share:
        flat = np.full_like(value, values.shape[-1])
        return _share_bounds(value, values - value[..., None], least=0.0 * value, flat=flat, most=1.0)
    return _student(value, values - value[..., None])


def proportion_bounds(hits: Float[np.ndarray, "*rows n"]) -> Bounds:
    """Return Clopper and Pearson's interval of the proportion of ones over the last axis."""
    n = hits.shape[-1]
    return _beta(hits.sum(-1), np.full(hits.shape[:-1], float(n)))


def ratio_bounds(
    numerators: Float[np.ndarray, "*rows n"], denominators: Float[np.ndarray, "*rows n"]
) -> Bounds:
    """Return the interval of Σ numerators / Σ denominators over the last axis."""
    value, influence = _influence(numerators, denominators)
    return _student(value, influence)


def rate_bounds(
    counts: Float[np.ndarray, "*rows n"], sizes: Float[np.ndarray, "*rows n"], *, most: float = math.inf
) -> Bounds:
    """Return the interval of a rate of counts over the last axis."""
    value, influence = _influence(counts, sizes)
    total = sizes.sum(-1)
    least = np.maximum(value * (1 - value), 0.0) / total
    return _share_bounds(value, influence, least=least, flat=total, most=most)


def change_bounds(changes: Float[np.ndarray, "*rows n"], sizes: Float[np.ndarray, "*rows n"]) -> Bounds:
    """Return the interval of a change of a rate over the last axis.

    It is at least as wide as if the counts had changed independently, with one more change than observed.
    """
    value, influence = _influence(changes, sizes)
    least = (np.abs(changes).sum(-1) + 1) / sizes.sum(-1) ** 2
    return _student(value, influence, least_variance=least)


def _estimate(value: float, bounds: Bounds, n: int) -> Estimate:
    if n < 2:
        return Estimate(value=value, low=-math.inf, high=math.inf, n=n)
    return Estimate(value=value, low=float(bounds[0][0]), high=float(bounds[1][0]), n=n)


def _influence(numerators: np.ndarray, denominators: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ratio, and n times the influence of each example on it."""
    total = denominators.sum(-1)
    value = numerators.sum(-1) / total
    residual = numerators - value[..., None] * denominators
    return value, residual * (numerators.shape[-1] / total)[..., None]


def _student(value: np.ndarray, influence: np.ndarray, *, least_variance: np.ndarray | float = 0.0) -> Bounds:
    """Return the union of Student's interval and that after Hall's transformation; `influence` sums to 0."""
    n = influence.shape[-1]
    if n < 2:
        return np.full_like(value, -math.inf), np.full_like(value, math.inf)
    error = np.sqrt(np.maximum((influence**2).sum(-1) / (n * (n - 1)), least_variance))
    t = float(stdtrit(n - 1, 1 - _TAIL))
    skewness = _skewness(influence) / math.sqrt(n)
    above, below = _without_skewness(t, skewness), _without_skewness(-t, skewness)
    return value - error * np.maximum(above, t), value - error * np.minimum(below, -t)


def _skewness(influence: np.ndarray) -> np.ndarray:
    n = influence.shape[-1]
    second, third = (influence**2).mean(-1), (influence**3).mean(-1)
    if n < 3:
        return np.zeros_like(second)
    # Values that differ by rounding only have no skewness.
    scale = np.abs(influence).max(-1)
    is_spread = second > 1e-24 * np.maximum(scale, 1e-300) ** 2
    raw = np.where(is_spread, third / np.where(is_spread, second, 1.0) ** 1.5, 0.0)
    return raw * math.sqrt(n * (n - 1)) / (n - 2)


def _without_skewness(quantile: float, skewness: np.ndarray) -> np.ndarray:
    """Invert Hall's transformation: solve T + k T²/3 + k² T³/27 + k/6 = `quantile`; k = skewness / √n."""
    is_skew = np.abs(skewness) > 1e-6
    k = np.where(is_skew, skewness, 1.0)
    return np.where(is_skew, 3 * (np.cbrt(1 + k * (quantile - k / 6)) - 1) / k, quantile)


def _share_bounds(
    value: np.ndarray,
    influence: np.ndarray,
    *,
    least: np.ndarray,
    flat: np.ndarray,
    most: float,
) -> Bounds:
    """Return the union of Student's interval and, for values up to 1, that of Korn and Graubard.

    A rate of errors can exceed 1 (more words recognized than said), and is no proportion then.

    Args:
        least: lower bound of the variance.
        flat: sample size to use if the variance is 0.
        most: upper bound of the interval.
    """
    n = influence.shape[-1]
    low, high = _student(value, influence)
    if n < 2:
        return low, high
    share = np.minimum(value, 1.0)
    variance = np.maximum((influence**2).sum(-1) / (n * (n - 1)), least)
    has_spread = (variance > 1e-18) & (value < 1)
    size = np.where(has_spread, share * (1 - share) / np.where(has_spread, variance, 1.0), flat)
    size = size * (_Z / float(stdtrit(n - 1, 1 - _TAIL))) ** 2
    sure_low, sure_high = _beta(share * size, size)
    low = np.where(value <= 1, np.minimum(low, sure_low), low)
    high = np.where(value <= 1, np.maximum(high, sure_high), high)
    return np.maximum(low, 0.0), np.minimum(high, most)


def _beta(hits: np.ndarray, size: np.ndarray) -> Bounds:
    misses = np.maximum(size - hits, 0.0)
    low = np.where(hits > 0, betaincinv(np.where(hits > 0, hits, 1.0), misses + 1, _TAIL), 0.0)
    high = np.where(misses > 0, betaincinv(hits + 1, np.where(misses > 0, misses, 1.0), 1 - _TAIL), 1.0)
    return low, high
