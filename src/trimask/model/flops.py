"""Parameter and FLOP counts of the denoiser."""

from dataclasses import dataclass
from typing import final

from trimask.model.attention import QKNorm
from trimask.model.denoiser import DenoiserConfig
from trimask.model.segments import ConditionAttention
from trimask.vocabulary.layout import Vocabulary


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterCount:
    """Parameters by part: scaling laws differ in whether they count embeddings, so both are reported."""

    embedding: int
    unembedding: int
    blocks: int

    @property
    def total(self) -> int:
        return self.embedding + self.unembedding + self.blocks


def count_parameters(config: DenoiserConfig, vocabulary: Vocabulary) -> ParameterCount:
    """Exact counts."""
    table = vocabulary.size * config.width
    return ParameterCount(embedding=table, unembedding=table, blocks=block_parameters(config))


def block_parameters(config: DenoiserConfig) -> int:
    """Parameters of all blocks and of the final norm."""
    qk_norm = 2 * config.head_dim if config.qk_norm is QKNorm.RMS else 0
    block = 4 * config.width**2 + 3 * config.width * config.hidden + 2 * config.width + qk_norm
    return config.depth * block + config.width


def forward_flops(
    config: DenoiserConfig,
    *,
    num_positions: int,
    document_length: int,
    num_predicted: int,
    range_size: int,
    num_read: float | int | None = None,
    prefix_length: int = 0,
) -> int:
    """Multiply-adds × 2 of one forward pass: what the step needs, without padding.

    Args:
        num_positions: positions in all documents.
        document_length: positions of a document (attention is quadratic in it only).
        num_predicted: slots whose logits are formed, each over `range_size` codes.
        num_read: positions of these slots (a mean, so it may be a fraction), None for all: the last block's
            feed-forward and the product after its attention are needed there alone.
        prefix_length: positions of a document's prefix (`Sequence.prefix_length`), which may attend to fewer.
    """
    after_attention = config.width**2 + 3 * config.width * config.hidden
    matrices = 3 * config.width**2 + after_attention
    attention = 2 * document_length * config.width
    spared = 0 if num_read is None else (num_positions - num_read) * after_attention
    if prefix_length and config.condition_attention is ConditionAttention.PREFIX:
        # In each document, positions of the prefix do not attend to the rest.
        not_seen = prefix_length * (document_length - prefix_length) * num_positions / document_length
        spared += config.depth * 2 * config.width * not_seen
    rest = num_positions * config.depth * (matrices + attention) + num_predicted * config.width * range_size
    return 2 * rest - round(2 * spared)
