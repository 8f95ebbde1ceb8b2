"""The progress report of a run on stderr: a bar on a terminal, a plain line every ten seconds elsewhere."""

import math
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_BITS = "bits_per_token"
_PLAIN_INTERVAL = 10.0  # seconds
_KEPT = 0.7  # of the smoothed figure at each log point


@final
class ProgressReport:
    """Step, bits per token of each modality (smoothed), tokens/s and time left; nothing goes to stdout."""

    def __init__(
        self,
        describe: str,
        *,
        num_steps: int,
        start: int,
        deadline: float | int | None,
        is_quiet: bool = False,
        stages: Mapping[int, str] | None = None,
    ) -> None:
        """`stages` names the stages of a run whose loss changes its meaning, by their first update."""
        self._describe = describe
        self._stages = dict(stages or {})
        self._stage = ""
        self._num_steps = num_steps
        self._start = start
        self._deadline = deadline
        self._is_quiet = is_quiet
        self._smoothed: dict[str, float] = {}
        self._tokens_per_second: float | None = None
        self._began_at: float | None = None
        self._next_line = 0.0
        self._bar: Progress | None = None
        if sys.stderr.isatty() and not is_quiet:
            console = Console(file=sys.stderr)
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[figures]}"), console=console)
            self._task = self._bar.add_task(describe, total=num_steps, completed=start, figures="")

    def figures(self, row: Mapping[str, Any]) -> None:
        """Update with the metrics of a log point, without an evaluation's (named with a `/`)."""
        names = [name for name in row if name.endswith(_BITS) and "/" not in name]
        for name in names or ["loss"]:
            value: float | None = row.get(name)
            if value is not None and math.isfinite(value):
                before: float = self._smoothed.get(name, value)
                self._smoothed[name] = _KEPT * before + (1 - _KEPT) * value
        self._tokens_per_second = row.get("tokens_per_second", self._tokens_per_second)

    def advance(self, step: int, seconds: float) -> None:
        """Show that `step` updates are done, after `seconds` of training."""
        if self._began_at is None:
            self._began_at = seconds
        self._enter_stage(step)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, figures=self._text(step, seconds))
        elif not self._is_quiet and (time.monotonic() >= self._next_line or step == self._num_steps):
            self._next_line = time.monotonic() + _PLAIN_INTERVAL
            text = f"{self._described()}: step {step}/{self._num_steps} {self._text(step, seconds)}"
            print(text.rstrip(), file=sys.stderr, flush=True)

    def _enter_stage(self, step: int) -> None:
        """Reset the metrics, and report it, if update `step` starts another stage."""
        begun = [first for first in self._stages if first < step]
        stage = self._stages[max(begun)] if begun else ""
        if stage == self._stage:
            return
        if self._stage and not self._is_quiet:
            line = f"{self._describe}: {self._stage} is done, {stage} begins; its loss is another measure"
            # Above the bar, where there is one.
            print(line, file=sys.stderr, flush=True) if self._bar is None else self._bar.console.print(line)
        self._stage, self._smoothed = stage, {}
        if self._bar is not None:
            self._bar.update(self._task, description=self._described())

    def _described(self) -> str:
        return f"{self._describe}, {self._stage}" if self._stage else self._describe

    def _text(self, step: int, seconds: float) -> str:
        parts = [f"{_label(name)} {value:.3f}" for name, value in self._smoothed.items()]
        if self._tokens_per_second is not None:
            parts.append(f"{self._tokens_per_second:,.0f} tokens/s")
        left = self._seconds_left(step, seconds)
        if left is not None:
            parts.append(f"{format_clock(left)} left")
        return "  ".join(parts)

    def _seconds_left(self, step: int, seconds: float) -> float | None:
        if step >= self._num_steps:
            return 0.0
        bounds = []
        # Excludes the first step of this process, which compiles and warms up.
        num_timed = step - self._start - 1
        if self._began_at is not None and num_timed > 0:
            bounds.append((seconds - self._began_at) / num_timed * (self._num_steps - step))
        if self._deadline is not None:
            bounds.append(max(self._deadline - seconds, 0.0))
        return min(bounds) if bounds else None

    def __enter__(self) -> "ProgressReport":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _label(name: str) -> str:
    if not name.endswith(_BITS):
        return name
    modality = name.removesuffix(_BITS).rstrip("_.")
    return f"{modality} bits/token".lstrip()


def format_clock(seconds: float) -> str:
    """`4:05`, or `1:04:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
