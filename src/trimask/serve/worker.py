"""The thread in which all models run, so that the event loop never waits for a step."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import final

from trimask.generation.results import Results
from trimask.serve.job import Began, Ended, Failed, Job, Made, Message, Watch, Watched
from trimask.serve.scheduler import Scheduler

_LOG = logging.getLogger("trimask.serve")


@final
class Worker:
    """Runs the steps of several models in turn, in one thread: they share the machine's cores or its GPU."""

    def __init__(self, schedulers: Mapping[str, Scheduler]):
        self.schedulers = schedulers
        self.failure: BaseException | None = None
        self._wake, self._is_stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="trimask-steps", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, model: str, job: Job) -> None:
        """Take a request to a model. Raises Busy."""
        self.schedulers[model].submit(job)
        self._wake.set()

    def stop(self) -> None:
        """Carry out what was taken, then end the thread."""
        self._is_stopping = True
        self._wake.set()
        if self.is_alive:
            self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                self._wake.clear()
                are_left = [each.step() for each in self.schedulers.values()]
                if any(are_left):
                    continue
                if self._is_stopping:
                    return
                self._wake.wait()
        except BaseException as error:
            self.failure = error
            _LOG.exception("the thread of the models has failed: restart the server")
            for scheduler in self.schedulers.values():
                scheduler.abandon(RuntimeError("the thread of the models has failed"))

    async def carry_out(
        self, model: str, prepared: Iterable[Callable[[], Results]], *, watch: Watch | None = None
    ) -> AsyncGenerator[tuple[int, Began | Watched | Made], None]:
        """Carry out some requests to a model together; yield what each tells, with its number among them.
        They are cancelled when the caller leaves.

        Raises: Busy before the first is carried out; what the first that fails raises.
        """
        loop, told = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Message]]()

        def tell_as(number: int) -> Callable[[Message], None]:
            def tell(message: Message) -> None:
                with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody listens
                    loop.call_soon_threadsafe(told.put_nowait, (number, message))

            return tell

        jobs: list[Job] = []
        try:
            for number, prepare in enumerate(prepared):
                jobs.append(Job(prepare, tell_as(number), watch=watch))
                self.submit(model, jobs[-1])
            num_left = len(jobs)
            while num_left:
                number, message = await told.get()
                if isinstance(message, Failed):
                    raise message.error
                if isinstance(message, Ended):
                    num_left -= 1
                else:
                    yield number, message
        finally:
            for job in jobs:
                job.cancel()
