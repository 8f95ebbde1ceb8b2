"""Progress of a study."""

import time
from typing import TYPE_CHECKING, final

from trimask.cli.console import say
from trimask.cli.progress import JobProgress

if TYPE_CHECKING:
    from trimask.studies.run import StudyProgress


@final
class ShownProgress:
    """A callback that shows trials done, the newest one, and the time left.

    The time left is that of the trials known to be needed; results may add more.

    Attributes:
        num_left: trials without a result.
    """

    def __init__(self, progress: JobProgress) -> None:
        self._progress = progress
        self._began: tuple[float, int] | None = None
        self.num_left = 0

    def __call__(self, done: "StudyProgress") -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = (now, done.cost_done)
            if done.num_done:
                say(f"{done.num_done} of {done.num_trials} trials were done before")
        began, cost_before = self._began
        fresh = done.cost_done - cost_before
        left = (now - began) / fresh * (done.cost - done.cost_done) if fresh > 0 else None
        figures = ""
        if done.newest is not None:
            figures = f"{done.newest.name}: {done.newest.seconds:,.0f} s"
        self.num_left = done.num_trials - done.num_done
        self._progress.update(done.num_done, done.num_trials, figures, seconds_left=left)
