"""The interface of a recipe, of a denoiser or a tokenizer, to `show`, `plan` and `train`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trimask.cli.console import COUNTING, Report, print_json

if TYPE_CHECKING:  # these import torch, which takes seconds: wrong arguments must be reported before that
    from trimask.training.compute import ComputeConfig
    from trimask.training.distributed import World
    from trimask.training.loop import OnProgress, TrainResult

# Bytes per parameter: 12 (weight, two moments) in each of two checkpoints and in one being written.
STATE_BYTES = 3 * 12
DATA_BYTES = 100_000_000  # tokenized data, metrics


class Job(ABC):
    """A run that can be shown, planned and started: a recipe with its configuration."""

    recipe: str
    config: Any
    has_metrics: ClassVar[bool] = True
    """Whether the run has metrics, which trackers can show."""

    @property
    @abstractmethod
    def num_updates(self) -> int:
        """Number of updates of the whole run."""

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """Disk space that the run will take, in bytes."""

    @property
    def may_change(self) -> Sequence[str]:
        """Fields that may differ between a resumed run and its start."""
        return ()

    @property
    def leftovers(self) -> Sequence[str]:
        """Files that the run writes before it computes anything."""
        return ()

    @abstractmethod
    def check(self) -> None:
        """Raise UserError if the job can be shown but not run; the message says how to fix that."""

    @property
    def compute(self) -> "ComputeConfig":
        """How the updates are computed."""
        from trimask.training.compute import ComputeConfig

        return ComputeConfig()

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Return the resolved configuration, size and cost, as JSON values."""

    def print_summary(self, *, as_json: bool) -> None:
        """Print `summary` as JSON, or `lines`; report progress if computing them takes long."""
        with Report() as report:
            report.expect(COUNTING)
            shown = self.summary() if as_json else self.lines()
        if isinstance(shown, dict):
            print_json(shown)
        else:
            print("\n".join(shown))

    @abstractmethod
    def lines(self) -> Sequence[str]:
        """Return the numbers of `summary` as lines of text."""

    @abstractmethod
    def run(
        self,
        out: Path,
        *,
        resume: bool,
        deadline: float | None,
        world: "World",
        on_progress: "OnProgress | None" = None,
    ) -> "TrainResult":
        """Run the job in the directory `out`; all processes of `world` call this.

        Args:
            deadline: seconds of training after which the run stops, over all resumes.
            on_progress: called with each row of metrics, if the job `has_metrics`.
        """

    def caution(self, seconds: float) -> str | None:
        """Return a caution about results after `seconds` of training, or None."""
        return None

    @abstractmethod
    def try_it(self, out: Path) -> str:
        """Return a line that says how to try the finished run."""
