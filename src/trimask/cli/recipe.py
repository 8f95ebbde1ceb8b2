"""Resolve a recipe's name, data and overrides into a configuration, and find its tokenizers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trimask import modules
from trimask.cli.arguments import choose
from trimask.cli.failure import UsageError, convert_file_errors
from trimask.config import override
from trimask.recipes.catalog import RECIPES, resolve

if TYPE_CHECKING:  # these import torch, which takes seconds: an unknown recipe must be reported before that
    from trimask.model.flops import ParameterCount
    from trimask.recipes.catalog import Recipe
    from trimask.tokenizers.bundle import Tokenizers
    from trimask.training.run import RunConfig


def resolve_recipe(
    recipe: str, overrides: Mapping[str, str], data: Sequence[Path] = (), *, group_by: str | None = None
) -> "Recipe":
    """Return the configuration of `recipe` with `data` in place of its own, and with `overrides`.

    Args:
        data: prepared folders; for a tokenizer, raw sources.
        group_by: column of a tokenizer's raw data whose equal values share a split.

    Raises:
        UsageError, ConfigError: an unknown recipe or field, or a value that does not fit.
        Failed: data that cannot be read.
    """
    config = resolve(recipe if modules.is_own(recipe) else choose("recipe", recipe, RECIPES))
    return _use_data(config, overrides, data, group_by) if data else override(config, overrides)


def _use_data(
    config: "Recipe", overrides: Mapping[str, str], data: Sequence[Path], group_by: str | None
) -> "Recipe":
    from trimask.runs.prepared import with_prepared
    from trimask.sources.options import PrepareOptions
    from trimask.tokenizer_training.data import RawSignals
    from trimask.tokenizer_training.decoded import raw_signals
    from trimask.tokenizer_training.text import TextTokenizerRun
    from trimask.training.run import RunConfig

    if isinstance(config, RunConfig):
        if group_by is not None:
            raise UsageError("--group-by is for a tokenizer's raw data: `trimask prepare` has grouped this")
        return override(with_prepared(config, data), overrides)
    # Overrides may set the options that data is read with: they are applied and checked before reading.
    unread = RawSignals(
        sources=tuple(map(str, data)),
        fingerprints=("",) * len(data),
        options=PrepareOptions(needs_text=isinstance(config, TextTokenizerRun), group_by=group_by),
    )
    config = override(replace(config, data=unread), overrides)
    if not isinstance(config.data, RawSignals):
        return config
    with convert_file_errors():
        return replace(config, data=raw_signals(config.data.sources, config.data.options))


def find_tokenizer_folder(folder: Path | None, data: Sequence[Path] = ()) -> Path:
    """Return `folder` if given, else the tokenizer folder of the prepared `data`, else the shipped one.

    Raises:
        UsageError: both are given, or `folder` is not a folder.
    """
    from trimask.runs.prepared import tokenizers_of_data
    from trimask.tokenizers.bundle import SHIPPED

    if folder is not None and data:
        raise UsageError(
            "--tokenizers cannot go with --data: prepared data has the tokenizers it was made with"
        )
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--tokenizers {folder} is not a folder: give one with the three tokenizer files")
    if data:
        return tokenizers_of_data(data)
    return SHIPPED if folder is None else folder


def load_tokenizers(folder: Path | None, data: Sequence[Path] = ()) -> "Tokenizers":
    """Load the tokenizers of `find_tokenizer_folder`."""
    from trimask.tokenizers.bundle import Tokenizers

    chosen = find_tokenizer_folder(folder, data)
    with convert_file_errors():
        return Tokenizers.load(chosen)


def count_denoiser_parameters(config: "RunConfig", tokenizers: "Tokenizers") -> "ParameterCount":
    """Count the denoiser's parameters over the vocabulary of `tokenizers`."""
    from trimask.model.flops import count_parameters
    from trimask.runs.build import build_vocabulary

    return count_parameters(config.model, build_vocabulary(config, tokenizers))
