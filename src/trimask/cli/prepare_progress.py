"""How far a preparation is."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from trimask.cli.console import say
from trimask.cli.progress import JobProgress

if TYPE_CHECKING:
    from trimask.recipes.prepare import Progress


_INTERVAL = 5.0  # seconds


def paced() -> Callable[[str], None]:
    """Says a line, but none sooner than five seconds after the last, or after the beginning."""
    last = time.monotonic()

    def tell(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _INTERVAL:
            last = time.monotonic()
            say(line)

    return tell


def prepare_progress(shown: JobProgress) -> "Callable[[Progress], None]":
    """Shows parts, examples with their rate, what was set aside, and the time left."""
    began: list[tuple[float, int]] = []

    def update(done: "Progress") -> None:
        now = time.monotonic()
        if not began:
            began.append((now, done.examples))
            if done.num_done:
                say(f"{done.num_done} of {done.num_parts} parts were done before")
        seconds, examples = now - began[0][0], done.examples - began[0][1]
        rate = f"{examples / seconds:,.0f} a second, " if seconds > 0 and done.num_fresh else ""
        left = seconds / done.num_fresh * (done.num_parts - done.num_done) if done.num_fresh else None
        figures = f"{done.examples:,} examples, {rate}{done.rejected:,} set aside"
        shown.update(done.num_done, done.num_parts, figures, seconds_left=left)

    return update
