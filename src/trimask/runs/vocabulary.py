"""The token space of a run."""

from trimask.runs.kinds import kind_of
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import Vocabulary


def build_vocabulary(config: RunConfig, tokenizers: Tokenizers | None) -> Vocabulary:
    """The token space of a run: over the code spaces that are stated, or those of `tokenizers`."""
    return config.vocabulary(kind_of(config.data).spaces(tokenizers))
