"""Prepared folders as the data of a run: its mixture, and its tokenizers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trimask import io
from trimask.data.default_mixture import DEFAULT_WEIGHTS, default_components
from trimask.data.selection import PreparedData
from trimask.errors import UserError
from trimask.prepare.manifest import MANIFEST, TOKENIZERS, Manifest
from trimask.tokenizers.bundle import hashes
from trimask.training.run import RunConfig


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
