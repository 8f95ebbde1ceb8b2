"""Progress of a long job: a bar on a terminal, a line every ten seconds elsewhere; all on stderr."""

import sys
import time
from types import TracebackType
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trimask.cli.console import Report, say
from trimask.training.progress import format_clock

_PLAIN_INTERVAL = 10.0  # seconds


@final
class JobProgress:
    """Progress of a job: items done out of all, further numbers, and the time left. Inside `with`, a line
    every five seconds tells of an item that takes long; on a terminal the clock of the bar runs.

    Args:
        what: name of the job ("preparing").
        item: name of one item ("part").
    """

    def __init__(self, what: str, item: str) -> None:
        self._item = item
        self._next_line = 0.0
        self._ended = ""
        self._report = Report()
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            # No markup: names of the user's functions and trials may contain brackets.
            name = TextColumn("{task.description}", markup=False)
            figures = TextColumn("{task.fields[figures]}", markup=False)
            columns = (name, BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, figures, console=Console(file=sys.stderr))
            self._task = self._bar.add_task(what, total=None, figures="")

    def update(
        self, done: int, total: int, figures: str, *, seconds_left: float | None, unit: str = ""
    ) -> None:
        """Show `done` of `total`; `unit` names what is counted, if not the job's items."""
        left = "" if seconds_left is None else f"{format_clock(seconds_left)} left"
        text = ", ".join(filter(None, (figures, left)))
        if self._bar is not None:
            self._bar.update(self._task, total=total, completed=done, figures=text)
            return
        item = unit or self._item
        is_end = done == total and item != self._ended
        if time.monotonic() >= self._next_line or is_end:
            self._next_line = time.monotonic() + _PLAIN_INTERVAL
            self._ended = item if done == total else ""
            say(f"{item} {done}/{total}: {text}" if text else f"{item} {done}/{total}")
        if done == total:
            self._report("")
        else:
            self._report.expect(f"{item} {done}/{total}")

    def report(self, message: str) -> None:
        """Report work before the first item ("encoding text 1/201"): on a terminal in the bar, elsewhere as
        lines.

        A `Report` must not write to a terminal beside the bar: rich replaces `sys.stderr` while the bar is
        displayed, and breaks the codes that erase a line.
        """
        if self._bar is None:
            self._report(message)
        else:
            self._bar.update(self._task, figures=message)

    def __enter__(self) -> "JobProgress":
        if self._bar is not None:
            self._bar.start()
        else:
            self._report.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._report.__exit__(kind, error, trace)
