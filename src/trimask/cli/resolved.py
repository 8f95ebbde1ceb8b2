"""A recipe by name, with overrides, and what there is to say about it before it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trimask import modules
from trimask.cli.arguments import choose
from trimask.cli.failure import UsageError, reading_files
from trimask.config import override
from trimask.recipes.catalog import RECIPES, resolve

if TYPE_CHECKING:  # they take torch, and an unknown recipe should be told at once
    from trimask.model.flops import ParameterCount
    from trimask.recipes.catalog import Recipe
    from trimask.tokenizers.bundle import Tokenizers
    from trimask.training.run import RunConfig


def resolved(
    recipe: str, overrides: Mapping[str, str], data: Sequence[Path] = (), *, group_by: str | None = None
) -> "Recipe":
    """The configuration of `recipe`, on `data` if there is any (prepared folders; for a tokenizer raw
    sources, grouped by a column), with `overrides`.

    Raises:
        UsageError, ConfigError: an unknown recipe or field, or a value that does not fit; with the mend.
    """
    config = resolve(recipe if modules.is_own(recipe) else choose("recipe", recipe, RECIPES))
    return _on(config, overrides, data, group_by) if data else override(config, overrides)


def _on(
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
    # Options are checked before anything is read, and it is read as they say.
    unread = RawSignals(
        sources=tuple(map(str, data)),
        fingerprints=("",) * len(data),
        options=PrepareOptions(needs_text=isinstance(config, TextTokenizerRun), group_by=group_by),
    )
    config = override(replace(config, data=unread), overrides)
    if not isinstance(config.data, RawSignals):
        return config
    with reading_files():
        return replace(config, data=raw_signals(config.data.sources, config.data.options))


def tokenizer_folder(folder: Path | None, data: Sequence[Path] = ()) -> Path:
    """`folder`, or that of the prepared `data`, or the one that ships."""
    from trimask.runs.prepared import tokenizers_of_data
    from trimask.tokenizers.bundle import SHIPPED

    if folder is not None and data:
        raise UsageError(
            "--tokenizers cannot go with --data: prepared data has the tokenizers it was made with"
        )
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--tokenizers {folder} is no folder: give one with the three tokenizer files")
    if data:
        return tokenizers_of_data(data)
    return SHIPPED if folder is None else folder


def load_tokenizers(folder: Path | None, data: Sequence[Path] = ()) -> "Tokenizers":
    """The tokenizers of `tokenizer_folder`."""
    from trimask.tokenizers.bundle import Tokenizers

    chosen = tokenizer_folder(folder, data)
    with reading_files():
        return Tokenizers.load(chosen)


def parameters(config: "RunConfig", tokenizers: "Tokenizers") -> "ParameterCount":
    """The denoiser's parameters over the vocabulary of `tokenizers`."""
    from trimask.model.flops import count_parameters
    from trimask.runs.build import build_vocabulary

    return count_parameters(config.model, build_vocabulary(config, tokenizers))
