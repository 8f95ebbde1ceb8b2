"""One background thread that runs one job at a time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final


@final
class Background:
    """Runs at most one job at a time; `wait` raises its error, once, in the calling thread."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._job: Future[None] | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Start `job`; the previous one must have been waited for."""
        assert self._job is None, "a job is still under way"
        self._job = self._executor.submit(job)

    @property
    def has_failed(self) -> bool:
        """Whether the job has failed with an error not yet raised. Does not wait."""
        return self._job is not None and self._job.done() and self._job.exception() is not None

    def settle(self) -> None:
        """Wait until the job is done; keep its error for `wait`."""
        if self._job is not None:
            self._job.exception()

    def wait(self) -> None:
        """Wait until the job is done; raise its error."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def close(self) -> None:
        """End the thread once it is idle."""
        self._executor.shutdown()
