"""What a run's data is: the sources that its mixture draws from, and the mixture of prepared data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from trimask import io
from trimask.data.default_mixture import DEFAULT_WEIGHTS, default_components
from trimask.data.selection import DataConfig, PreparedData, StatedData
from trimask.data.shard_layout import check_codes
from trimask.data.shards import ShardEntry, open_shard
from trimask.data.tokens import ExampleSource
from trimask.errors import UserError
from trimask.prepare.manifest import MANIFEST, TOKENIZERS, Manifest, damaged_shards, load_split
from trimask.runs.embedded import cached_tokens
from trimask.runs.vocabulary import build_vocabulary
from trimask.tokenizers.bundle import Tokenizers, hashes
from trimask.training.distributed import ALONE, World
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import Vocabulary


def with_prepared(config: RunConfig, folders: Sequence[Path]) -> RunConfig:
    """`config` with the data of prepared `folders`, and the default mixture of what they hold; a mixture of
    sources that only a recipe of one's own knows is kept.

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


def check_data(
    config: RunConfig,
    tokenizers: Tokenizers,
    report: Callable[[str], None] = lambda message: None,
    world: World = ALONE,
) -> None:
    """Read all of prepared data once; each process of `world` reads its share.

    Raises:
        UserError: a manifest is not the one that the run began with, a shard is damaged, or holds what the
            tokenizers do not give; with the mend.
    """
    data = config.data
    if not isinstance(data, PreparedData):
        return
    check_manifests(data)
    vocabulary = build_vocabulary(config, tokenizers)
    for folder in data.folders:
        share = Manifest.load(folder).shards[world.rank :: world.size]
        found = world.gather(damaged_shards(folder, share, report if world.is_main else lambda message: None))
        damaged = sorted(file for files in found for file in files)
        if damaged:
            raise UserError(
                f"{', '.join(damaged)} in {folder} damaged: set aside what is with `trimask prepare --verify "
                f"{folder}`, and prepare again to restore it"
            )
        world.each(lambda folder=folder, share=share: _check_codes(folder, share, vocabulary, data))


def _check_codes(
    folder: Path, shards: Sequence[ShardEntry], vocabulary: Vocabulary, data: PreparedData
) -> None:
    for entry in shards:
        longest = data.text_window if set(entry.tokens) == {"text"} else None
        file, where = open_shard(folder, entry), str(folder / entry.file)
        check_codes(file, where, vocabulary, tokens=entry.tokens, longest=longest)


def check_manifests(data: PreparedData) -> None:
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
                f"{folder / MANIFEST} has changed since the run began: put the old data back, or train anew"
            )


def check_rows(config: RunConfig, tokenizers: Tokenizers) -> None:
    """Whether each sequence of prepared data fits a row, however many end frames it gets.

    Raises:
        UserError: one does not; with the mend.
    """
    if config.row_length is None or not isinstance(config.data, PreparedData):
        return
    vocabulary = build_vocabulary(config, tokenizers)
    sources = load_split(config.data.folders, "train")
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
                config.slack.most_end(task, space, n, text_window=config.data.text_window)
                for n in frames.tolist()
            ]
            slots = slots + np.array(ends)[place] * space.num_codebooks
        longest = int(np.max(slots))
        if longest > config.row_length:
            raise UserError(
                f"{component.source} has a {component.task} sequence of up to {longest:,} slots, and a "
                f"row has {config.row_length:,}: prepare shorter examples (--text-window, --max-seconds), or "
                f"give --row-length {longest} or none (each sequence in a row of its own)"
            )


def token_sources(
    data: DataConfig,
    tokenizers: Tokenizers,
    split: Literal["train", "validation"],
    cache: Path,
    *,
    report: Callable[[str], None] = lambda message: None,
) -> Mapping[str, ExampleSource]:
    """The sources of a split; the embedded data is tokenized first and kept in `cache`.

    Raises:
        UserError: the data is only stated.
    """
    if isinstance(data, StatedData):
        raise UserError(
            "the data of this recipe is stated, not there: prepare data and give it with --data DIR"
        )
    if isinstance(data, PreparedData):
        return load_split(data.folders, split)
    return cached_tokens(data, tokenizers, split, cache, report=report)


def tokenizers_of_data(folders: Sequence[Path]) -> Path:
    """The tokenizers that prepared folders were made with.

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
