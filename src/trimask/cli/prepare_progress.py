"""How far a preparation is: a bar on a terminal, a line every ten seconds elsewhere; all on stderr."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trimask.cli.console import say

if TYPE_CHECKING:
    from trimask.recipes.prepare import Progress as Done

_PLAIN_INTERVAL = 10.0  # seconds


@final
class PrepareProgress:
    """Parts, examples with their rate, what was set aside, and the time left."""

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None
        self._next_line = 0.0
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
            figures = TextColumn("{task.fields[figures]}")
            console = Console(file=sys.stderr)
            self._bar = Progress(*columns, figures, TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task("preparing", total=None, figures="")

    def update(self, done: "Done") -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = (now, done.examples)
            if done.num_done:
                say(f"{done.num_done} of {done.num_parts} parts were done before")
        seconds, examples = now - self._began[0], done.examples - self._began[1]
        rate = f"{examples / seconds:,.0f} a second, " if seconds > 0 and done.num_fresh else ""
        figures = f"{done.examples:,} examples, {rate}{done.rejected:,} set aside"
        if self._bar is not None:
            self._bar.update(self._task, total=done.num_parts, completed=done.num_done, figures=figures)
        elif now >= self._next_line or done.num_done == done.num_parts:
            self._next_line = now + _PLAIN_INTERVAL
            left = ""
            if done.num_fresh:
                remaining = seconds / done.num_fresh * (done.num_parts - done.num_done)
                left = f", {remaining:,.0f} s left"
            say(f"part {done.num_done}/{done.num_parts}: {figures}{left}")

    def __enter__(self) -> "PrepareProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
