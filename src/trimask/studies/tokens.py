"""The tokens of a run's data, for trials."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from trimask.config import fingerprint
from trimask.data.source import ExampleSource
from trimask.data.view import add_views
from trimask.runs.kinds import kind_of
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig


def load_tokenizers(config: RunConfig) -> Tokenizers:
    """Those of prepared data, or those that ship."""
    return Tokenizers.load(kind_of(config.data).tokenizers())


def load_sources(
    config: RunConfig,
    tokenizers: Tokenizers,
    split: Literal["train", "validation"],
    tokens: Path,
    *,
    report: Callable[[str], None] = lambda message: None,
) -> Mapping[str, ExampleSource]:
    """The token sources of a split, kept in `tokens` for all trials on the same data; with the views that the
    run's mixture draws from (`trimask.data.view`).
    """
    found = kind_of(config.data).sources(tokenizers, split, tokens / fingerprint(config.data), report)
    return add_views(found, tuple(component.source for component in config.mixture.components))
