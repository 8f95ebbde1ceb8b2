"""The residual block of the speech networks."""

from typing import final

from jaxtyping import Float
from torch import Tensor, nn


@final
class ConvBlock(nn.Module):
    """Depthwise convolution over time, normalization, two-layer perceptron, residual (ConvNeXt, arXiv
    2201.03545).
    """

    def __init__(self, width: int, kernel: int, expansion: int = 2) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)

    def forward(self, x: Float[Tensor, "b frames width"]) -> Float[Tensor, "b frames width"]:
        """Return `x` plus the residual update."""
        y = self.mix(x.transpose(1, 2)).transpose(1, 2)
        return x + self.down(nn.functional.gelu(self.up(self.norm(y))))


@final
class ConvStack(nn.Module):
    """A linear layer, `depth` residual blocks and a linear layer that starts at zero, as does the output."""

    def __init__(self, inputs: int, outputs: int, *, width: int, depth: int, kernel: int) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.blocks = nn.Sequential(*(ConvBlock(width, kernel) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, outputs)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Float[Tensor, "b frames inputs"]) -> Float[Tensor, "b frames outputs"]:
        """Return one correction per frame, from a neighbourhood of `depth * (kernel - 1)` frames."""
        return self.leave(self.norm(self.blocks(self.enter(x))))
