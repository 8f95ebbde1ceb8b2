"""`Job`: one request while the scheduler has it, and what it tells whoever waits for the results."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

from trimask.generation.generated import Generated
from trimask.generation.results import Results
from trimask.sampling.row import Event, Row


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Began:
    """The request was checked and will be carried out. `warnings` says what is odd about its inputs."""

    results: Results
    warnings: tuple[str, ...]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What the job's `watch` made of a pass over the result of this index."""

    index: int
    value: Any


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """The result of this index. `warnings` says what is odd about it, such as a text that was cut short."""

    index: int
    generated: Generated
    warnings: tuple[str, ...]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """The request cannot be carried out. Nothing follows."""

    error: Exception


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """All results were told. Nothing follows."""


Message = Began | Watched | Made | Failed | Ended
Watch = Callable[[Results, int, Event], Any]
"""Looks at the result of an index before its first pass and after each one; what it returns is told, unless
None. It may read `event.tokens()`, and delays the next step of all."""


@final
class Job:
    """A request: how its results are made, and who is told. All but `cancel` is for the scheduler.

    Args:
        prepare: checks the request and returns its results, of which none is asked for; may raise UserError.
        tell: called with each message, from the scheduler's thread; must not block.
        watch: called in the scheduler's thread.
    """

    def __init__(
        self,
        prepare: Callable[[], Results],
        tell: Callable[[Message], None],
        *,
        watch: Watch | None = None,
    ):
        self.prepare, self.tell, self.watch = prepare, tell, watch
        self.is_cancelled = False
        self.results: Results | None = None
        self.rows: Iterator[Row] = iter(())
        self.first = 0
        self.made: set[int] = set()
        self.error: Exception | None = None
        self._told: dict[int, int] = {}
        self._seen: dict[int, int] = {}

    def cancel(self) -> None:
        """Let the scheduler drop the request before its next step; from any thread. Nothing more is told but
        what is under way.
        """
        self.is_cancelled = True

    @property
    def places(self) -> range:
        """The places of its results among all that the scheduler has had."""
        return range(self.first, self.first + (0 if self.results is None else len(self.results.documents)))

    @property
    def is_done(self) -> bool:
        return len(self.made) == len(self.places)

    def restart(self) -> Iterator[Row]:
        """Begin anew with the rows that are not made yet; what `watch` saw of them is not shown again."""
        assert self.results is not None
        self._seen.clear()
        return (row for row in self.results.rows(self.first) if row.place - self.first not in self.made)

    def note(self, event: Event) -> None:
        """Show a pass to `watch`. Its errors are this job's alone."""
        if self.watch is None or self.error is not None or self.is_cancelled:
            return
        index = event.row - self.first
        number = self._seen.get(index, 0)
        self._seen[index] = number + 1
        if number < self._told.get(index, 0):
            return
        self._told[index] = number + 1
        assert self.results is not None
        try:
            value = self.watch(self.results, index, event)
            if value is not None:
                self.tell(Watched(index=index, value=value))
        except Exception as error:
            self.error = error
