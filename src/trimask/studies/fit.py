"""Fits to the losses of a study: the minimum of a parabola, and the slope of a line."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float
from scipy import stats

from trimask.errors import UserError
from trimask.estimate import Estimate

_NUM_DRAWS = 2000
_LEVEL = 0.95


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Optimum:
    """The minimum of a loss over log2 of the varied value.

    Attributes:
        place: log2 of the best value, with its interval.
        loss: the mean loss of the best measured point.
        is_bracketed: whether points on both sides of the best one are worse; otherwise `place` is the edge,
            and the optimum may lie beyond it.
        draws: draws of `place` under the noise, for intervals of functions of optima. Empty if the noise is
            unknown.
    """

    place: Estimate
    loss: float
    is_bracketed: bool
    draws: Float[np.ndarray, "draws"]


def fit_optimum(losses: Mapping[float, Mapping[int, float]], *, seed: int = 0) -> Optimum | None:
    """Return the minimum of the parabola through the best value and its neighbours, in log2.

    `losses`: value -> seed -> loss, infinite if a run diverged, which ranks worst. The model loss = m(value)
        + a(seed) + noise is fitted by least squares; values need not share seeds. The interval resamples m by
        Student's t; it is infinite with one seed, which does not reveal the noise. Returns None if no value
        has finite losses.
    """
    finite = {value: row for value, row in losses.items() if row and all(map(math.isfinite, row.values()))}
    if not finite:
        return None
    values = sorted(finite)
    means, noise = fit_additive([finite[value] for value in values])
    best = int(np.argmin(means))
    # A diverged neighbour closes the bracket, but cannot enter the parabola.
    is_bracketed = min(losses) < values[best] < max(losses)
    loss = float(means[best])
    if not 0 < best < len(values) - 1:
        place = Estimate(value=math.log2(values[best]), low=-math.inf, high=math.inf)
        return Optimum(place=place, loss=loss, is_bracketed=is_bracketed, draws=np.empty(0))
    around = slice(best - 1, best + 2)
    x, y = np.log2(values[around]), means[around]
    draws = np.empty(0)
    if noise is not None:
        generator = np.random.default_rng(seed)
        normal = generator.multivariate_normal(np.zeros(3), noise.covariance[around, around], _NUM_DRAWS)
        heavier = np.sqrt(noise.freedom / generator.chisquare(noise.freedom, (_NUM_DRAWS, 1)))
        draws = _vertices(x, y + normal * heavier)
    place = interval(float(_vertices(x, y[None])[0]), draws)
    return Optimum(place=place, loss=loss, is_bracketed=is_bracketed, draws=draws)


def interval(value: float, draws: Float[np.ndarray, "draws"]) -> Estimate:
    """Return `value` with the central 95 % of the draws; infinite without draws."""
    if not len(draws):
        return Estimate(value=value, low=-math.inf, high=math.inf)
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(value=value, low=float(low), high=float(high))


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Noise:
    """Uncertainty of means: their covariance, and its degrees of freedom."""

    covariance: Float[np.ndarray, "rows rows"]
    freedom: int


def fit_levels(losses: Mapping[float, Mapping[int, float]]) -> dict[float, float]:
    """Return value -> m(value) as in `fit_optimum`, infinite if a run diverged, for a search."""
    finite = {value: row for value, row in losses.items() if all(map(math.isfinite, row.values()))}
    means = fit_additive(list(finite.values()))[0].tolist() if finite else []
    return dict.fromkeys(losses, math.inf) | dict(zip(finite, means, strict=True))


def fit_differences(rows: Sequence[Mapping[int, float]], base: int) -> list[Estimate]:
    """Return each row's difference from row `base` under loss = m(row) + a(seed) + noise, pooled over rows
    because seeds are few. Row i is seed -> loss.
    """
    means, noise = fit_additive(rows)
    found = []
    for number, value in enumerate(means - means[base]):
        margin = math.inf
        if noise is not None:
            pair = noise.covariance[np.ix_([number, base], [number, base])]
            spread = math.sqrt(max(pair[0, 0] + pair[1, 1] - 2 * pair[0, 1], 0.0))
            margin = float(stats.t.ppf((1 + _LEVEL) / 2, noise.freedom)) * spread
        found.append(Estimate(value=float(value), low=float(value) - margin, high=float(value) + margin))
    return found


def fit_additive(
    rows: Sequence[Mapping[int, float]],
) -> tuple[Float[np.ndarray, "rows"], Noise | None]:
    """Fit loss = m(row) + a(seed) + noise, with Σ a = 0; return m of each row and its uncertainty, None if
    the noise cannot be estimated. Row i is seed -> loss.
    """
    seeds = sorted({seed for row in rows for seed in row})
    cells = [(number, seeds.index(seed), y) for number, row in enumerate(rows) for seed, y in row.items()]
    # The last seed's effect is minus the sum of the others.
    design = np.zeros((len(cells), len(rows) + len(seeds) - 1))
    for entries, (number, seed, _) in zip(design, cells, strict=True):
        entries[number] = 1.0
        if seed < len(seeds) - 1:
            entries[len(rows) + seed] = 1.0
        else:
            entries[len(rows) :] = -1.0
    y = np.array([loss for _, _, loss in cells])
    found, _, rank, _ = np.linalg.lstsq(design, y)
    means = found[: len(rows)]
    freedom = len(cells) - int(rank)
    if freedom < 1:
        return means, None
    variance = float(((y - design @ found) ** 2).sum()) / freedom
    covariance = variance * np.linalg.pinv(design.T @ design)[: len(rows), : len(rows)]
    return means, Noise(covariance=covariance, freedom=freedom)


def fit_line(x: Sequence[float], y: Sequence[float]) -> Estimate:
    """Fit the slope of y over x by least squares, with Student's t interval; infinite for two points."""
    if len(x) != len(y) or len(set(x)) < 2:
        raise UserError(f"a slope needs two different x and as many y, not {list(x)} and {list(y)}")
    if len(x) == 2:
        return Estimate(value=(y[1] - y[0]) / (x[1] - x[0]), low=-math.inf, high=math.inf)
    fitted: Any = stats.linregress(x, y)
    slope = float(fitted.slope)
    margin = float(stats.t.ppf((1 + _LEVEL) / 2, len(x) - 2) * fitted.stderr)
    return Estimate(value=slope, low=slope - margin, high=slope + margin)


def _vertices(x: Float[np.ndarray, "3"], y: Float[np.ndarray, "draws 3"]) -> Float[np.ndarray, "draws"]:
    """Return the minima of parabolas through three points each, clamped to the outer points; if noise turns a
    parabola over, the lower end.
    """
    curvature, slope, _ = np.polyfit(x - x[1], y.T, 2)
    ends = np.where(y[:, 0] < y[:, -1], x[0], x[-1])
    is_valley = curvature > 0
    lowest = x[1] - slope / (2 * np.where(is_valley, curvature, 1.0))
    return np.where(is_valley, np.clip(lowest, x[0], x[-1]), ends)
