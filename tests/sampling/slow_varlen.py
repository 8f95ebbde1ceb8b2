"""A slow twin of the attention kernel for variable lengths, which has no CPU form."""

import torch
import torch.nn.functional as F
from torch import Tensor


def slow_varlen_attn(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, key_ends: Tensor, *most: int) -> Tensor:
    """Attend segment by segment."""
    of_queries, of_keys = ends.diff().tolist(), key_ends.diff().tolist()
    assert max(of_queries) <= most[0] and max(of_keys) <= most[1]
    parts = zip(q.split(of_queries), k.split(of_keys), v.split(of_keys), strict=True)
    return torch.cat([_attend(*part) for part in parts])


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(0, 1)
