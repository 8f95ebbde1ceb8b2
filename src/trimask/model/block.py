"""One residual block: attention, then a SwiGLU feed-forward, each behind its RMSNorm."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trimask.model.attention import Attention


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
    """h + attention(norm h), then h + feed_forward(norm h)."""

    def __init__(self, width: int, num_heads: int, hidden: int):
        super().__init__()
        self.attention_norm = nn.RMSNorm(width)
        self.attention = Attention(width, num_heads)
        self.feed_forward_norm = nn.RMSNorm(width)
        self.feed_forward = SwiGLU(width, hidden)

    def forward(
        self,
        h: Float[Tensor, "positions width"],
        *,
        cos: Float[Tensor, "positions 1 half"],
        sin: Float[Tensor, "positions 1 half"],
        lengths: list[int],
    ) -> Float[Tensor, "positions width"]:
        h = h + self.attention(self.attention_norm(h), cos=cos, sin=sin, lengths=lengths)
        return h + self.feed_forward(self.feed_forward_norm(h))
