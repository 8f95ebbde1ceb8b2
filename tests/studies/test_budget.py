"""Which trials a budget is spent on, and that a run within it stops and goes on."""

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimask.cli.entry import main
from trimask.parallel import Local
from trimask.studies.budget import Budget, measure_pace, order_pending, plan_budget
from trimask.studies.known import Known
from trimask.studies.progress import Progress
from trimask.studies.run import run_study
from trimask.studies.store import Results
from trimask.studies.trial import Result

from . import chained

GRID = tuple(float(x) for x in range(6))  # of costs 1 to 6
REQUEST = {"study": f"{chained.__file__}:parabola", "short": False, "data": [], "overrides": {}}


class Wide(chained.Measured):
    """Six trials; those with the largest x tell most."""

    __dataclass_fields__ = {}  # noqa: RUF012

    def trials(self, results: Mapping[str, Result]) -> tuple[chained.Point, ...]:
        return tuple(chained.Point(factors={"x": x}, cost=n) for n, x in enumerate(GRID, 1))

    def rank(
        self, trials: Sequence[chained.Point], results: Mapping[str, Result], known: Known
    ) -> Sequence[chained.Point]:
        return sorted(trials, key=lambda trial: -float(trial.factors["x"]))

    def findings(self, results: Sequence[Result]) -> Any:
        raise AssertionError


class Losing(Wide):
    def rank(
        self, trials: Sequence[chained.Point], results: Mapping[str, Result], known: Known
    ) -> Sequence[chained.Point]:
        return trials[1:]


def timed(folder: Path, *seconds: float) -> Progress:
    """The study with results of its first trials, which took so long."""
    store = Results(folder)
    for trial, each in zip(Wide().trials({}), seconds, strict=False):
        store.add(
            Result(factors=trial.factors, fingerprint=trial.fingerprint, seconds=each, figures={"loss": 1.0})
        )
    return Progress.read(Wide(), folder)


def names(trials: Sequence[Any]) -> list[str]:
    return [trial.name for trial in trials]


def test_the_cheapest_come_first_and_equal_ones_as_the_study_lists_them(tmp_path: Path) -> None:
    study = chained.Parabola()
    trials = [
        chained.Point(factors={"x": x}, cost=cost) for x, cost in ((1.0, 2), (2.0, 1), (3.0, 2), (4.0, 1))
    ]
    ranked = study.rank(trials, {}, Known())
    assert names(ranked) == ["x=2.0", "x=4.0", "x=1.0", "x=3.0"]


def test_a_study_decides_the_order_and_only_that(tmp_path: Path) -> None:
    assert names(order_pending(timed(tmp_path, 1.0))) == ["x=5.0", "x=4.0", "x=3.0", "x=2.0", "x=1.0"]
    with pytest.raises(ValueError, match=r"Losing\.rank must return the trials that it is given"):
        order_pending(Progress.read(Losing(), tmp_path))


def test_the_pace_is_that_of_all_trials_done(tmp_path: Path) -> None:
    assert measure_pace(timed(tmp_path)) is None
    assert measure_pace(timed(tmp_path, 2.0, 7.0)) == 3.0  # 9 seconds for a cost of 1 + 2


def test_what_does_not_fit_is_passed_over(tmp_path: Path) -> None:
    progress = timed(tmp_path, 10.0)  # 60, 50, 40, 30, 20 seconds are left, in this order
    planned = plan_budget(progress, 100.0, workers=1)
    assert [(each.seconds, each.fits) for each in planned] == [
        (60.0, True),
        (50.0, False),
        (40.0, True),
        (30.0, False),
        (20.0, False),
    ]
    assert [each.fits for each in plan_budget(progress, None, workers=1)] == [None] * 5
    unknown = plan_budget(timed(tmp_path / "new"), 100.0, workers=1)
    assert {(each.seconds, each.fits) for each in unknown} == {(None, None)}
    given_pace = plan_budget(timed(tmp_path / "new"), 100.0, workers=1, pace=1.0)
    assert [each.seconds for each in given_pace] == [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]


@given(budget=st.integers(0, 25), workers=st.integers(1, 3))
def test_what_fits_ends_in_time_on_each_worker(
    tmp_path_factory: pytest.TempPathFactory, budget: int, workers: int
) -> None:
    """Against all ways to put the chosen trials on the workers: one of them must end in time; and a trial
    left out would not have fitted on the worker that was free first.
    """
    planned = plan_budget(timed(tmp_path_factory.mktemp("plan")), float(budget), workers=workers, pace=1.0)
    chosen = [each.seconds or 0.0 for each in planned if each.fits]
    ways = itertools.product(range(workers), repeat=len(chosen))
    loads = [np.bincount(way, chosen, workers) for way in ways] if chosen else [np.zeros(workers)]
    assert any(load.max() <= budget for load in loads)
    if workers == 1:
        left = float(budget)
        for each in planned:
            assert each.seconds is not None and each.fits == (each.seconds <= left)
            left -= each.seconds if each.fits else 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the trials turn on: a trial of cost c takes 10 c seconds."""
    now = [0.0]
    measure = chained.Measured.measure

    def slow(self: Any, trial: chained.Point, folder: Path, tokens: Path) -> dict[str, float]:
        now[0] += 10.0 * trial.cost
        return measure(self, trial, folder, tokens)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(chained.Measured, "measure", slow)
    return now


def run(out: Path, seconds: float | None) -> list[str]:
    budget = None if seconds is None else Budget(seconds=seconds, began=time.monotonic())
    found = run_study(chained.Parabola(), out, request=REQUEST, engine=Local(workers=1), budget=budget)
    return [result.name for result in found]


def test_a_run_stops_in_time_and_goes_on(tmp_path: Path, clock: list[float]) -> None:
    """Costs 1, 2, 3 and, with their results, 10: of 10, 20, 30 and 100 seconds."""
    assert run(tmp_path, 35.0) == ["x=0.0", "x=2.0"] and clock[0] == 30.0
    assert run(tmp_path, 5.0) == ["x=0.0", "x=2.0"] and clock[0] == 30.0
    assert run(tmp_path, 130.0) == ["x=0.0", "x=2.0", "x=4.0", "x=3.0,stage=check"] and clock[0] == 160.0
    assert run(tmp_path, None) == run(tmp_path, 1.0) and clock[0] == 160.0


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    study = f"{chained.__file__}:parabola"
    assert main(["study", "plan", study, "--budget", "1", "--workers=1"]) == 0
    assert "time: unknown until the first trial is done" in capsys.readouterr().out
    assert run(tmp_path / "out2", 15.0) == ["x=0.0"]
    words = ["study", "plan", study, "--out", str(tmp_path / "out2"), "--budget", "0.01", "--workers=1"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "x=2.0" in printed and "about 20 s, fits" in printed and "about 30 s, too long" in printed
    assert "0.01 hours with 1 at a time are enough for 1 of 2" in printed
    assert main([*words, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["seconds_per_cost"] == 10.0
    assert [row["fits_budget"] for row in planned["trials"]] == [None, True, False]
    out = str(tmp_path / "out2")  # whose next trial would take 20 seconds of the 11
    assert main(["study", "run", study, "--out", out, "--budget=0.003", "--workers=1"]) == 0
    assert "--budget 0.003 hours: 2 trials are left" in capsys.readouterr().err
    assert main(["study", "plan", study, "--budget", "-1"]) == 2
    assert "--budget is -1" in capsys.readouterr().err


def test_plan_checks_results_as_run_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, out = f"{chained.__file__}:parabola", tmp_path / "out"
    assert main(["study", "run", study, "--out", str(out), "--workers=1"]) == 0
    rows = list(Results(out).by_name.values())
    (out / "results.jsonl").unlink()
    store = Results(out)
    for row in rows:
        store.add(replace(row, fingerprint="other") if row.name == "x=3.0,stage=check" else row)
    for action in ("plan", "run"):
        assert main(["study", action, study, "--out", str(out), "--workers=1"]) in (1, 2)
        told = capsys.readouterr().err
        assert "has changed" in told or "is of another configuration" in told
    assert main(["study", "plan", "horizon", "--out", str(out)]) in (1, 2)
    assert "holds a study of type 'Parabola', and this one's is 'Horizon'" in capsys.readouterr().err
