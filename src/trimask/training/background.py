"""One thread that does one job at a time while the run goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final


@final
class Background:
    """At most one job is under way. Its error is raised by `wait`, once, in the thread that calls it."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._job: Future[None] | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Begins `job`; the one before must have been waited for."""
        assert self._job is None, "a job is still under way"
        self._job = self._executor.submit(job)

    @property
    def has_failed(self) -> bool:
        """Whether the job is done and ended in an error that was not raised yet. Does not wait."""
        return self._job is not None and self._job.done() and self._job.exception() is not None

    def settle(self) -> None:
        """Waits until no job is under way; an error stays for `wait` to raise."""
        if self._job is not None:
            self._job.exception()

    def wait(self) -> None:
        """Waits until no job is under way; raises its error."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def close(self) -> None:
        """Ends the thread, once it is idle."""
        self._executor.shutdown()
