"""Rotary position embedding over two coordinates.

Each head's dimension is split in two halves; one turns with the first coordinate, one with the second. On a
line both coordinates are equal, so this is ordinary RoPE (Su et al. 2021) with each frequency used twice; on
a picture they are row and column [L: M-RoPE, Qwen2-VL].
"""

import torch
from jaxtyping import Float
from torch import Tensor


def rotary_angles(
    coordinates: Float[Tensor, "positions 2"], head_dim: int, base: float
) -> tuple[Float[Tensor, "positions 1 half"], Float[Tensor, "positions 1 half"]]:
    """cos and sin of coordinate × frequency, frequencies base^(−4i/head_dim); broadcasting over heads."""
    quarter = head_dim // 4
    frequency = base ** (-torch.arange(quarter, device=coordinates.device, dtype=torch.float32) / quarter)
    angles = (coordinates[:, :, None] * frequency).reshape(len(coordinates), 1, 2 * quarter)
    return angles.cos(), angles.sin()


def rotate(
    x: Float[Tensor, "positions heads head_dim"],
    cos: Float[Tensor, "positions 1 half"],
    sin: Float[Tensor, "positions 1 half"],
) -> Float[Tensor, "positions heads head_dim"]:
    """Turn each pair (x_i, x_{i + half}) by its angle, in the precision of the angles."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(x.dtype)
