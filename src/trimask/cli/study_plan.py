"""The table of a study's trials: what each does, what it costs, and what a budget has time for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trimask.cli.console import print_json

if TYPE_CHECKING:
    from trimask.studies.progress import Progress

_HOUR = 3600


def describe_trials(
    progress: "Progress", *, budget: float | None, workers: int, pace: float | None
) -> list[dict[str, Any]]:
    """Describe the trials as JSON objects: in the study's order, or those that are done and then the missing
    ones in the order in which `budget` (hours) is spent. `pace` is in seconds per unit of cost.
    """
    from trimask.studies.budget import plan_budget

    study, done = progress.study, progress.results.by_name
    trials = list(progress.trials())
    whole = sum(map(study.estimate_cost, trials))
    seconds = None if budget is None else budget * _HOUR
    planned = plan_budget(progress, seconds, workers=workers, pace=pace)
    forecasts = {each.trial.name: each for each in planned}
    if budget is not None:
        trials = [t for t in trials if t.name in done] + [each.trial for each in planned]
    rows = []
    for trial in trials:
        forecast = forecasts.get(trial.name)
        rows.append(
            {
                "trial": trial.name,
                **study.describe_work(trial),
                "cost": study.estimate_cost(trial),
                "share_of_cost": study.estimate_cost(trial) / whole,
                "seconds": done[trial.name].seconds if trial.name in done else None,
                "expected_seconds": None if forecast is None else forecast.seconds,
                "fits_budget": None if forecast is None else forecast.fits,
            }
        )
    return rows


def print_plan(
    name: str,
    progress: "Progress",
    *,
    budget: float | None,
    workers: int,
    pace: float | None,
    as_json: bool,
) -> None:
    """Print the trials, what they take, and which of them `budget` hours are enough for."""
    from trimask.studies.budget import measure_pace

    rows = describe_trials(progress, budget=budget, workers=workers, pace=pace)
    pace = measure_pace(progress) if pace is None else pace
    if as_json:
        print_json({"study": name, "seconds_per_cost": pace, "trials": rows})
        return
    if not rows:
        print("no trials yet")
        return
    width = max(len(row["trial"]) for row in rows)
    units = list(progress.study.describe_work(progress.trials()[0]))
    heads = "".join(f" {unit.replace('_', ' '):>11}" for unit in units)
    print(f"{'trial':<{width}}{heads} {'of cost':>8}  done")
    for row in rows:
        work = "".join(f" {row[unit]:>11,}" for unit in units)
        print(f"{row['trial']:<{width}}{work} {row['share_of_cost']:>8.1%}  {_state(row)}".rstrip())
    num_done = len([row for row in rows if row["seconds"] is not None])
    more = "" if len(progress.results.by_name) == len(rows) else "; their results may add more"
    print(f"{len(rows)} trials, {num_done} done{more}")
    print(_summary(rows, budget=budget, workers=workers, pace=pace))


def _state(row: dict[str, Any]) -> str:
    if row["seconds"] is not None:
        return f"{row['seconds']:,.0f} s"
    if row["expected_seconds"] is None:
        return ""
    expected = f"about {row['expected_seconds']:,.0f} s"
    return expected + {True: ", fits", False: ", too long for the budget", None: ""}[row["fits_budget"]]


def _summary(
    rows: Sequence[dict[str, Any]], *, budget: float | None, workers: int, pace: float | None
) -> str:
    missing = [row for row in rows if row["seconds"] is None]
    if not missing:
        return "nothing is missing"
    if pace is None:
        return (
            "time: unknown until the first trial is done (then give --out), or give --seconds-per-cost, "
            "which --json shows for a study on the same machine"
        )
    hours = sum(row["expected_seconds"] for row in missing) / _HOUR
    text = f"time: {hours:.2g} hours of one process at {pace:.3g} seconds per unit of cost"
    if budget is None:
        return text
    fitting = [row for row in missing if row["fits_budget"]]
    return (
        f"{text}; {budget:g} hours with {workers} at a time are enough for {len(fitting)} of {len(missing)}"
    )
