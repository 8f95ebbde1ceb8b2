"""The token space of a run."""

from trimask.data.selection import StatedData
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import Vocabulary


def vocabulary_of(config: RunConfig, tokenizers: Tokenizers | None) -> Vocabulary:
    """The token space of a run: over the code spaces that are stated, or those of `tokenizers`."""
    if isinstance(config.data, StatedData):
        return config.vocabulary(config.data.spaces)
    assert tokenizers is not None, "data that is there has tokenizers"
    return config.vocabulary(tokenizers.spaces)
