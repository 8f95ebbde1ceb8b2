"""What a run asks of its data; `kinds.kind_of` finds the kind of given data."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from trimask.data.selection import Data, QuickstartData
from trimask.data.source import ExampleSource
from trimask.errors import UserError
from trimask.generation.length import LengthPolicy
from trimask.generation.prompts import Seen
from trimask.runs.lengths import fit_lengths
from trimask.runs.seen import fit_seen
from trimask.runs.sizes import SourceSize
from trimask.tokenizers.bundle import SHIPPED, Tokenizers
from trimask.training.distributed import ALONE, World
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.task import Task

Report = Callable[[str], None]
Split = Literal["train", "validation"]
NUM_TEXTS = 100
"""Texts of each source to look for a prompt in."""


class Kind(ABC):
    """What a run does with its data. A kind of data must say where its sources come from; the rest has
    defaults.
    """

    @property
    def is_there(self) -> bool:
        """Whether a run can read it."""
        return True

    @property
    def folders(self) -> tuple[Path, ...]:
        """The prepared folders that hold it; they may be moved."""
        return ()

    @property
    def embedded(self) -> QuickstartData | None:
        """The selection of the embedded data that it is, which has pictures and recordings besides codes;
        None for other data.
        """
        return None

    @abstractmethod
    def sources(
        self, tokenizers: Tokenizers, split: Split, cache: Path, report: Report = lambda message: None
    ) -> Mapping[str, ExampleSource]:
        """Return the sources of a split; what is encoded for it is stored in `cache`."""

    @abstractmethod
    def sizes(self, tokenizers: Tokenizers | None, group_exponent: float) -> Mapping[str, SourceSize]:
        """Return how much the training split has of each source, as a mixture of `group_exponent` draws from
        it; store nothing.
        """

    def tokenizers(self) -> Path:
        """Return the folder of the tokenizers that it was encoded with: by default those that ship."""
        return SHIPPED

    def spaces(self, tokenizers: Tokenizers | None) -> Sequence[CodeSpace]:
        """Return the code spaces of the modalities that have a tokenizer."""
        assert tokenizers is not None, "data that is there has tokenizers"
        return tokenizers.spaces

    def check(
        self, vocabulary: Vocabulary, report: Report = lambda message: None, world: World = ALONE
    ) -> None:
        """Read all of it once; each process of `world` reads its share.

        Raises:
            UserError: it is not what the run began with, is damaged, or has codes outside `vocabulary`; with
                the remedy.
        """
        return None

    def check_run(self, config: RunConfig, vocabulary: Vocabulary) -> None:
        """Raise UserError, with the remedy, if the mixture names a source that it lacks, or if a sequence may
        not fit a row, however many end frames it gets. Read no examples.
        """
        return None

    def lengths(
        self, config: RunConfig, sources: Mapping[str, ExampleSource], tokenizers: Tokenizers
    ) -> LengthPolicy | None:
        """Measure the span lengths of the training split; None where the defaults are right."""
        return fit_lengths(
            sources,
            tokenizers,
            slack=config.slack,
            text_window=config.data.text_window,
            seed=config.seed,
            spaces=config.spaces,
        )

    def seen(
        self, config: RunConfig, sources: Mapping[str, ExampleSource], tokenizers: Tokenizers, report: Report
    ) -> Seen:
        """Measure the prompt statistics of the training split."""
        return fit_seen(sources, config.mixture.components, tokenizers.text, seed=config.seed, report=report)

    def texts(self, config: RunConfig, task: Task, tokenizers: Tokenizers) -> Iterable[str]:
        """Yield captions or transcripts of the training split, each on one line, to try `task` with."""
        return ()

    def moved(self, folders: Sequence[Path]) -> Data:
        """Return the data with its folders replaced by those of `folders` that have the same content, in any
        order.

        Raises:
            UserError: it has no folders, or one of `folders` has other content.
        """
        raise UserError("the run is not on prepared data: leave --data out")


def check_sources(config: RunConfig, names: Collection[str], where: str) -> None:
    """Raise UserError if the mixture names a source that is not among `names`, the sources of `where`."""
    for component in config.mixture.components:
        if component.source not in names:
            raise UserError(
                f"the mixture's source {component.source!r} is not in {where}, which has "
                f"{', '.join(sorted(names))}: name one of these in the mixture, or give the folder that has "
                f"{component.source!r} with --data DIR"
            )
