"""Two tiny studies whose trials cost nothing: one that derives a value, and one that uses its results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from trimask.studies.findings import Claim, Findings
from trimask.studies.known import Known
from trimask.studies.question import Question
from trimask.studies.store import DerivedValues
from trimask.studies.trial import Factor, Result, trial_name


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """Measure the loss at x; `cost` is its relative time."""

    factors: Mapping[str, Factor]
    cost: int = 1

    @property
    def name(self) -> str:
        return trial_name(self.factors)

    @property
    def fingerprint(self) -> str:
        return f"{self.factors['x']!r}"


class Measured(Question[Point]):
    """What both have in common."""

    __slots__ = ()

    def measure(self, trial: Point, folder: Path, tokens: Path) -> dict[str, float]:
        stored = DerivedValues(tokens.parent).values  # by the time at which the trial starts
        return {"loss": (float(trial.factors["x"]) - 3.0) ** 2, "num_stored": float(len(stored))}

    def with_data(self, folders: Sequence[Path]) -> "Measured":
        return self

    def make_tokens(self, tokens: Path, report: Callable[[str], None]) -> None: ...

    def estimate_cost(self, trial: Point) -> int:
        return trial.cost

    def describe_work(self, trial: Point) -> Mapping[str, int]:
        return {"points": 1}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Parabola(Measured):
    """Measures a grid, derives its minimum and a forecast of the loss there, then measures there."""

    grid: tuple[float, ...] = (0.0, 2.0, 4.0)

    def trials(self, results: Mapping[str, Result]) -> tuple[Point, ...]:
        return tuple(Point(factors={"x": x}, cost=n) for n, x in enumerate(self.grid, 1))

    def derive(self, results: Mapping[str, Result], known: Known) -> Mapping[str, Any]:
        names = [trial.name for trial in self.trials(results)]
        if not all(name in results for name in names):
            return {}
        (x0, y0), (x1, y1), (x2, y2) = [
            (float(results[name].factors["x"]), results[name].figure("loss")) for name in names
        ]
        slope = (y1 - y0) / (x1 - x0)
        curvature = ((y2 - y1) / (x2 - x1) - slope) / (x2 - x0)
        best = (x0 + x1) / 2 - slope / (2 * curvature)
        found: dict[str, Any] = {"best": best}
        if "best" in known.derived:  # a value may come from another one
            found["forecast"] = [y0 + (best - x0) * (slope + curvature * (best - x1))]
        return found

    def further_trials(self, results: Mapping[str, Result], known: Known) -> tuple[Point, ...]:
        if "forecast" not in known.derived:
            return ()
        return (Point(factors={"x": known.derived["best"], "stage": "check"}, cost=10),)

    def findings(self, results: Sequence[Result]) -> Findings:
        return self.findings_given(results, Known())

    def findings_given(self, results: Sequence[Result], known: Known) -> Findings:
        checks = [result for result in results if "stage" in result.factors]
        holds = checks[0].figure("loss") == known.derived["forecast"][0] if checks else None
        return Findings(claims=(Claim(text="as forecast", holds=holds),), tables=(), pictures={})


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Around(Measured):
    """Measures beside the minimum that a `parabola` found."""

    @property
    def needs(self) -> Mapping[str, str]:
        return {"grid": "chained.py:parabola"}

    def trials(self, results: Mapping[str, Result]) -> tuple[Point, ...]:
        return ()

    def further_trials(self, results: Mapping[str, Result], known: Known) -> tuple[Point, ...]:
        best = known.used["grid"].derived["best"]
        return tuple(Point(factors={"x": best + step}) for step in (-0.5, 0.5))

    def findings(self, results: Sequence[Result]) -> Findings:
        text = ", ".join(f"{result.name}: {result.figure('loss'):g}" for result in results)
        return Findings(claims=(Claim(text=text, holds=None),), tables=(), pictures={})


def parabola() -> Parabola:
    """Where is the loss least?"""
    return Parabola()


def around() -> Around:
    """What is the loss beside the minimum?"""
    return Around()
