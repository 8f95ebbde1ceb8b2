"""Prepared folders as the data of a run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

import numpy as np

from trimask import io
from trimask.data.default_mixture import DEFAULT_WEIGHTS, default_components
from trimask.data.selection import Data, PreparedData
from trimask.data.shard_layout import check_codes
from trimask.data.shards import ShardEntry, open_shard
from trimask.data.source import ExampleSource
from trimask.errors import UserError
from trimask.prepare.manifest import MANIFEST, TOKENIZERS, Manifest, find_damaged_shards, load_split
from trimask.runs.kind import NUM_TEXTS, Kind, Report, Split, check_sources
from trimask.runs.sizes import SourceSize, counted_sizes
from trimask.tokenizers.bundle import Tokenizers, hashes
from trimask.training.distributed import ALONE, World
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.task import Task
from trimask.vocabulary.transcript import is_transcript, parse_transcript


def with_prepared(config: RunConfig, folders: Sequence[Path]) -> RunConfig:
    """Return `config` on the data of prepared `folders`, with the default mixture of their sources. A mixture
    that names other sources than the default one, all of them in `folders`, is kept.

    Raises:
        UserError: a folder is not prepared, or two were made with other tokenizers or text windows.
    """
    manifests = [Manifest.load(folder) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        same = {
            "tokenizers": manifest.tokenizers == manifests[0].tokenizers,
            "text windows": manifest.options.text_window == manifests[0].options.text_window,
        }
        for what, is_same in same.items():
            if not is_same:
                raise UserError(f"{folder} and {folders[0]} have different {what}: prepare one again")
    present = {name for manifest in manifests for name in manifest.counts.get("train", {})}
    own = config.mixture.components
    named = {component.source for component in own}
    is_own = not named <= {source for source, _ in DEFAULT_WEIGHTS} and named <= present
    components = own if is_own else default_components(present)
    if not components:
        if present:
            check_sources(config, present, str(folders[0]))
        held = sorted({split for manifest in manifests for split in manifest.counts})
        why = f"all of them are of {' and '.join(held)}" if held else "its rejected.jsonl says why"
        raise UserError(f"{folders[0]} has no examples to train on: {why}")
    data = PreparedData(
        folders=tuple(folder.resolve() for folder in folders),
        manifests=tuple(io.sha256(folder / MANIFEST) for folder in folders),
        text_window=manifests[0].options.text_window,
    )
    if is_own:
        return replace(config, data=data)
    mixture = replace(config.mixture, components=components)
    # Factors belong to the mixture and the tokenizers that they were chosen for.
    modalities = {
        name: replace(row, weight=1.0, codebook_weights=()) for name, row in config.modalities.items()
    }
    return replace(config, data=data, mixture=mixture, modalities=modalities)


def tokenizers_of_data(folders: Sequence[Path]) -> Path:
    """Return the folder of the tokenizers that prepared folders were made with.

    Raises:
        UserError: a folder is not prepared, or its tokenizers are not those that it was made with.
    """
    folder, made_with = folders[0] / TOKENIZERS, Manifest.load(folders[0]).tokenizers
    if hashes(folder) != made_with:
        raise UserError(
            f"{folder} is not what {folders[0]} was made with, so its codes mean something else: prepare the "
            "data again"
        )
    return folder


@final
@dataclass(frozen=True)
class Prepared(Kind):
    """Folders that stay where they are; a run stores the hashes of their manifests."""

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
        self, vocabulary: Vocabulary, report: Report = lambda message: None, world: World = ALONE
    ) -> None:
        _check_manifests(self.data)
        for folder in self.data.folders:
            share = Manifest.load(folder).shards[world.rank :: world.size]
            found = world.gather(
                find_damaged_shards(folder, share, report if world.is_main else lambda message: None)
            )
            damaged = sorted(file for files in found for file in files)
            if damaged:
                raise UserError(
                    f"{', '.join(damaged)} in {folder} damaged: set aside what is with `trimask prepare "
                    f"--verify {folder}`, and prepare again to restore it"
                )
            world.each(partial(_check_codes, folder, share, vocabulary, self.data))

    def check_run(self, config: RunConfig, vocabulary: Vocabulary) -> None:
        if config.row_length is None:
            return
        sources = load_split(self.data.folders, "train")
        check_sources(config, sources.keys(), str(self.data.folders[0]))
        for component in config.mixture.components:
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
            for index in range(min(len(source), NUM_TEXTS)):
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


def _check_codes(
    folder: Path, shards: Sequence[ShardEntry], vocabulary: Vocabulary, data: PreparedData
) -> None:
    for entry in shards:
        longest = data.text_window if set(entry.tokens) == {"text"} else None
        file, where = open_shard(folder, entry), str(folder / entry.file)
        check_codes(file, where, vocabulary, tokens=entry.tokens, longest=longest)


def _check_manifests(data: PreparedData) -> None:
    """Raise UserError if a folder is not prepared, or is not the one that the run began with."""
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
