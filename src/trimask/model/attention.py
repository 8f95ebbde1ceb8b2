"""Bidirectional self-attention within documents."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trimask.model.rope import rotate


class Attention(nn.Module):
    """Multi-head attention with QK-norm and RoPE; a document attends to itself alone."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = width // num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.q_norm = nn.RMSNorm(self.head_dim)
        self.k_norm = nn.RMSNorm(self.head_dim)

    def forward(
        self,
        h: Float[Tensor, "positions width"],
        *,
        cos: Float[Tensor, "positions 1 half"],
        sin: Float[Tensor, "positions 1 half"],
        lengths: list[int],
    ) -> Float[Tensor, "positions width"]:
        """`lengths`: positions of each document, in order; they add up to all positions."""
        q, k, v = self.qkv(h).view(len(h), 3, self.num_heads, self.head_dim).unbind(1)
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        return self.out(attend_documents(q, k, v, lengths).reshape(len(h), -1))


def attend_documents(
    q: Float[Tensor, "positions heads head_dim"],
    k: Float[Tensor, "positions heads head_dim"],
    v: Float[Tensor, "positions heads head_dim"],
    lengths: list[int],
) -> Float[Tensor, "positions heads head_dim"]:
    """softmax(q kᵀ / √head_dim) v over each document: one SDPA call per run of equally long documents.

    On CPU this loop takes a quarter of the time of dense attention over the whole row (PERFORMANCE), and it
    is the reference for any other backend.
    """
    outputs = []
    start = 0
    for length, count in _runs(lengths):
        stop = start + length * count
        q_run, k_run, v_run = (x[start:stop].unflatten(0, (count, length)).transpose(1, 2) for x in (q, k, v))
        outputs.append(F.scaled_dot_product_attention(q_run, k_run, v_run).transpose(1, 2).flatten(0, 1))
        start = stop
    return torch.cat(outputs)


def _runs(lengths: list[int]) -> list[tuple[int, int]]:
    """(length, how many in a row) for each run of equal lengths."""
    runs: list[tuple[int, int]] = []
    for length in lengths:
        if runs and runs[-1][0] == length:
            runs[-1] = (length, runs[-1][1] + 1)
        else:
            runs.append((length, 1))
    return runs
