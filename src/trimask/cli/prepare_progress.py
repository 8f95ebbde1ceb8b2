"""Progress of a preparation."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from trimask.cli.console import say
from trimask.cli.progress import JobProgress

if TYPE_CHECKING:
    from trimask.prepare.prepare import Progress
    from trimask.prepare.tally import Counts


_INTERVAL = 5.0  # seconds


def throttle_say() -> Callable[[str], None]:
    """Return a function like `say` that drops lines within five seconds of the last one, or of this call."""
    last = time.monotonic()

    def say_sometimes(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _INTERVAL:
            last = time.monotonic()
            say(line)

    return say_sometimes


def survey_progress(progress: JobProgress) -> "Callable[[Counts], None]":
    """Return a callback that shows parts and items surveyed, their rate and the time left."""
    began = time.monotonic()

    def update(counts: "Counts") -> None:
        rate, left = _pace(counts, time.monotonic() - began)
        figures = f"comparing texts and files, {counts.items:,} items{rate and f', {rate} a second'}"
        progress.update(counts.num_done, counts.num_parts, figures, seconds_left=left, unit="part")

    return update


def prepare_progress(progress: JobProgress) -> "Callable[[Progress], None]":
    """Return a callback that shows items tokenized, their rate, items set aside, and the time left."""
    began: float | None = None

    def update(done: "Progress") -> None:
        nonlocal began
        counts = done.counts
        if began is None:
            began = time.monotonic()
            if counts.num_done:
                say(f"{counts.num_done} of {counts.num_parts} parts were done before")
        rate, left = _pace(counts, time.monotonic() - began)
        figures = f"part {counts.num_done}/{counts.num_parts}{rate and f', {rate} items a second'}"
        figures += f", {done.examples:,} examples"
        figures += f", {done.rejected:,} set aside"
        total = counts.items if counts.num_items is None else counts.num_items
        progress.update(counts.items, total, figures, seconds_left=left)

    return update


def _pace(counts: "Counts", seconds: float) -> tuple[str, float | None]:
    """Return items per second, formatted (empty if unknown), and the seconds left."""
    rate = f"{counts.fresh_items / seconds:,.0f}" if counts.fresh_items and seconds > 0 else ""
    return rate, None if counts.share_left is None else counts.share_left * seconds
