"""What a run does with each kind of data: the one place that tells them apart."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

import numpy as np

from trimask import io
from trimask.data.selection import Data, PreparedData, QuickstartData, StatedData
from trimask.data.shard_layout import check_codes
from trimask.data.shards import ShardEntry, open_shard
from trimask.data.source import ExampleSource
from trimask.errors import UserError
from trimask.prepare.manifest import MANIFEST, Manifest, damaged_shards, load_split
from trimask.runs.embedded import pictures, readings, select_speech
from trimask.runs.embedded_tokens import load_encoded, load_or_encode
from trimask.runs.lengths import fit_lengths
from trimask.runs.seen import fit_seen, fit_seen_of_embedded
from trimask.runs.sizes import SourceSize, counted_sizes, embedded_sizes, stated_sizes
from trimask.runs.sources import tokenizers_of_data
from trimask.sampling.length import LengthPolicy
from trimask.sampling.prompts import Seen
from trimask.tokenizers.bundle import SHIPPED, Tokenizers
from trimask.training.distributed import ALONE, World
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.task import Task
from trimask.vocabulary.transcript import is_transcript, parse_transcript

Report = Callable[[str], None]
Split = Literal["train", "validation"]
_SAMPLED = 100  # texts of each source, of which one is the prompt to try a run with


class Kind(ABC):
    """What a run does with its data; only where the sources come from is a kind's own in any case."""

    @property
    def is_there(self) -> bool:
        """Whether a run can read it."""
        return True

    @property
    def folders(self) -> tuple[Path, ...]:
        """The prepared folders that it lies in: they may move."""
        return ()

    @property
    def embedded(self) -> QuickstartData | None:
        """The choice of the embedded data that it is: its pictures and recordings are at hand, not codes
        alone.
        """
        return None

    @abstractmethod
    def sources(
        self, tokenizers: Tokenizers, split: Split, cache: Path, report: Report = lambda message: None
    ) -> Mapping[str, ExampleSource]:
        """The sources of a split; what is encoded for it is kept in `cache`."""

    @abstractmethod
    def sizes(self, tokenizers: Tokenizers | None, group_exponent: float) -> Mapping[str, SourceSize]:
        """The sources of the training split, as a mixture of `group_exponent` draws from them; nothing is
        kept.
        """

    def tokenizers(self) -> Path:
        """The folder of the tokenizers that it goes with: by default those that ship."""
        return SHIPPED

    def spaces(self, tokenizers: Tokenizers | None) -> Sequence[CodeSpace]:
        """The modalities that need a tokenizer."""
        assert tokenizers is not None, "data that is there has tokenizers"
        return tokenizers.spaces

    def check(
        self,
        config: RunConfig,
        tokenizers: Tokenizers,
        report: Report = lambda message: None,
        world: World = ALONE,
    ) -> None:
        """Read all of it once; each process of `world` reads its share.

        Raises:
            UserError: it is not what the run began with, is damaged, or holds what the tokenizers do not
                give; with the remedy.
        """
        return None

    def check_rows(self, config: RunConfig, tokenizers: Tokenizers) -> None:
        """Raise UserError, with the fix, if a sequence with the most end frames may not fit a row."""
        return None

    def lengths(
        self, config: RunConfig, sources: Mapping[str, ExampleSource], tokenizers: Tokenizers
    ) -> LengthPolicy | None:
        """How long spans are, measured on the training split; None where the defaults are right."""
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
        """What the training split teaches of prompts."""
        return fit_seen(sources, config.mixture.components, tokenizers.text, seed=config.seed, report=report)

    def texts(self, config: RunConfig, task: Task, tokenizers: Tokenizers) -> Iterable[str]:
        """Captions or transcripts of the training split, each on one line, to try `task` with."""
        return ()

    def moved(self, folders: Sequence[Path]) -> Data:
        """The data with `folders` in the place of those that have the same content, in any order.

        Raises:
            UserError: it is in no folders, or a folder is none of them.
        """
        raise UserError("the run is not on prepared data: leave --data out")


@functools.singledispatch
def kind_of(data: Data) -> Kind:
    """What a run does with `data`. A kind of one's own is told by
    `@kind_of.register def _(data: MyData) -> Kind: …` in the module of its class.
    """
    raise UserError(
        f"{type(data).__name__} does not say how it is read: register it, with a `Kind`, by "
        "trimask.runs.kinds.kind_of.register"
    )


@final
@dataclass(frozen=True)
class _Embedded(Kind):
    """Encoded by the run; what it knows of lengths and prompts stands in the data itself."""

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
        assert tokenizers is not None, "the embedded data is tokenized by someone"
        return embedded_sizes(self.data, tokenizers, group_exponent)

    def lengths(
        self, config: RunConfig, sources: Mapping[str, ExampleSource], tokenizers: Tokenizers
    ) -> LengthPolicy | None:
        return None  # the defaults are measured on it

    def seen(
        self, config: RunConfig, sources: Mapping[str, ExampleSource], tokenizers: Tokenizers, report: Report
    ) -> Seen:
        return fit_seen_of_embedded(self.data, config.mixture.components)

    def texts(self, config: RunConfig, task: Task, tokenizers: Tokenizers) -> Iterable[str]:
        images = pictures("train", self.data)
        if not is_transcript(task.spans[0]):
            return [row.caption for row in images][:_SAMPLED]
        spoken = select_speech(readings("train", self.data), self.data, {row.base for row in images})
        return [row.text.lower() for row in spoken][:_SAMPLED]

    def moved(self, folders: Sequence[Path]) -> Data:
        raise UserError("the run was started on the embedded data: leave --data out")


@final
@dataclass(frozen=True)
class _Stated(Kind):
    """To plan with."""

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


@final
@dataclass(frozen=True)
class _Prepared(Kind):
    """Folders that stay where they are; the run knows them by their manifests."""

    data: PreparedData

    @property
    def folders(self) -> tuple[Path, ...]:
        return self.data.folders

    def tokenizers(self) -> Path:
        return tokenizers_of_data(self.data.folders)

    def sources(
        self, tokenizers: Tokenizers, split: Split, cache: Path, report: Report = lambda message: None
    ) -> Mapping[str, ExampleSource]:
        return load_split(self.data.folders, split)

    def sizes(self, tokenizers: Tokenizers | None, group_exponent: float) -> Mapping[str, SourceSize]:
        return counted_sizes(load_split(self.data.folders, "train"), group_exponent)

    def check(
        self,
        config: RunConfig,
        tokenizers: Tokenizers,
        report: Report = lambda message: None,
        world: World = ALONE,
    ) -> None:
        data = self.data
        _check_manifests(data)
        vocabulary = config.vocabulary(self.spaces(tokenizers))
        for folder in data.folders:
            share = Manifest.load(folder).shards[world.rank :: world.size]
            found = world.gather(
                damaged_shards(folder, share, report if world.is_main else lambda message: None)
            )
            damaged = sorted(file for files in found for file in files)
            if damaged:
                raise UserError(
                    f"{', '.join(damaged)} in {folder} damaged: set aside what is with `trimask prepare "
                    f"--verify {folder}`, and prepare again to restore it"
                )
            world.each(lambda folder=folder, share=share: _check_codes(folder, share, vocabulary, data))

    def check_rows(self, config: RunConfig, tokenizers: Tokenizers) -> None:
        if config.row_length is None:
            return
        vocabulary = config.vocabulary(self.spaces(tokenizers))
        sources = load_split(self.data.folders, "train")
        for component in config.mixture.components:
            if component.source not in sources:
                continue
            counts = sources[component.source].num_codes
            slots = sum(counts.values()) + 1 + 2 * len(counts)
            task = vocabulary.task(component.task)
            for modality in task.targets_of(list(counts)):
                space = vocabulary.space(modality)
                frames, place = np.unique(counts[modality] // space.num_codebooks, return_inverse=True)
                ends = [
                    config.slack.most_end(task, space, n, text_window=self.data.text_window)
                    for n in frames.tolist()
                ]
                slots = slots + np.array(ends)[place] * space.num_codebooks
            longest = int(np.max(slots))
            if longest > config.row_length:
                raise UserError(
                    f"{component.source} has a {component.task} sequence of up to {longest:,} slots, and a "
                    f"row has {config.row_length:,}: prepare shorter examples (--text-window, "
                    f"--max-seconds), or give --row-length {longest} or none (each sequence in a row of its "
                    "own)"
                )

    def texts(self, config: RunConfig, task: Task, tokenizers: Tokenizers) -> Iterable[str]:
        sources = load_split(self.data.folders, "train")
        named = {component.source for component in config.mixture.components if component.task == task.name}
        for name in sorted(named & sources.keys()):
            source = sources[name]
            for index in range(min(len(source), _SAMPLED)):
                text = tokenizers.text.decode(source.example(index)["text"][:, 0].tolist())
                if is_transcript(task.spans[0]):
                    text = parse_transcript(text)[1]
                if words := text.split():
                    yield " ".join(words)

    def moved(self, folders: Sequence[Path]) -> Data:
        data = self.data
        places = list(data.folders)
        for folder in folders:
            manifest = folder / MANIFEST
            if not manifest.is_file():
                raise UserError(f"--data {folder} holds no prepared data: name a folder with a {MANIFEST}")
            found = [n for n, known in enumerate(data.manifests) if known == io.sha256(manifest)]
            if not found:
                began = ", ".join(map(str, data.folders))
                raise UserError(
                    f"--data {folder} is not the data that the run began with ({began}): its {MANIFEST} "
                    "differs; give that data, wherever it is now, or start a new run"
                )
            for number in found:
                places[number] = folder.resolve()
        return replace(data, folders=tuple(places))


@kind_of.register
def _(data: QuickstartData) -> Kind:
    return _Embedded(data)


@kind_of.register
def _(data: StatedData) -> Kind:
    return _Stated(data)


@kind_of.register
def _(data: PreparedData) -> Kind:
    return _Prepared(data)


def _check_codes(
    folder: Path, shards: Sequence[ShardEntry], vocabulary: Vocabulary, data: PreparedData
) -> None:
    for entry in shards:
        longest = data.text_window if set(entry.tokens) == {"text"} else None
        file, where = open_shard(folder, entry), str(folder / entry.file)
        check_codes(file, where, vocabulary, tokens=entry.tokens, longest=longest)


def _check_manifests(data: PreparedData) -> None:
    """UserError if a folder is not prepared, or not the one that the run began with."""
    for folder, manifest in zip(data.folders, data.manifests, strict=True):
        if not (folder / MANIFEST).exists():
            raise UserError(
                f"{folder} is where the run's data was, and there is none: put it back, or say with --data "
                "DIR where it is now"
            )
        Manifest.load(folder)
        if io.sha256(folder / MANIFEST) != manifest:
            raise UserError(
                f"{folder / MANIFEST} has changed since the run began: restore the data, or start a new run"
            )
