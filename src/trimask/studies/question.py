"""What every study is: a question, the trials that answer it, and the evaluation of their results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from trimask.studies.findings import Findings
from trimask.studies.trial import AnyTrial, Result

TrialT = TypeVar("TrialT", bound=AnyTrial)


class Question(ABC, Generic[TrialT]):
    """A question, the trials that answer it, and the evaluation of their results.

    A subclass of `Study`, whose trials train, or of `ModelStudy`, whose trials measure a trained model.
    """

    __slots__ = ()
    # All studies are dataclasses; their base class may not be.
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @abstractmethod
    def trials(self, results: Mapping[str, Result]) -> tuple[TrialT, ...]:
        """Return all trials known to be needed, done or not, given `results` (by name). A study that searches
        for an optimum adds trials as results come in.
        """

    @abstractmethod
    def measure(self, trial: TrialT, folder: Path, tokens: Path) -> dict[str, float]:
        """Run a trial in `folder`, with the tokens cached in `tokens`; return its metrics."""

    @abstractmethod
    def findings(self, results: Sequence[Result]) -> Findings:
        """Return the findings; results may be incomplete."""

    @abstractmethod
    def with_data(self, folders: Sequence[Path]) -> "Question[TrialT]":
        """Return the study on prepared data. UserError if it cannot be."""

    @abstractmethod
    def make_tokens(self, tokens: Path, report: Callable[[str], None]) -> None:
        """Cache the tokens in `tokens`, before trials read them concurrently."""

    @abstractmethod
    def estimate_cost(self, trial: TrialT) -> int:
        """Estimate the relative time of a trial."""

    @abstractmethod
    def describe_work(self, trial: TrialT) -> Mapping[str, int]:
        """Return what a trial does, in numbers by unit, such as sequences and updates."""

    @property
    def weights(self) -> str | None:
        """Hash of the weights that the study is about; None if its trials train their own."""
        return None
