"""One residual block: attention, then a SwiGLU feed-forward, each behind its RMSNorm."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from trimask.model.attention import Attention, Documents, QKNorm
from trimask.model.cache import BlockCache
from trimask.model.recompute import Recompute, run


def feed_forward_width(width: int) -> int:
    """8/3 × width, rounded up to 32: as many weights as a feed-forward of two matrices with 4 × width."""
    return 32 * math.ceil(width * 8 / 3 / 32)


class SwiGLU(nn.Module):
    """down(silu(gate x) · up x) (Shazeer 2020), without biases."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, h: Float[Tensor, "positions width"]) -> Float[Tensor, "positions width"]:
        gate, up = self.gate_up(h).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """h + c · attention(norm h), then h + c · feed_forward(norm h), with c the residual multiplier.

    `recompute` selects what is recomputed in backward. With `at`, only those positions are returned; all are
    attended to, and with `cache` all that it has.
    """

    def __init__(
        self, width: int, num_heads: int, *, residual_multiplier: float, qk_norm: QKNorm = QKNorm.RMS
    ):
        super().__init__()
        self.residual_multiplier = residual_multiplier
        self.recompute = Recompute.NONE
        self.attention_norm = nn.RMSNorm(width)
        self.attention = Attention(width, num_heads, qk_norm)
        self.feed_forward_norm = nn.RMSNorm(width)
        self.feed_forward = SwiGLU(width, feed_forward_width(width))

    def forward(
        self,
        h: Float[Tensor, "positions width"],
        *,
        cos: Float[Tensor, "positions 1 half"],
        sin: Float[Tensor, "positions 1 half"],
        documents: Documents,
        at: Int[Tensor, "kept"] | None = None,
        cache: BlockCache | None = None,
    ) -> Float[Tensor, "kept width"]:
        given = {"cos": cos, "sin": sin, "documents": documents, "at": at, "cache": cache}
        return run(self.recompute, self._residual, h, **given)

    def _residual(self, h: Tensor, *, at: Tensor | None, **given: Any) -> Float[Tensor, "kept width"]:
        attended = self.attention(self.attention_norm(h), at=at, **given)
        h = h if at is None else h.index_select(0, at)
        h = torch.add(h, attended, alpha=self.residual_multiplier)
        return torch.add(h, self.feed_forward(self.feed_forward_norm(h)), alpha=self.residual_multiplier)
