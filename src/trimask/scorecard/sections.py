"""Run the parts of a scorecard one by one; keep the scores so far, and record failures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

Report = Callable[[str], None]
Save = Callable[[dict[str, Any]], None]


@final
class Sections:
    """Runs the parts that fill `scores`, and saves it after each; `scores["failed"]` lists failed parts.

    Args:
        save: called with the scores so far.
        report: called with the name of each part when it begins.
        warn: called with a message for each part that fails.
    """

    def __init__(self, scores: dict[str, Any], *, save: Save, report: Report, warn: Report):
        self.scores = scores
        self.report = report
        self._save = save
        self._warn = warn
        scores.setdefault("failed", [])

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Run a part in this block: an error ends the block, is recorded, and is not raised again."""
        self.report(name)
        try:
            yield
        except Exception as error:  # whatever a judge, a model or a file may raise
            why = one_line(error)
            self.scores["failed"].append({"scores": name, "why": why})
            self._warn(f"not scored: {name}: {why}")
        self._save(self.scores)


def one_line(error: BaseException) -> str:
    """Format an error as one line, with its class if the message may be unclear without it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and isinstance(error, ValueError | OSError | ImportError):
        return lines[0]
    return ": ".join([type(error).__name__, *lines[:1]])
