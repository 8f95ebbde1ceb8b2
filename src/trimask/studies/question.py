"""What every study is: a question, the trials that answer it, and the evaluation of their results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from trimask.studies.findings import Findings
from trimask.studies.known import Known
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

    def check(self) -> None:
        """Raise UserError if the study cannot be run as it was set; called before anything is read."""

    def derive(self, results: Mapping[str, Result], known: Known) -> Mapping[str, Any]:
        """Return the values that `results` determine, by name, as JSON: a grid around an optimum, a forecast.

        Called after each result. A value is stored the first time that it is returned, before any trial that
        needs it starts, and never changes: return it once all results that it is made of are there, and use
        no others, since trials end in any order.
        """
        return {}

    def further_trials(self, results: Mapping[str, Result], known: Known) -> tuple[TrialT, ...]:
        """Return the trials, beside `trials`, that need derived values or another study; none before these
        are known.
        """
        return ()

    def findings_given(self, results: Sequence[Result], known: Known) -> Findings:
        """Return the findings of a study that also looks at what is known besides its results."""
        return self.findings(results)

    @property
    def needs(self) -> Mapping[str, str]:
        """The studies whose results it uses: by its own names for them, their names on the command line."""
        return {}

    def rank(self, trials: Sequence[TrialT], results: Mapping[str, Result], known: Known) -> Sequence[TrialT]:
        """Return the missing `trials` in the order in which a limited budget is spent on them.

        By default the cheapest first, and among equal ones the study's own order: most comparisons are
        completed by an hour, all arms of a seed before the next seed where they are listed so, and searches
        learn from cheap trials where to go on. A study that knows how much a trial tells may do better.
        """
        return sorted(trials, key=self.estimate_cost)

    @property
    def uses_gpu(self) -> bool:
        """Whether trials run on a GPU where there is one."""
        return True

    @property
    def weights(self) -> str | None:
        """Hash of the weights that the study is about; None if its trials train their own."""
        return None
