"""What a fitted scaling law says: its optimum with intervals, its checks, and its pictures."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from trimask.estimate import Estimate
from trimask.laws.budgets import (
    PARABOLA_WARNING,
    Budgets,
    Forecast,
    Parabola,
    describe_trend,
    fit_parabolas,
    forecast_budgets,
    group_budgets,
)
from trimask.laws.fitting import Fit, Frontier, Huber, fit_law
from trimask.laws.log_huber import differ, refit
from trimask.laws.scaling import (
    FLOPS_PER_TOKEN,
    Bounded,
    Chinchilla,
    Pinned,
    PowerLaw,
    best_data_at,
    best_size,
    share_of_data,
    share_of_size,
)
from trimask.studies.findings import Curve, Findings, Panel, Table, format_estimate

_MOST_CURVES = 7
_POINTS = 13  # of a drawn law
_BEYOND = 100.0  # times the largest budget, the last row of the table of optima


def describe_power_law(fit: Fit) -> Findings:
    """Describe the optimum of a fit, what other ways to fit the rows give, and how it forecasts."""
    budgets = find_budgets(fit)
    parabolas = fit_parabolas(fit.inputs["n"], fit.losses, budgets)
    future, trend = check_future(fit, budgets)
    ends = [float(budgets.flops[0]), float(budgets.flops[-1])]
    shares = [format_estimate(fit.derive(share), 3) for share in (share_of_size, share_of_data)]
    checks = [(name, f"{share:.3f}", what) for name, share, what in check_otherwise(fit)]
    tables = (
        Table(
            title="Best size and data at compute C = 6 N D",
            header=("C", "N*", "D*"),
            rows=(
                *(
                    (format_number(flops), *map(format_interval, optimum_at(fit, flops)))
                    for flops in (*ends, _BEYOND * ends[1])
                ),
                ("∝ C^", *shares),
            ),
        ),
        Table(
            title=CHECKS,
            header=("fit", "a of N* ∝ C^a", "outside of the intervals"),
            rows=(("this one", shares[0], "–"), *checks),
        ),
        future,
        Table(
            title="isoFLOP parabolas, for comparison",
            header=PARABOLA_HEADER,
            rows=(*parabola_rows(fit, parabolas),),
        ),
    )
    panels = (
        draw_law(fit, "law (dashed) and runs", "D", "loss"),
        draw_optimum({"N*": fit}, np.geomspace(ends[0], ends[1], 7).tolist()),
        draw_parabolas(parabolas, "loss"),
    )
    return Findings(claims=(), tables=tables, pictures={"law": (panels,)}, notes=(*trend, PARABOLA_WARNING))


CHECKS = "The same rows fitted otherwise"
_FUTURE = (
    "Leave-future-out: each budget forecast by the smaller ones. E pinned is its value from all rows, so "
    "only the free one is a forecast"
)
_FUTURE_HEADER = ("C", "rows fitted", "mean error, E free", "E pinned")
PARABOLA_HEADER = ("C", "D of the parabola", "D* of the law")


def find_budgets(fit: Fit) -> Budgets:
    """Group the rows of a fit by C = 6 N D."""
    return group_budgets(FLOPS_PER_TOKEN * fit.inputs["n"] * fit.inputs["d"])


def format_number(value: float) -> str:
    """Format with three significant digits, large numbers with a power of ten."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.2e}".replace("e+0", "e").replace("e+", "e")


def format_interval(estimate: Estimate) -> str:
    """Format an estimate with its interval, if it has one, with three significant digits."""
    if not estimate.has_interval:
        return format_number(estimate.value)
    low, high = format_number(estimate.low), format_number(estimate.high)
    return f"{format_number(estimate.value)} [{low}, {high}]"


def format_change(value: float) -> str:
    """Format a relative error in percent."""
    return f"{100 * value:+.2f} %"


def optimum_at(fit: Fit, flops: float) -> tuple[Estimate, Estimate]:
    """Return N* and D* at compute C = 6 N D."""
    size = fit.derive(lambda draws: best_size(draws, flops))
    data = fit.derive(lambda draws: best_data_at(draws, flops))
    return size, data


def check_otherwise(fit: Fit, *, ceiling: float | None = None) -> Iterator[tuple[str, float, str]]:
    """Yield the name, the exponent a and what leaves the intervals of `fit`, for each other way to fit the
    same rows. `ceiling`: of the loss, for the bounded form, of which a alone is comparable.
    """
    if not isinstance(fit.law, PowerLaw):
        return
    ways = {"robust (Huber 1e-3, reweighted)": Huber(), "over-estimates × 10": Frontier()}
    others = {
        name: fit_law(fit.law, fit.inputs, fit.losses, units=fit.units, reweighting=way, num_draws=0).estimate
        for name, way in ways.items()
    }
    if isinstance(fit.law, Chinchilla):
        others["log-sum-exp, Huber 1e-3 of log L"] = refit(fit)
    for name, other in others.items():
        named = {each: other[None, i] for i, each in enumerate(fit.law.parameters)}
        yield name, float(share_of_size(named)[0]), ", ".join(differ(fit, other)) or "nothing"
    if ceiling is not None and ceiling > fit.losses.max():
        bounded = fit_law(Bounded(ceiling=ceiling), fit.inputs, fit.losses, units=fit.units, num_draws=0)
        share, own = bounded.derive(share_of_size).value, fit.derive(share_of_size)
        is_inside = own.low <= share <= own.high
        rms = 100 * float(np.sqrt((bounded.residuals**2).mean()))
        yield (
            f"bounded by L0 = {ceiling:.3g} (rms error {rms:.2f} %)",
            share,
            "nothing" if is_inside else "a",
        )


def check_future(fit: Fit, budgets: Budgets, what: str = "") -> tuple[Table, tuple[str, ...]]:
    """Return how each budget is forecast by the smaller ones, E free and pinned at the value of all rows; and
    a note if these forecasts err to one side. `what`: whose loss it is.
    """
    law = fit.law
    assert isinstance(law, PowerLaw), law
    forecasts = forecast_budgets(law, fit.inputs, fit.losses, budgets)
    title = f"{_FUTURE} ({what})" if what else _FUTURE
    rows = tuple(_forecast_rows(fit, law, forecasts, budgets))
    trend = describe_trend(fit, forecasts)
    notes = (f"{what}: {trend}" if what else trend,) if trend else ()
    return Table(title=title, header=_FUTURE_HEADER, rows=rows), notes


def _forecast_rows(
    fit: Fit, law: PowerLaw, forecasts: Sequence[Forecast], budgets: Budgets
) -> Iterator[tuple[str, ...]]:
    free = {each.flops: each for each in forecasts}
    pinned_law = Pinned(law=law, floor=float(fit.estimate[0]))
    pinned = {each.flops: each for each in forecast_budgets(pinned_law, fit.inputs, fit.losses, budgets)}
    for flops in sorted(free.keys() | pinned.keys()):
        rows = (free.get(flops) or pinned[flops]).num_rows
        errors = [format_change(each[flops].error) if flops in each else "–" for each in (free, pinned)]
        yield format_number(flops), f"{rows}", *errors


def parabola_rows(fit: Fit, parabolas: Sequence[Parabola]) -> Iterator[tuple[str, ...]]:
    """Yield the budget, D of the parabola's minimum or why there is none, and D* of the law."""
    for each in parabolas:
        data = each.data
        found = format_number(data) if data is not None else each.refusal
        yield format_number(each.flops), found, format_interval(optimum_at(fit, each.flops)[1])


def draw_law(fit: Fit, title: str, x_label: str, y_label: str) -> Panel:
    """Draw the loss over D: measured points, and the law at each size, dashed."""
    sizes = np.unique(fit.inputs["n"])
    shown = sizes[np.unique(np.linspace(0, len(sizes) - 1, min(_MOST_CURVES, len(sizes))).astype(int))]
    curves = []
    for size in shown:
        rows = np.flatnonzero(fit.inputs["n"] == size)
        rows = rows[np.argsort(fit.inputs["d"][rows], kind="stable")]
        # The other inputs, such as unique data, are those of the rows.
        law = fit.law.predict({name: each[rows] for name, each in fit.inputs.items()}, fit.estimate[None])[0]
        x = fit.inputs["d"][rows]
        label = f"N = {format_number(float(size))}"
        curves += [
            Curve(label=label, x=x.tolist(), y=fit.losses[rows].tolist(), is_points=True),
            Curve(label="", x=x.tolist(), y=law.tolist(), is_dashed=True),
        ]
    return Panel(title=title, x_label=x_label, y_label=y_label, curves=tuple(curves))


def draw_parabolas(parabolas: Sequence[Parabola], y_label: str) -> Panel:
    """Draw the loss over N for each budget, and its parabola, dashed."""
    curves = []
    drawn = [each for each in parabolas if each.polynomial is not None][-_MOST_CURVES:]
    for each in drawn:
        assert each.polynomial is not None
        x = np.geomspace(each.sizes[0], each.sizes[-1], _POINTS)
        label = f"C = {format_number(each.flops)}"
        y = np.polyval(each.polynomial, np.log(x))
        curves += [
            Curve(label=label, x=each.sizes, y=each.losses, is_points=True),
            Curve(label="", x=x.tolist(), y=y.tolist(), is_dashed=True),
        ]
    return Panel(title="isoFLOP (biased)", x_label="N", y_label=y_label, curves=tuple(curves))


def make_curve(label: str, x: Sequence[float], estimates: Sequence[Estimate]) -> Curve:
    """Make a curve of positive values with their intervals, of those that are finite."""
    kept = [(place, each) for place, each in zip(x, estimates, strict=True) if 0 < each.value < math.inf]
    has_interval = all(each.has_interval and each.low > 0 for _, each in kept)
    return Curve(
        label=label,
        x=[place for place, _ in kept],
        y=[each.value for _, each in kept],
        low=[each.low for _, each in kept] if has_interval else None,
        high=[each.high for _, each in kept] if has_interval else None,
    )


def draw_optimum(fits: Mapping[str, Fit], budgets: Sequence[float]) -> Panel:
    """Draw N* over C with its interval, one curve a fit."""
    curves = [
        make_curve(label, budgets, [optimum_at(fit, flops)[0] for flops in budgets])
        for label, fit in fits.items()
    ]
    return Panel(
        title="best size", x_label="C = 6 N D, FLOPs", y_label="N*", curves=tuple(curves), is_log_y=True
    )
