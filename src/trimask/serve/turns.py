"""Whose result is next: requests share the server equally, whatever each asks for."""

import itertools
from collections.abc import Callable, Iterator
from typing import final

from trimask.generation.results import Results
from trimask.serve.job import Job


@final
class Turns:
    """The requests whose results wait to be filled.

    Self-clocked fair queueing (Golestani, INFOCOM 1994) [L]. Each result is tagged with when it would be full
    if all requests that wait had equal shares of the server, and the least tag is next. So short results pass
    long ones, no stream of short ones holds up a long one for more than its share, and the results of one
    request queue behind each other, not before those of others.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._tags: dict[Job, tuple[float, int]] = {}
        self._number = itertools.count()

    def __contains__(self, job: Job) -> bool:
        return job in self._tags

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._tags))

    def add(self, job: Job) -> None:
        """Let a request wait; of equal ones the first is first."""
        assert job.results is not None
        self._tags[job] = self._now + estimate_work(job.results), next(self._number)

    def remove(self, job: Job) -> None:
        self._tags.pop(job, None)

    def find_first(self, may: Callable[[Job], bool]) -> Job | None:
        """Return the request whose result is next, of those that `may` have one filled now."""
        return min(filter(may, self._tags), key=self._tags.__getitem__, default=None)

    def note_taken(self, job: Job) -> None:
        """Note that the result that was next is being filled."""
        assert job.results is not None
        tag, number = self._tags[job]
        self._now = max(self._now, tag)
        self._tags[job] = tag + estimate_work(job.results), number


def estimate_work(results: Results) -> int:
    """Return the positions that all passes over one result compute, before a length rule changes it. Passes
    that an adaptive count saves are not known yet.
    """
    document, config = results.documents[0], results.config
    slots = max(int(document.maskable.sum()), 1)
    num_passes = min(max(law.num_steps or slots for law in config.laws), slots)
    is_twice = config.is_guided and bool(document.is_condition.any())
    return document.num_positions * num_passes * (1 + is_twice)
