"""Which trials a number of hours is spent on: in the study's order of what they tell, as far as they fit."""

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from trimask.errors import UserError
from trimask.studies.progress import Progress
from trimask.studies.trial import AnyTrial


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """A missing trial, the seconds that it will take, and whether it ends within the budget; None where no
    trial has been timed yet, or there is no budget.
    """

    trial: AnyTrial
    seconds: float | None
    fits: bool | None


def measure_pace(progress: Progress) -> float | None:
    """Return the seconds per unit of cost of the trials that are done; None before the first."""
    by_name = progress.results.by_name
    done = [trial for trial in progress.trials() if trial.name in by_name]
    cost = sum(map(progress.study.estimate_cost, done))
    return sum(by_name[trial.name].seconds for trial in done) / cost if cost else None


def order_pending(progress: Progress) -> list[AnyTrial]:
    """Return the missing trials in the order in which a budget is spent on them.

    Raises:
        UserError: the study's `rank` returns other trials than it was given.
    """
    pending = progress.pending()
    ranked = list(progress.study.rank(pending, progress.results.by_name, progress.known))
    if sorted(trial.name for trial in ranked) != sorted(trial.name for trial in pending):
        raise UserError(
            f"{type(progress.study).__name__}.rank must return the trials that it is given, in another order"
        )
    return ranked


def plan_budget(
    progress: Progress, budget: float | None, *, workers: int, pace: float | None = None
) -> list[Forecast]:
    """Return the missing trials in order, each with its time and whether it fits into `budget` seconds with
    `workers` trials at the same time. A trial that does not fit is passed over for those that do.

    Args:
        pace: seconds per unit of cost, instead of those measured.
    """
    pace = measure_pace(progress) if pace is None else pace
    free = [0.0] * workers  # when each worker has ended its trials
    found = []
    for trial in order_pending(progress):
        seconds = None if pace is None else pace * progress.study.estimate_cost(trial)
        fits = None
        if seconds is not None and budget is not None:
            fits = free[0] + seconds <= budget
            if fits:
                heapq.heapreplace(free, free[0] + seconds)
        found.append(Forecast(trial=trial, seconds=seconds, fits=fits))
    return found


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Seconds from `began` on (`time.monotonic`) in which trials are started."""

    seconds: float
    began: float

    def start(self, progress: Progress) -> Iterator[AnyTrial]:
        """Yield the next trial to start while one is expected to end in time, given the results by then.
        Before the first result nothing is known of their time: trials are started while any time is left.
        """
        started: set[str] = set()
        while (trial := self._next(progress, started)) is not None:
            started.add(trial.name)
            yield trial

    def _next(self, progress: Progress, started: set[str]) -> AnyTrial | None:
        left = self.began + self.seconds - time.monotonic()
        pace = measure_pace(progress) or 0.0
        for trial in order_pending(progress) if left > 0 else ():
            if trial.name not in started and pace * progress.study.estimate_cost(trial) <= left:
                return trial
        return None
