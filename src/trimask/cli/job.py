"""What `show`, `plan` and `train` need of a recipe, of a denoiser or of a tokenizer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimask.cli.console import COUNTING, Report, print_json

if TYPE_CHECKING:  # they take torch, and wrong arguments should be told at once
    from trimask.training.compute import ComputeConfig
    from trimask.training.distributed import World
    from trimask.training.loop import TrainResult

# A parameter takes 12 bytes (weight, two moments) in two checkpoints and one being written.
STATE_BYTES = 3 * 12
DATA_BYTES = 100_000_000  # tokenized data, metrics


class Job(ABC):
    """What `show` and `train` need of a recipe."""

    recipe: str
    config: Any

    @property
    @abstractmethod
    def num_updates(self) -> int:
        """Updates of the whole run."""

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """Space that the run will take."""

    @property
    def may_change(self) -> Sequence[str]:
        """Fields that a resumed run may have otherwise than its start."""
        return ()

    @property
    def leftovers(self) -> Sequence[str]:
        """What the run writes before it computes anything."""
        return ()

    @abstractmethod
    def check(self) -> None:
        """UserError if it can be shown, but not run; with the mend."""

    @property
    def compute(self) -> "ComputeConfig":
        """How its updates are computed."""
        from trimask.training.compute import ComputeConfig

        return ComputeConfig()

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """The resolved configuration, size and cost, as JSON."""

    def print_summary(self, *, as_json: bool) -> None:
        """Print `summary` or `lines`, and say what takes long meanwhile."""
        with Report() as report:
            report.expect(COUNTING)
            shown = self.summary() if as_json else self.lines()
        if isinstance(shown, dict):
            print_json(shown)
        else:
            print("\n".join(shown))

    @abstractmethod
    def lines(self) -> Sequence[str]:
        """The figures of `summary`, for reading."""

    @abstractmethod
    def run(self, out: Path, *, resume: bool, deadline: float | None, world: "World") -> "TrainResult":
        """Run it in the directory `out`; all processes of `world` call this."""

    def caution(self, seconds: float) -> str | None:
        """What a run that trained for so long cannot show, if anything."""
        return None

    @abstractmethod
    def try_it(self, out: Path) -> str:
        """What to do with the finished run."""
