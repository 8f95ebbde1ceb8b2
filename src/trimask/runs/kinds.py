"""The kinds of data: embedded, prepared, stated, or a user's own."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from trimask.data.selection import Data, PreparedData, QuickstartData, StatedData
from trimask.data.source import ExampleSource
from trimask.data.source_names import EMBEDDED_SOURCES
from trimask.errors import UserError
from trimask.generation.length import LengthPolicy
from trimask.generation.prompts import Seen
from trimask.runs.embedded import pictures, readings, select_speech
from trimask.runs.embedded_tokens import load_encoded, load_or_encode
from trimask.runs.kind import NUM_TEXTS, Kind, Report, Split, check_sources
from trimask.runs.prepared import Prepared
from trimask.runs.seen import fit_seen_of_embedded
from trimask.runs.sizes import SourceSize, embedded_sizes, stated_sizes
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.task import Task
from trimask.vocabulary.transcript import is_transcript


@functools.singledispatch
def kind_of(data: Data) -> Kind:
    """Return what a run does with `data`. Register a kind of your own in the module of its class:
    `@kind_of.register def _(data: MyData) -> Kind: …`

    Raises:
        UserError: the class of `data` is not registered.
    """
    raise UserError(
        f"{type(data).__name__} does not say how it is read: register it, with a `Kind`, by "
        "trimask.runs.kinds.kind_of.register"
    )


@kind_of.register
def _(data: PreparedData) -> Kind:
    return Prepared(data)


@final
@dataclass(frozen=True)
class _Embedded(Kind):
    """The run encodes it; the default lengths were measured on it."""

    data: QuickstartData

    @property
    def embedded(self) -> QuickstartData:
        return self.data

    def sources(
        self, tokenizers: Tokenizers, split: Split, cache: Path, report: Report = lambda message: None
    ) -> Mapping[str, ExampleSource]:
        load_or_encode(self.data, tokenizers, cache, report=report)
        return load_encoded(cache, split)

    def sizes(self, tokenizers: Tokenizers | None, group_exponent: float) -> Mapping[str, SourceSize]:
        assert tokenizers is not None, "the embedded data has tokenizers"
        return embedded_sizes(self.data, tokenizers, group_exponent)

    def check_run(self, config: RunConfig, vocabulary: Vocabulary) -> None:
        check_sources(config, EMBEDDED_SOURCES, "the embedded data")

    def lengths(
        self, config: RunConfig, sources: Mapping[str, ExampleSource], tokenizers: Tokenizers
    ) -> LengthPolicy | None:
        return None

    def seen(
        self, config: RunConfig, sources: Mapping[str, ExampleSource], tokenizers: Tokenizers, report: Report
    ) -> Seen:
        return fit_seen_of_embedded(self.data, config.mixture.components)

    def texts(self, config: RunConfig, task: Task, tokenizers: Tokenizers) -> Iterable[str]:
        images = pictures("train", self.data)
        if not is_transcript(task.spans[0]):
            return [row.caption for row in images][:NUM_TEXTS]
        spoken = select_speech(readings("train", self.data), self.data, {row.base for row in images})
        return [row.text.lower() for row in spoken][:NUM_TEXTS]

    def moved(self, folders: Sequence[Path]) -> Data:
        raise UserError("the run was started on the embedded data: leave --data out")


@kind_of.register
def _(data: QuickstartData) -> Kind:
    return _Embedded(data)


@final
@dataclass(frozen=True)
class _Stated(Kind):
    """Sizes alone, to plan with."""

    data: StatedData

    @property
    def is_there(self) -> bool:
        return False

    def sources(
        self, tokenizers: Tokenizers, split: Split, cache: Path, report: Report = lambda message: None
    ) -> Mapping[str, ExampleSource]:
        raise UserError(
            "the data of this recipe is stated, not there: prepare data and give it with --data DIR"
        )

    def sizes(self, tokenizers: Tokenizers | None, group_exponent: float) -> Mapping[str, SourceSize]:
        return stated_sizes(self.data)

    def spaces(self, tokenizers: Tokenizers | None) -> Sequence[CodeSpace]:
        return self.data.spaces


@kind_of.register
def _(data: StatedData) -> Kind:
    return _Stated(data)
