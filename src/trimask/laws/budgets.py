"""Budgets of compute: rows grouped by C, the forecast of each budget by the smaller ones, and isoFLOP
parabolas.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int

from trimask.errors import UserError
from trimask.laws.fitting import Fit, Inputs, Law, NotIdentified, fit_law
from trimask.laws.scaling import FLOPS_PER_TOKEN

_APART = 1.25  # ratio of neighbouring compute that begins another budget
_WIDEST = 1.6  # ratio within a budget
_MOST = 16  # budgets
_EQUAL = 12  # budgets of equal ratios, if the rows have more than that
_LEAST_SIZES = 4  # of a parabola
_TREND = 4  # forecasts that err to one side: noise does so in one of eight

PARABOLA_WARNING = (
    "Parabolas of the loss over log N are biased even without noise where alpha ≠ beta: by 1.7 to 23 % in D* "
    "on an asymmetric surface, growing with the width of the grid (arXiv 2603.22339). They are drawn for the "
    "eye; no exponent is taken from them."
)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Budgets:
    """Rows grouped by compute: `flops` of each budget (a geometric mean), ascending, and the budget of each
    row.
    """

    flops: Float[np.ndarray, "budgets"]
    of_row: Int[np.ndarray, "rows"]


def group_budgets(flops: Float[np.ndarray, "rows"]) -> Budgets:
    """Group rows whose compute is alike: a gap of 25 %, or 60 % above the least, begins another budget. If
    that makes more than 16, there are 12 of equal ratios instead.
    """
    if not (len(flops) and np.isfinite(flops).all() and (flops > 0).all()):
        raise UserError("compute must be finite and above 0 in every row")
    order = np.argsort(flops, kind="stable")
    logs = np.log(flops[order])
    number = np.zeros(len(logs), dtype=np.int64)
    first = 0
    for row in range(1, len(logs)):
        is_new = logs[row] - logs[row - 1] > np.log(_APART) or logs[row] - logs[first] > np.log(_WIDEST)
        number[row] = number[row - 1] + is_new
        first = row if is_new else first
    if number[-1] >= _MOST:
        bins = np.minimum((logs - logs[0]) / (logs[-1] - logs[0]) * _EQUAL, _EQUAL - 1).astype(np.int64)
        number = np.unique(bins, return_inverse=True)[1]
    of_row = np.empty(len(flops), dtype=np.int64)
    of_row[order] = number
    centres = np.array([np.exp(logs[number == i].mean()) for i in range(number[-1] + 1)])
    return Budgets(flops=centres, of_row=of_row)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """A budget forecast by a fit to all smaller ones.

    Attributes:
        flops: of the forecast budget; num_rows: of the fit.
        error: mean of predicted over measured loss, minus 1, over the budget's rows.
        largest: the largest of these, with its sign.
    """

    flops: float
    num_rows: int
    error: float
    largest: float


def forecast_budgets(
    law: Law, inputs: Inputs, losses: Float[np.ndarray, "rows"], budgets: Budgets
) -> tuple[Forecast, ...]:
    """Fit the smallest k budgets and forecast the next, for each k whose rows suffice (leave-future-out)."""
    found = []
    for k in range(1, len(budgets.flops)):
        past, next_ = budgets.of_row < k, budgets.of_row == k
        try:
            fit = fit_law(law, _rows(inputs, past), losses[past], num_draws=0)
        except NotIdentified:
            continue
        errors = law.predict(_rows(inputs, next_), fit.estimate[None])[0] / losses[next_] - 1
        largest = float(errors[np.abs(errors).argmax()])
        found.append(
            Forecast(
                flops=float(budgets.flops[k]),
                num_rows=int(past.sum()),
                error=float(errors.mean()),
                largest=largest,
            )
        )
    return tuple(found)


def describe_trend(fit: Fit, forecasts: Sequence[Forecast]) -> str:
    """Say whether the last four forecasts all err to one side, by more in the mean than the fit to all rows
    errs by (root mean square); "" if not. A forecast beyond the rows then errs to that side too.
    """
    errors = np.array([each.error for each in forecasts[-_TREND:]])
    rms = float(np.sqrt((fit.residuals**2).mean()))
    if len(errors) < _TREND or abs(np.sign(errors).sum()) < _TREND or abs(errors.mean()) <= rms:
        return ""
    side, falls = ("high", "faster") if errors[0] > 0 else ("low", "slower")
    return (
        f"The last {_TREND} budgets were all forecast too {side} by the smaller ones, by "
        f"{100 * abs(errors.mean()):.2f} % in the mean (the fit to all rows errs by {100 * rms:.2f} %): the "
        f"loss falls {falls} than the law. Expect the forecast of a larger run to be too {side} as well; its "
        "interval does not allow for this."
    )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Parabola:
    """The loss of a budget as a parabola over log N.

    Attributes:
        place: N of its minimum; None if it was refused, and `refusal` says why.
        polynomial: of log N, the highest power first.
    """

    flops: float
    sizes: tuple[float, ...]
    losses: tuple[float, ...]
    polynomial: tuple[float, float, float] | None
    place: float | None
    refusal: str = ""

    @property
    def data(self) -> float | None:
        """D at the minimum, by C = 6 N D."""
        return None if self.place is None else self.flops / FLOPS_PER_TOKEN / self.place


def fit_parabolas(
    sizes: Float[np.ndarray, "rows"], losses: Float[np.ndarray, "rows"], budgets: Budgets
) -> tuple[Parabola, ...]:
    """Fit a parabola to each budget. One without 4 sizes, without positive curvature or without its minimum
    among its sizes is refused.
    """
    return tuple(
        _fit_parabola(float(flops), sizes[budgets.of_row == i], losses[budgets.of_row == i])
        for i, flops in enumerate(budgets.flops)
    )


def _fit_parabola(
    flops: float, sizes: Float[np.ndarray, "rows"], losses: Float[np.ndarray, "rows"]
) -> Parabola:
    order = np.argsort(sizes, kind="stable")
    sizes, losses = sizes[order], losses[order]
    points = {"flops": flops, "sizes": tuple(sizes.tolist()), "losses": tuple(losses.tolist())}
    distinct = len(np.unique(sizes))
    if distinct < _LEAST_SIZES:
        return Parabola(
            **points,
            polynomial=None,
            place=None,
            refusal=f"{distinct} size{'s' * (distinct > 1)}, {_LEAST_SIZES} are needed",
        )
    x = np.log(sizes)
    middle = x.mean()
    curvature, slope, level = (float(each) for each in np.polyfit(x - middle, losses, 2))
    polynomial = (
        curvature,
        slope - 2 * curvature * middle,
        level - slope * middle + curvature * middle**2,
    )
    if curvature <= 0:
        return Parabola(**points, polynomial=polynomial, place=None, refusal="no positive curvature")
    lowest = float(np.exp(middle - slope / (2 * curvature)))
    if not sizes[0] < lowest < sizes[-1]:
        return Parabola(**points, polynomial=polynomial, place=None, refusal="no minimum among its sizes")
    return Parabola(**points, polynomial=polynomial, place=lowest)


def _rows(inputs: Inputs, chosen: Bool[np.ndarray, "rows"]) -> dict[str, np.ndarray]:
    return {name: values[chosen] for name, values in inputs.items()}
