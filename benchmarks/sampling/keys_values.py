"""A denoiser's passes over some positions of each row, with the keys and values of the others kept."""

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from trimask.model.block import Block
from trimask.model.denoiser import Denoiser
from trimask.model.rope import rotary_angles, rotate
from trimask.vocabulary.batch import Batch


@final
class KeysValues:
    """Keys and values of all blocks for a batch whose rows are alike (`refuse`).

    `position` is that of each slot in its row.
    """

    def __init__(self, denoiser: Denoiser, batch: Batch):
        assert refuse(batch) is None
        self.denoiser, self.position = denoiser, batch.position[0]
        self.rows, self.num_positions = len(batch.tokens), int(batch.cu_positions[1])
        config = denoiser.config
        coordinates = batch.coordinates[: self.num_positions]
        self.cos, self.sin = rotary_angles(coordinates, config.head_dim, config.rope_base)
        shape = (config.depth, self.rows, self.num_positions, config.num_heads, config.head_dim)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)

    def run(
        self,
        tokens: Int[Tensor, "rows some"],
        slots: slice,
        *,
        until: int | None = None,
        is_causal: bool = False,
    ) -> Float[Tensor, "rows new width"]:
        """Compute the positions of `slots`, which hold `tokens`; return their hidden states, and keep their
        keys and values.

        They attend to all positions before `until` (None: all), as they were when last computed; with
        `is_causal`, not to those on their right.
        """
        h, start = self._embed(tokens, slots)
        stop = start + h.shape[1]
        cos, sin = (angle[start:stop].repeat(self.rows, 1, 1) for angle in (self.cos, self.sin))
        h = h.flatten(0, 1)
        for index, block in enumerate(self.denoiser.blocks):
            assert isinstance(block, Block)
            attention = block.attention
            q, k, v = attention.qkv(block.attention_norm(h)).view(len(h), 3, *self.keys.shape[3:]).unbind(1)
            q, k = rotate(attention.q_norm(q), cos, sin), rotate(attention.k_norm(k), cos, sin)
            self.keys[index, :, start:stop] = k.unflatten(0, (self.rows, -1))
            self.values[index, :, start:stop] = v.unflatten(0, (self.rows, -1))
            attended = F.scaled_dot_product_attention(
                q.unflatten(0, (self.rows, -1)).transpose(1, 2),
                self.keys[index, :, :until].transpose(1, 2),
                self.values[index, :, :until].transpose(1, 2),
                is_causal=is_causal,
            )
            out = attention.out(attended.transpose(1, 2).reshape(h.shape))
            h = torch.add(h, out, alpha=block.residual_multiplier)
            fed = block.feed_forward(block.feed_forward_norm(h))
            h = torch.add(h, fed, alpha=block.residual_multiplier)
        return self.denoiser.final_norm(h).unflatten(0, (self.rows, -1))

    def _embed(
        self, tokens: Int[Tensor, "rows some"], slots: slice
    ) -> tuple[Float[Tensor, "rows new width"], int]:
        """Add up the embeddings of slots that share a position; return the first position too."""
        position = self.position[slots]
        start, stop = int(position[0]), int(position[-1]) + 1
        h = torch.zeros(self.rows, stop - start, self.denoiser.config.width)
        return h.index_add_(1, position - start, F.embedding(tokens, self.denoiser.embedding.weight)), start


def refuse(batch: Batch) -> str | None:
    """Return why keys and values cannot be kept for this batch; None if they can."""
    rows, lengths = len(batch.tokens), batch.cu_positions.diff()
    if len(lengths) != rows or (lengths != lengths[0]).any() or (batch.position < 0).any():
        return "the rows are not of one length"
    if (batch.coordinates.view(rows, -1, 2) != batch.coordinates[: int(lengths[0])]).any():
        return "the rows are not laid out alike"
    if (batch.maskable != batch.maskable[0]).any():
        return "the rows do not have their targets in the same slots"
    if (batch.position[0].diff() < 0).any():
        return "positions do not rise with slots"
    return None
