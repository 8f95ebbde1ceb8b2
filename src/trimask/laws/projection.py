"""Variable projection: search a law's few exponents alone, and solve its non-negative coefficients exactly.

Deterministic, and without the local minima that the joint search over all parameters has.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import final

import numpy as np
from jaxtyping import Bool, Float

from trimask.errors import UserError
from trimask.estimate import Estimate
from trimask.laws.fitting import Fit, Inputs, Law

_POINTS = 4096  # of the grid of all exponents, for the estimate: steps of 0.02 for two
_DRAW_POINTS = 125  # for the draws of a bootstrap
_AT_END = 1e-3  # of the range
_ROUNDS = 80
_STEP = 1e-5  # of derivatives
_SETTLED, _DRAW_SETTLED = 1e-9, 1e-6  # step of an exponent relative to its range
_MOST_CELLS = 20_000_000  # numbers in an array at a time


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Exponent:
    """The range in which an exponent is searched, in equal steps, or equal ratios if `is_log`. An estimate at
    an end is not identified.
    """

    low: float
    high: float
    is_log: bool = False

    def scale(self, unit: Float[np.ndarray, "*points"]) -> Float[np.ndarray, "*points"]:
        """Map [0, 1] to the range."""
        if self.is_log:
            return self.low * (self.high / self.low) ** unit
        return self.low + (self.high - self.low) * unit

    def unscale(self, value: Float[np.ndarray, "*points"]) -> Float[np.ndarray, "*points"]:
        """The inverse of `scale`."""
        if self.is_log:
            return np.log(value / self.low) / np.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


class ProjectedLaw(Law):
    """loss = Σ coefficient · column(inputs, exponents), coefficients ≥ 0.

    Parameters are the coefficients, then the exponents.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def coefficients(self) -> tuple[str, ...]:
        """Names of the coefficients, one a column of `columns`."""

    @property
    @abstractmethod
    def exponents(self) -> Mapping[str, Exponent]:
        """The exponents and where they are searched."""

    @abstractmethod
    def columns(
        self,
        inputs: Inputs,
        exponents: Mapping[str, Float[np.ndarray, "points 1"]],
        losses: Float[np.ndarray, "rows"],
    ) -> tuple[Float[np.ndarray, "#points rows"], ...]:
        """Return the columns at each point of the exponents, or what broadcasts to them. `losses` are for a
        law that is linear only after it is rearranged.
        """

    def weigh_rows(self, losses: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        """Return what makes a row's linear residual a relative error of its loss, up to a common factor."""
        return 1 / losses

    @property
    def offset(self) -> float:
        """What is taken from the losses before the columns: a coefficient that is known."""
        return 0.0

    @property
    def parameters(self) -> tuple[str, ...]:
        return (*self.coefficients, *self.exponents)

    @property
    def procedure(self) -> tuple[str, ...]:
        ranges = ", ".join(
            f"{name} in [{each.low:g}, {each.high:g}]" for name, each in self.exponents.items()
        )
        return (
            f"Variable projection: {ranges} by a grid of {_count_side(_POINTS, len(self.exponents))} points "
            f"each and Gauss-Newton steps from the best; {', '.join(self.coefficients)} ≥ 0 solved exactly "
            "by non-negative least squares at each point.",
            "Columns are divided by their means, which makes the units of the inputs irrelevant. Errors are "
            "relative: predicted over measured loss, minus 1.",
        )

    def find_doubts(self, fit: Fit) -> tuple[str, ...]:
        found = []
        for name, each in self.exponents.items():
            value = fit.parameters[name].value
            place = float(each.unscale(np.array([value]))[0])
            if min(place, 1 - place) < _AT_END:
                found.append(f"{name} = {value:.2f} is at an end of its range [{each.low:g}, {each.high:g}]")
            elif len(fit.draws) and _reaches_end(each, fit.parameters[name]):
                # Such an interval is cut off by the search: its end says nothing.
                low, high = fit.parameters[name].low, fit.parameters[name].high
                found.append(
                    f"the interval of {name} [{low:.2f}, {high:.2f}] reaches an end of its range "
                    f"[{each.low:g}, {each.high:g}]: add runs further apart, more seeds, or look for a "
                    "run that is out of line"
                )
        return tuple(found)

    def predict(
        self, inputs: Inputs, parameters: Float[np.ndarray, "draws parameters"]
    ) -> Float[np.ndarray, "draws rows"]:
        split = len(self.coefficients)
        columns = self._stack(inputs, parameters[:, split:], np.ones(_num_rows(inputs)))
        return self.offset + np.einsum("drc,dc->dr", columns, parameters[:, :split])

    def solve(
        self,
        inputs: Inputs,
        losses: Float[np.ndarray, "rows"],
        weights: Float[np.ndarray, "draws rows"],
        start: Float[np.ndarray, "draws parameters"] | None = None,
    ) -> Float[np.ndarray, "draws parameters"]:
        problem = _Problem(self, inputs, losses)
        split = len(self.coefficients)
        if start is not None:
            points = problem.unscale(start[:, split:])
        else:
            most = _POINTS if len(weights) == 1 else _DRAW_POINTS
            points = problem.search(weights, _count_side(most, len(self.exponents)))
        size = max(1, _MOST_CELLS // (len(losses) * (split + 4)))
        parts = range(0, len(weights), size)
        return np.concatenate([problem.refine(points[i : i + size], weights[i : i + size]) for i in parts])

    def _stack(
        self, inputs: Inputs, exponents: Float[np.ndarray, "points k"], losses: Float[np.ndarray, "rows"]
    ) -> Float[np.ndarray, "points rows columns"]:
        named = {name: exponents[:, i : i + 1] for i, name in enumerate(self.exponents)}
        shape = (len(exponents), len(losses))
        columns = [np.asarray(each) for each in self.columns(inputs, named, losses)]
        if len(columns) != len(self.coefficients):
            raise UserError(
                f"{type(self).__name__}.columns returns {len(columns)} columns, and the law has the "
                f"coefficients {', '.join(self.coefficients)}: return one for each"
            )
        for name, each in zip(self.coefficients, columns, strict=True):
            if each.ndim != 2 or any(
                have not in (1, all_) for have, all_ in zip(each.shape, shape, strict=True)
            ):
                raise UserError(
                    f"{type(self).__name__}.columns: the column of {name} has shape {each.shape}: return "
                    f"(points, rows), here {shape}, or 1 in place of either"
                )
        return np.stack([np.broadcast_to(each, shape) for each in columns], -1)


@final
class _Problem:
    """A law on the rows of a table. Points are exponents, each scaled to [0, 1]."""

    def __init__(self, law: ProjectedLaw, inputs: Inputs, losses: Float[np.ndarray, "rows"]) -> None:
        self._law, self._inputs, self._losses = law, inputs, losses
        self._rows = law.weigh_rows(losses)
        self._target = (losses - law.offset) * self._rows
        self._ranges = list(law.exponents.values())

    def scale(self, points: Float[np.ndarray, "points k"]) -> Float[np.ndarray, "points k"]:
        return np.stack([each.scale(points[:, i]) for i, each in enumerate(self._ranges)], 1)

    def unscale(self, exponents: Float[np.ndarray, "points k"]) -> Float[np.ndarray, "points k"]:
        found = np.stack([each.unscale(exponents[:, i]) for i, each in enumerate(self._ranges)], 1)
        return np.clip(found, 0.0, 1.0)

    def search(self, weights: Float[np.ndarray, "draws rows"], size: int) -> Float[np.ndarray, "draws k"]:
        """Return the best point of a grid of `size` a side for each draw."""
        sides = [np.linspace(0, 1, size)] * len(self._ranges)
        grid = np.stack([axis.reshape(-1) for axis in np.meshgrid(*sides, indexing="ij")], 1)
        best = np.zeros(len(weights), dtype=np.int64)
        gains = np.full(len(weights), -np.inf)
        num_rows, num_columns = len(self._losses), len(self._law.coefficients)
        # A part of the grid at a time: a table may have many rows.
        size = max(1, _MOST_CELLS // (num_rows * num_columns**2))
        for first in range(0, len(grid), size):
            x, _ = self._columns(grid[first : first + size])
            products = np.einsum("prc,prd->rpcd", x, x).reshape(num_rows, -1)
            sums = np.einsum("prc,r->rpc", x, self._target).reshape(num_rows, -1)
            part = max(1, _MOST_CELLS // products.shape[1])
            for i in range(0, len(weights), part):
                w = weights[i : i + part]
                shape = (len(w), len(x), num_columns)
                gram, right = (w @ products).reshape(*shape, num_columns), (w @ sums).reshape(shape)
                _, gain = solve_non_negative(gram, right)
                found = gain.argmax(1)
                highest = np.take_along_axis(gain, found[:, None], 1)[:, 0]
                is_better = highest > gains[i : i + part]
                best[i : i + part][is_better] = first + found[is_better]
                gains[i : i + part][is_better] = highest[is_better]
        return grid[best]

    def refine(
        self, points: Float[np.ndarray, "draws k"], weights: Float[np.ndarray, "draws rows"]
    ) -> Float[np.ndarray, "draws parameters"]:
        """Take Levenberg-Marquardt steps on the exponents until they settle, each draw on its own; return the
        parameters.
        """
        root = np.sqrt(weights)
        points = points.copy()
        coefficients, residuals, x = self._fit(points, root)
        costs = (residuals**2).sum(1)
        damping = np.full(len(points), 1e-3)
        settled = _SETTLED if len(points) == 1 else _DRAW_SETTLED
        active = np.arange(len(points))
        for _ in range(_ROUNDS):
            if not len(active):
                break
            here = points[active]
            jacobian = self._differentiate(here, root[active], coefficients[active], x[active])
            step = self._step(here, jacobian, residuals[active], damping[active])
            there = np.clip(here + step, 0.0, 1.0)
            new_c, new_r, new_x = self._fit(there, root[active])
            new_costs = (new_r**2).sum(1)
            better = new_costs <= costs[active]
            moved = np.abs(there - here).max(1)
            chosen = active[better]
            points[chosen], costs[chosen] = there[better], new_costs[better]
            coefficients[chosen], residuals[chosen], x[chosen] = new_c[better], new_r[better], new_x[better]
            damping[active] = np.where(better, damping[active] / 10, damping[active] * 10)
            is_over = (moved < settled) | (damping[active] > 1e12)
            active = active[~is_over]
        return np.concatenate([coefficients / self._norms(points), self.scale(points)], 1)

    def _columns(
        self, points: Float[np.ndarray, "points k"]
    ) -> tuple[Float[np.ndarray, "points rows columns"], Float[np.ndarray, "points columns"]]:
        """Return the columns, divided by their means and weighted by rows, and these means."""
        x = self._law._stack(self._inputs, self.scale(points), self._losses)
        norms = x.mean(1)
        return x / norms[:, None] * self._rows[:, None], norms

    def _norms(self, points: Float[np.ndarray, "points k"]) -> Float[np.ndarray, "points columns"]:
        return self._columns(points)[1]

    def _fit(
        self, points: Float[np.ndarray, "draws k"], root: Float[np.ndarray, "draws rows"]
    ) -> tuple[
        Float[np.ndarray, "draws columns"],
        Float[np.ndarray, "draws rows"],
        Float[np.ndarray, "draws rows columns"],
    ]:
        x = self._columns(points)[0] * root[:, :, None]
        y = self._target * root
        gram, right = np.einsum("drc,dre->dce", x, x), np.einsum("drc,dr->dc", x, y)
        found, _ = solve_non_negative(gram, right)
        # A second solve on the residual removes the rounding of the squared condition.
        residuals = y - np.einsum("drc,dc->dr", x, found)
        found = found + solve_support(gram, np.einsum("drc,dr->dc", x, residuals), found > 0)
        found = np.maximum(found, 0.0)
        return found, y - np.einsum("drc,dc->dr", x, found), x

    def _differentiate(
        self,
        points: Float[np.ndarray, "draws k"],
        root: Float[np.ndarray, "draws rows"],
        coefficients: Float[np.ndarray, "draws columns"],
        x: Float[np.ndarray, "draws rows columns"],
    ) -> Float[np.ndarray, "draws rows k"]:
        """Return the derivative of the projected residual (Kaufman's): −P⊥ (∂X/∂θ) c."""
        gram = np.einsum("drc,dre->dce", x, x)
        found = []
        for k in range(points.shape[1]):
            shift = np.zeros_like(points)
            shift[:, k] = _STEP
            change = (self._columns(points + shift)[0] - self._columns(points - shift)[0]) / (2 * _STEP)
            moved = np.einsum("drc,dc->dr", change * root[:, :, None], coefficients)
            inside = solve_support(gram, np.einsum("drc,dr->dc", x, moved), coefficients > 0)
            found.append(np.einsum("drc,dc->dr", x, inside) - moved)
        return np.stack(found, -1)

    def _step(
        self,
        points: Float[np.ndarray, "draws k"],
        jacobian: Float[np.ndarray, "draws rows k"],
        residuals: Float[np.ndarray, "draws rows"],
        damping: Float[np.ndarray, "draws"],
    ) -> Float[np.ndarray, "draws k"]:
        gradient = np.einsum("drk,dr->dk", jacobian, residuals)
        # A point at an end stays there while the gradient points outwards.
        is_held = ((points <= 0) & (gradient > 0)) | ((points >= 1) & (gradient < 0))
        jacobian = np.where(is_held[:, None], 0.0, jacobian)
        normal = np.einsum("drk,drl->dkl", jacobian, jacobian)
        diagonal = np.einsum("dkk->dk", normal)
        least = 1e-12 * (1e-300 + diagonal.max(1, keepdims=True))
        steady = np.maximum(diagonal, least) * damping[:, None] + least
        normal = normal + steady[:, :, None] * np.eye(points.shape[1])
        free = np.where(is_held, 0.0, gradient)
        return -np.linalg.solve(normal, free[..., None])[..., 0]


def solve_non_negative(
    gram: Float[np.ndarray, "*points columns columns"], right: Float[np.ndarray, "*points columns"]
) -> tuple[Float[np.ndarray, "*points columns"], Float[np.ndarray, "*points"]]:
    """Minimize c·Gc − 2 c·b over c ≥ 0 exactly, by trying every set of columns; return c and the gain −(c·Gc
    − 2 c·b). For a few columns.
    """
    best, gain = np.zeros_like(right), np.zeros(right.shape[:-1])
    for size in range(1, right.shape[-1] + 1):
        for chosen in combinations(range(right.shape[-1]), size):
            at = list(chosen)
            part = _solve(gram[..., at, :][..., :, at], right[..., at])
            value = (part * right[..., at]).sum(-1)
            is_better = (part >= 0).all(-1) & (value > gain)
            candidate = np.zeros_like(right)
            candidate[..., at] = part
            best = np.where(is_better[..., None], candidate, best)
            gain = np.where(is_better, value, gain)
    return best, gain


def solve_support(
    gram: Float[np.ndarray, "draws columns columns"],
    right: Float[np.ndarray, "draws columns"],
    is_used: Bool[np.ndarray, "draws columns"],
) -> Float[np.ndarray, "draws columns"]:
    """Solve G c = b on the used columns; 0 elsewhere."""
    used = is_used.astype(np.float64)
    masked = gram * used[:, :, None] * used[:, None, :] + (1 - used)[:, :, None] * np.eye(gram.shape[-1])
    return _solve(masked, right * used)


def _solve(
    gram: Float[np.ndarray, "*points columns columns"], right: Float[np.ndarray, "*points columns"]
) -> Float[np.ndarray, "*points columns"]:
    """Solve with a ridge at rounding level: a draw may hold one column twice."""
    trace = np.einsum("...cc->...c", gram)
    ridge = 1e-15 * trace.max(-1)[..., None, None] * np.eye(gram.shape[-1])
    return np.linalg.solve(gram + ridge + 1e-300 * np.eye(gram.shape[-1]), right[..., None])[..., 0]


def _reaches_end(exponent: Exponent, estimate: Estimate) -> bool:
    low, high = exponent.unscale(np.array([estimate.low, estimate.high]))
    return bool(low < _AT_END or high > 1 - _AT_END)


def _count_side(points: int, num_exponents: int) -> int:
    """Return the points of each exponent in a grid of at most `points`."""
    return max(3, math.floor(points ** (1 / num_exponents) + 1e-9))


def _num_rows(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())))
