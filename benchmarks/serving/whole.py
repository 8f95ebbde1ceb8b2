"""The twin: a server that batches whole requests, with all else as in ours.

    python -m benchmarks.serving.whole --port 0

It takes the first request that waits and all others of its task, as many as fit, and runs them to their end
before it takes more: the way of servers that batch calls of a model's `generate`. It has our packing, so
nothing is padded, and sequences that are full leave the network; elsewhere such requests are padded to the
longest, and computed until the last is full.
"""

import argparse
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, final

import trimask
from trimask.cli.console import print_json
from trimask.generation.doubts import doubt, hear_doubts
from trimask.generation.results import Results
from trimask.serve import server
from trimask.serve.app import create_app
from trimask.serve.job import Ended, Failed, Job, Made, Message
from trimask.serve.scheduler import Busy, Scheduler
from trimask.serve.service import Service


@final
class WholeRequests:
    """In place of a `Scheduler`: holds requests back until it is their batch's turn."""

    def __init__(self, inner: Scheduler):
        self.inner = inner
        self._new: deque[Job] = deque()
        self._waiting: list[tuple[str, int, Job]] = []
        self._held: list[Callable[[], None]] = []

    @property
    def num_jobs(self) -> int:
        return len(self._new) + len(self._waiting) + self.inner.num_jobs

    @property
    def num_rows(self) -> int:
        return self.inner.num_rows

    @property
    def num_steps(self) -> int:
        return self.inner.num_steps

    def submit(self, job: Job) -> None:
        if self.num_jobs >= self.inner.most_jobs:
            raise Busy(f"{self.inner.most_jobs} requests wait already: try again later")
        self._new.append(job)

    def abandon(self, error: Exception) -> None:
        self.inner.abandon(error)
        for job in [*(job for _, _, job in self._waiting), *self._new]:
            job.tell(Failed(error=error))

    def step(self) -> bool:
        while self._new:
            self._prepare(self._new.popleft())
        if not self.inner.num_jobs:
            for tell in self._held:
                tell()
            self._held = []
            self._begin_batch()
        self.inner.step()
        return bool(self.num_jobs or self._held)

    def _prepare(self, job: Job) -> None:
        try:
            with hear_doubts() as heard:
                results = job.prepare()
        except Exception as error:
            job.tell(Failed(error=error))
            return
        job.prepare = _give(results, heard)
        job.tell = self._hold_back(job.tell)
        self._waiting.append((results.documents[0].task.name, len(results.documents), job))

    def _hold_back(self, tell: Callable[[Message], None]) -> Callable[[Message], None]:
        """Results are told when the batch has ended; what streams tell meanwhile, at once."""

        def told(message: Message) -> None:
            if isinstance(message, Made | Ended):
                self._held.append(lambda: tell(message))
            else:
                tell(message)

        return told

    def _begin_batch(self) -> None:
        room, later, task = self.inner.most_rows, [], None
        for name, number, job in self._waiting:
            if job.is_cancelled:
                continue
            task = task or name
            if name == task and (number <= room or room == self.inner.most_rows):
                room -= number
                self.inner.submit(job)
            else:
                later.append((name, number, job))
        self._waiting = later


def _give(results: Results, heard: Sequence[str]) -> Callable[[], Results]:
    def give() -> Results:
        for message in heard:
            doubt(message, UserWarning)
        return results

    return give


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="quickstart")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--most-rows", type=int, default=32)
    given = parser.parse_args()
    service = Service({given.run: trimask.load(given.run)}, most_rows=given.most_rows)
    schedulers: Any = service.worker.schedulers
    for name, scheduler in list(schedulers.items()):
        schedulers[name] = WholeRequests(scheduler)
    listener = server.bind("127.0.0.1", given.port)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    with listener:
        server.run(
            create_app(service),
            listener,
            when_ready=lambda: print_json({"url": url}),
            patience=5,
            head_seconds=30,
        )


if __name__ == "__main__":
    main()
