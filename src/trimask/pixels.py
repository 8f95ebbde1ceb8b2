"""Convert pictures between bytes (rows, columns, channels) and tokenizer input (channels first, [-1, 1])."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def to_pixels(images: UInt8[np.ndarray, "n rows columns 3"]) -> Float[Tensor, "n 3 rows columns"]:
    """Convert bytes x to x / 127.5 - 1, as float32."""
    return torch.tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(pixels: Float[Tensor, "n 3 rows columns"]) -> UInt8[np.ndarray, "n rows columns 3"]:
    """Invert `to_pixels`: round to the nearest byte, clip values outside [-1, 1]."""
    scaled = ((pixels.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().numpy()
