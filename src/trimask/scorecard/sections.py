"""The parts of a scorecard, one after the other: what is done is kept, and what fails is set aside."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

Report = Callable[[str], None]
Save = Callable[[dict[str, Any]], None]


@final
class Sections:
    """Fills `scores` part by part, and saves it after each. `scores["failed"]` says what was set aside, and
    why.

    Args:
        save: writes the scores as far as they are.
        report: told what begins.
        warn: told what was set aside.
    """

    def __init__(self, scores: dict[str, Any], *, save: Save, report: Report, warn: Report):
        self.scores = scores
        self.report = report
        self._save = save
        self._warn = warn
        scores.setdefault("failed", [])

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Within this, an error ends this part alone."""
        self.report(name)
        try:
            yield
        except Exception as error:  # whatever a judge, a model or a file may raise
            why = one_line(error)
            self.scores["failed"].append({"scores": name, "why": why})
            self._warn(f"set aside: {name}: {why}")
        self._save(self.scores)


def one_line(error: BaseException) -> str:
    """What an error says, in one line; its kind too where the message alone may say little."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and isinstance(error, ValueError | OSError | ImportError):
        return lines[0]
    return ": ".join([type(error).__name__, *lines[:1]])
