"""The forecast of a run beyond the grid: made and stored before that run, compared with it afterwards."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from trimask.estimate import Estimate
from trimask.laws.fitting import Fit
from trimask.questions.scaling.findings import format_change, format_interval, format_number
from trimask.questions.scaling.fits import BLOCKS, TARGETS, Fitted
from trimask.questions.scaling.repeats import find_doubts
from trimask.studies.findings import Claim, Table, format_estimate
from trimask.studies.trial import Factor, Result

_PLAIN = "plain"
_HEADER = ("loss", "law", "run", "forecast", "stored at (UTC)", "measured", "error")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run to forecast.

    Attributes:
        factors: its width and its sequences.
        size: its parameters in blocks.
        data: its target tokens.
        unique: by modality, the share of its data that is not a repeat, where that is known.
    """

    factors: Mapping[str, Factor]
    size: float
    data: float
    unique: Mapping[str, float]


def make_forecast(
    fitted: Fitted, others: Mapping[str, Mapping[str, Fit]], run: Run, *, num_fitted: int
) -> dict[str, Any]:
    """Return the forecast of each loss of `run` as JSON: its value with the interval of one more run, the
    law's parameters, and why they are not identified, if so.

    Args:
        others: fits of laws beside the plain one, by the name of the law.
        num_fitted: runs of the grid that are fitted.
    """
    rows = []
    for loss, reasons in fitted.reasons.items():
        row = {"loss": loss, "form": _PLAIN, "not_identified": list(reasons), "forecast": None}
        rows.append(row | (_project(fitted.fits[loss], loss, run) if loss in fitted.fits else {}))
        for form, fits in others.items():
            if loss in fits:
                row = {"loss": loss, "form": form, "not_identified": list(find_doubts(fits[loss]))}
                rows.append(row | _project(fits[loss], loss, run))
    return {**run.factors, BLOCKS: run.size, TARGETS: run.data, "fitted_runs": num_fitted, "losses": rows}


def has_forecast(value: Mapping[str, Any]) -> bool:
    """Return whether a loss could be forecast at all."""
    return any(row["forecast"] is not None for row in value["losses"])


def _project(fit: Fit, loss: str, run: Run) -> dict[str, Any]:
    point = {"n": run.size, "d": run.data, "u": run.data * run.unique.get(loss, 1.0)}
    inputs = {name: np.array([point[name]]) for name in fit.law.inputs}
    (forecast,) = fit.project(inputs, is_run=True)
    return {
        "law": fit.law.formula,
        "forecast": forecast.as_json(),
        "parameters": {name: each.as_json() for name, each in fit.parameters.items()},
        "rms_error": float(np.sqrt((fit.residuals**2).mean())),
    }


def compare_forecasts(
    stored: Mapping[str, Mapping[str, Any]],
    times: Mapping[str, str],
    beyond: Sequence[Result],
    preliminary: Mapping[str, Any] | None,
) -> tuple[Table | None, list[Claim], list[str]]:
    """Compare the runs beyond the grid with the forecasts as stored, never with a later fit: a table of all
    forecasts, claims about those whose run is done, and notes about runs that have none.

    Args:
        stored: forecasts by name, with their `times`.
        preliminary: a forecast that is not stored yet, since runs of the grid are missing.
    """
    by_name = {name_forecast(each.factors): each for each in beyond}
    rows: list[tuple[str, ...]] = []
    claims: list[Claim] = []
    for name, value in stored.items():
        made = times.get(name, "?")
        rows += _rows(value, made, by_name.get(name))
        if name in by_name:
            claims += _judge(value, made, by_name[name])
    if preliminary is not None:
        rows += _rows(preliminary, f"not yet: by {preliminary['fitted_runs']} runs", None)
    notes = [
        f"The run of {_place(result.factors)} was made before its forecast was stored: it is compared with "
        "none."
        for name, result in by_name.items()
        if name not in stored
    ]
    title = (
        "Forecasts of runs beyond the grid, which no fit has seen: as stored before the run, not computed "
        "again. The plain law takes repeated data for new and has no ceiling"
    )
    return (Table(title=title, header=_HEADER, rows=tuple(rows)) if rows else None), claims, notes


def name_forecast(factors: Mapping[str, Factor]) -> str:
    """Return the name under which the forecast of a run of this width and number of sequences is stored."""
    return f"forecast/width={factors['width']},sequences={factors['sequences']}"


def _rows(value: Mapping[str, Any], made: str, result: Result | None) -> Iterator[tuple[str, ...]]:
    for row, forecast in _forecasts(value):
        measured = math.inf if result is None else result.figure(row["loss"])
        found = ("–", "–")
        if result is not None and not math.isfinite(measured):
            found = ("diverged", "–")
        elif result is not None:
            found = (format_number(measured), format_change(forecast.value / measured - 1))
        law = f"{row['form']}, not identified" if row["not_identified"] else row["form"]
        yield row["loss"], law, _place(value), format_interval(forecast), made, *found


def _judge(value: Mapping[str, Any], made: str, result: Result) -> Iterator[Claim]:
    for row, forecast in _forecasts(value):
        measured, place = result.figure(row["loss"]), _place(result.factors)
        claim = (
            f"{row['loss']}: the loss at {place} is within the interval forecast by the {row['form']} law at "
            f"{made}"
        )
        if not math.isfinite(measured):
            yield Claim(text=f"{claim}: the run diverged", holds=None)
            continue
        text = (
            f"{claim}: {format_estimate(forecast, 3)}, measured {measured:.3f} "
            f"({format_change(forecast.value / measured - 1)})"
        )
        if row["not_identified"]:
            text += "; the law was not identified then"
        holds = forecast.low <= measured <= forecast.high if forecast.has_interval else None
        yield Claim(text=text, holds=holds)


def _forecasts(value: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Estimate]]:
    for row in value["losses"]:
        if row["forecast"] is not None:
            yield row, Estimate(**{"low": -math.inf, "high": math.inf} | row["forecast"])


def _place(factors: Mapping[str, Factor]) -> str:
    return f"width {factors['width']}, {int(factors['sequences']):,} sequences"
