"""The token space of a run."""

from trimask.data.selection import StatedData
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import Vocabulary


def build_vocabulary(config: RunConfig, tokenizers: Tokenizers | None) -> Vocabulary:
    """Build the token space of a run from the stated code spaces, or those of `tokenizers`."""
    if isinstance(config.data, StatedData):
        return config.vocabulary(config.data.spaces)
    assert tokenizers is not None, "data that is there has tokenizers"
    return config.vocabulary(tokenizers.spaces)
