"""The two functions of flash_attn that MDLM's DiT calls, by torch's kernels: flash_attn itself needs CUDA."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor


def install() -> None:
    """Let `import flash_attn` find these two."""
    for name in ("", ".flash_attn_interface", ".layers", ".layers.rotary"):
        name = f"flash_attn{name}"
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    vars(sys.modules["flash_attn.layers.rotary"])["apply_rotary_emb_qkv_"] = rotate_qkv
    interface = sys.modules["flash_attn.flash_attn_interface"]
    vars(interface)["flash_attn_varlen_qkvpacked_func"] = attend_equal_lengths


def rotate_qkv(qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries and keys of (rows, length, 3, heads, head_dim) by angles of (length, head_dim / 2)."""
    qk, v = qkv[:, :, :2], qkv[:, :, 2:]
    cos, sin = cos[:, None, None], sin[:, None, None]
    a, b = qk.chunk(2, dim=-1)
    return torch.cat([torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1), v], dim=2)


def attend_equal_lengths(
    qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, dropout_p: float = 0.0, *, causal: bool = False
) -> Tensor:
    """Attention of (rows × length, 3, heads, head_dim) where each row is one document, as MDLM's are."""
    if len(qkv) != (len(cu_seqlens) - 1) * max_seqlen:
        raise ValueError(f"{len(qkv)} tokens are not {len(cu_seqlens) - 1} documents of {max_seqlen}")
    q, k, v = qkv.unflatten(0, (-1, max_seqlen)).permute(2, 0, 3, 1, 4).unbind(0)
    attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, is_causal=causal)
    return attended.transpose(1, 2).flatten(0, 1)
