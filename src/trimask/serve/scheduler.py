"""The step scheduler: requests of any task, length and settings share each pass of the network.

A request is admitted at any step and leaves when it is done. Its rows are packed with those of others by
document boundaries, so nothing is padded, and their random numbers are functions of the request alone: a
result is the same alone and in any company, whenever it is admitted and whoever leaves.
"""

import itertools
import threading
from collections import deque
from typing import final

import numpy as np

from trimask.generation.doubts import hear_doubts
from trimask.sampling.config import SamplerConfig
from trimask.sampling.predictor import Predictor
from trimask.sampling.row import Event, Row
from trimask.sampling.sampler import Unmasker
from trimask.sampling.spans import begin_rows
from trimask.serve.job import Began, Ended, Failed, Job, Made
from trimask.serve.turns import Turns


class Busy(RuntimeError):
    """As many requests wait as may."""


@final
class Scheduler:
    """The requests to one model. `submit` may be called from any thread, all else from one.

    A step that fails is not held against its company: since results do not depend on it, those who shared the
    step begin anew, one by one, and only who fails alone is told.

    A result that waits is admitted when there is room for it. `Turns` says which is next: it is not passed by
    those that would need less room. What is under way is not interrupted; a quarter of the results is for
    requests that have none under way yet, so that a request for many leaves room for others.

    Args:
        most_rows: results that are filled at the same time.
        most_positions: of a pass, with and without condition: they bound its memory. A single result is
            always admitted, and one that a length rule lengthens goes on. By default 2,048 on a CPU, whose
            caches hold no more (a position costs 8% less than with 16,384), and 16,384 elsewhere [D].
        most_jobs: requests that are held, those under way included.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        most_rows: int = 32,
        most_positions: int | None = None,
        most_jobs: int = 256,
    ):
        self.predictor, self.most_rows, self.most_jobs = predictor, most_rows, most_jobs
        usual = 2048 if predictor.device.type == "cpu" else 16_384
        self.most_positions = usual if most_positions is None else most_positions
        self.num_steps = 0
        self._lock = threading.Lock()
        self._new: deque[Job] = deque()
        self._jobs: list[Job] = []
        self._waiting = Turns()
        self._suspects: deque[Job] = deque()
        self._owners: dict[int, Job] = {}
        self._next_place = 0
        self._unmasker = Unmasker(predictor, callback=self._note)

    @property
    def num_jobs(self) -> int:
        """Requests that are held."""
        return len(self._new) + len(self._jobs)

    @property
    def num_rows(self) -> int:
        """Results that are being filled."""
        return len(self._unmasker.rows)

    def submit(self, job: Job) -> None:
        """Take a request. Raises Busy."""
        with self._lock:
            if self.num_jobs >= self.most_jobs:
                raise Busy(f"{self.most_jobs} requests wait already: try again later")
            self._new.append(job)

    def abandon(self, error: Exception) -> None:
        """Tell all requests that they have failed."""
        for job in [*self._jobs, *self._new]:
            job.tell(Failed(error=error))
        self._jobs, self._new = [], deque()

    def step(self) -> bool:
        """Take one step of all requests; return whether any is left. What it holds is told by the jobs."""
        for job in [job for job in self._jobs if job.is_cancelled]:
            self._remove(job)
        while self._new:
            with self._lock:
                job = self._new.popleft()
            if not job.is_cancelled:
                self._begin(job)
        joining = self._choose()
        if joining or self._unmasker.rows:
            self._take_step(joining)
        for job in [job for job in self._jobs if job.error is not None or job.is_done]:
            self._end(job, job.error)
        return self.num_jobs > 0

    def _begin(self, job: Job) -> None:
        """Check a new request, and let it wait for its turn."""
        try:
            with hear_doubts() as told:
                job.results = job.prepare()
                job.results.config = self._share(job.results.config)
        except Exception as error:
            job.tell(Failed(error=error))
            return
        job.first = self._next_place
        self._next_place += len(job.places)
        self._owners |= dict.fromkeys(job.places, job)
        self._start(job)
        self._jobs.append(job)
        self._waiting.add(job)
        job.tell(Began(results=job.results, warnings=tuple(told)))

    def _share(self, config: SamplerConfig) -> SamplerConfig:
        """Return the equal settings of another request, if any: rows of the same ones are read together, in a
        tenth less time.
        """
        held = [job.results.config for job in self._jobs if job.results is not None]
        return next((each for each in held if _are_equal(each, config)), config)

    def _start(self, job: Job) -> None:
        assert job.results is not None
        longest = max(document.num_positions for document in job.results.documents)
        at_once = max(min(self.most_rows, self.most_positions // longest), 1)
        job.rows = begin_rows(self.predictor, job.restart(), at_once=at_once)

    def _choose(self) -> list[Row]:
        """Choose the rows that join; none joins a suspect."""
        joining: list[Row] = []
        while self.num_rows + len(joining) < self.most_rows:
            job = self._find_next(joining)
            if job is None:
                break
            row = self._take_row(job)
            if row is None:
                if self._suspects and (joining or self.num_rows):
                    break
                self._forget_turn(job)
            elif (joining or self.num_rows) and self._is_too_much(row, joining):
                job.rows = itertools.chain([row], job.rows)
                break
            else:
                joining.append(row)
                if job in self._waiting:
                    self._waiting.note_taken(job)
        return joining

    def _find_next(self, joining: list[Row]) -> Job | None:
        if self._suspects:
            return self._suspects[0]
        rows = [*self._unmasker.rows, *joining]
        if len(rows) < self.most_rows - self.most_rows // 4:
            return self._waiting.find_first(lambda job: True)
        have_one = {self._owners[row.place] for row in rows}
        return self._waiting.find_first(lambda job: job not in have_one)

    def _is_too_much(self, row: Row, joining: list[Row]) -> bool:
        rows = (row, *self._unmasker.rows, *joining)
        return sum(_count_positions(each) for each in rows) > self.most_positions

    def _forget_turn(self, job: Job) -> None:
        self._waiting.remove(job)
        if job in self._suspects:
            self._suspects.remove(job)

    def _take_row(self, job: Job) -> Row | None:
        if job.error is not None:
            return None
        try:
            return next(job.rows, None)
        except Exception as error:  # of a length rule, or of the pass that it asked for
            job.error = error
            return None

    def _take_step(self, joining: list[Row]) -> None:
        places = [row.place for row in (*self._unmasker.rows, *joining)]
        company = list(dict.fromkeys(self._owners[place] for place in places))
        try:
            if joining:
                self._unmasker.admit(joining)
            full = self._unmasker.step()
        except Exception as error:
            self._unmasker = Unmasker(self.predictor, callback=self._note)
            if len(company) == 1:
                company[0].error = error
                return
            for job in company:
                self._start(job)
                self._waiting.remove(job)
            self._suspects.extend(company)
            return
        self.num_steps += 1
        for row, tokens in full:
            self._tell(self._owners[row.place], row, tokens)

    def _tell(self, job: Job, row: Row, tokens: np.ndarray) -> None:
        """Decode a result and tell it."""
        assert job.results is not None
        index = row.place - job.first
        try:
            with hear_doubts() as told:
                generated = job.results.decode(row.document, tokens)
            job.tell(Made(index=index, generated=generated, warnings=tuple(told)))
            job.made.add(index)
        except Exception as error:
            job.error = error

    def _end(self, job: Job, error: Exception | None) -> None:
        self._remove(job)
        if not job.is_cancelled:
            job.tell(Ended() if error is None else Failed(error=error))

    def _remove(self, job: Job) -> None:
        """Forget a request, and the rows of it that are under way."""
        if any(row.place in job.places for row in self._unmasker.rows):
            self._unmasker.withdraw(job.places)
        self._jobs.remove(job)
        self._forget_turn(job)
        for place in job.places:
            del self._owners[place]

    def _note(self, event: Event) -> None:
        self._owners[event.row].note(event)


def _count_positions(row: Row) -> int:
    """Return the positions that a pass over a row computes."""
    return sum(document.num_positions for document in (row.document, *row.branches))


def _are_equal(one: SamplerConfig, other: SamplerConfig) -> bool:
    try:
        return one == other
    except Exception:  # of a user's class, such as one that holds an array
        return False
