"""Progress of a study."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from trimask.cli.console import say
from trimask.cli.progress import JobProgress

if TYPE_CHECKING:
    from trimask.studies.run import StudyProgress


def study_progress(progress: JobProgress) -> "Callable[[StudyProgress], None]":
    """Return a callback that shows trials done, the newest one, and the time left.

    The time left is that of the trials known to be needed; results may add more.
    """
    began: list[tuple[float, int]] = []

    def update(done: "StudyProgress") -> None:
        now = time.monotonic()
        if not began:
            began.append((now, done.cost_done))
            if done.num_done:
                say(f"{done.num_done} of {done.num_trials} trials were done before")
        fresh = done.cost_done - began[0][1]
        left = (now - began[0][0]) / fresh * (done.cost - done.cost_done) if fresh > 0 else None
        figures = ""
        if done.newest is not None:
            figures = f"{done.newest.name}: {done.newest.seconds:,.0f} s"
        progress.update(done.num_done, done.num_trials, figures, seconds_left=left)

    return update
