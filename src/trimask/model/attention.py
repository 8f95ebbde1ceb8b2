"""Bidirectional self-attention within documents."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from trimask.devices import send
from trimask.model.rope import rotate


class AttentionBackend(enum.Enum):
    """How documents of different lengths attend without padding.

    A loop of SDPA calls (any device; the reference), the flash kernel for variable lengths (GPU, half
    precision), or FlexAttention (GPU, compiled).
    """

    LOOP = "loop"
    VARLEN = "varlen"
    FLEX = "flex"

    @classmethod
    def suited(cls, device: torch.device, dtype: torch.dtype) -> "AttentionBackend":
        """Choose the backend: on CPUs there is no variable-length kernel, and FlexAttention has no
        backward."""
        has_kernel = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
        return cls.VARLEN if has_kernel else cls.LOOP


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Documents:
    """Document boundaries of a pass, in the form that the attention backend needs.

    Attributes:
        lengths: positions of each document, in order. On the host; only for the loop, since compiled code
            specializes on the number of documents in a tuple.
        boundaries: cumulative lengths from 0, on the device; for the variable-length kernel.
        longest: an upper bound on the length; a power of 2, since compiled code specializes on each value.
        mask: FlexAttention's.
    """

    backend: AttentionBackend
    lengths: tuple[int, ...] = ()
    boundaries: Int[Tensor, "boundaries"] | None = None
    longest: int = 0
    mask: Any = None

    @classmethod
    def of(
        cls, cu_positions: Int[Tensor, "boundaries"], backend: AttentionBackend, device: torch.device
    ) -> "Documents":
        """From document boundaries in positions, best given on the host: lengths are needed there."""
        lengths = tuple(cu_positions.diff().tolist())
        if backend is AttentionBackend.LOOP:
            return cls(backend=backend, lengths=lengths)
        boundaries = send(cu_positions.to(torch.int32), device)
        longest = 1 << (max(lengths, default=1) - 1).bit_length()
        mask = _document_mask(boundaries, sum(lengths)) if backend is AttentionBackend.FLEX else None
        return cls(backend=backend, boundaries=boundaries, longest=longest, mask=mask)


class Attention(nn.Module):
    """Multi-head attention with QK-norm and RoPE; a document attends only to itself.

    `attend` is the function of that name, or one that does the same.
    """

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        head_dim = width // num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.q_norm = nn.RMSNorm(head_dim)
        self.k_norm = nn.RMSNorm(head_dim)
        self.attend = attend

    def forward(
        self,
        h: Float[Tensor, "positions width"],
        *,
        cos: Float[Tensor, "positions 1 half"],
        sin: Float[Tensor, "positions 1 half"],
        documents: Documents,
        at: Int[Tensor, "kept"] | None = None,
    ) -> Float[Tensor, "kept width"]:
        """Return the output, only of rows `at` if given."""
        # A size of a weight, not a number of ours: compiled code would have kernels for any head dimension.
        head_dim = self.q_norm.weight.shape[0]
        q, k, v = self.qkv(h).view(len(h), 3, -1, head_dim).unbind(1)
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        attended = self.attend(q, k, v, documents).reshape(len(h), -1)
        return self.out(attended if at is None else attended.index_select(0, at))


def attend(
    q: Float[Tensor, "positions heads head_dim"],
    k: Float[Tensor, "positions heads head_dim"],
    v: Float[Tensor, "positions heads head_dim"],
    documents: Documents,
) -> Float[Tensor, "positions heads head_dim"]:
    """Compute softmax(q kᵀ / √head_dim) v over each document."""
    if documents.backend is AttentionBackend.LOOP:
        return attend_in_loop(q, k, v, documents.lengths)
    if documents.backend is AttentionBackend.FLEX:
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        return _flex_attention(q, k, v, documents.mask)[0].transpose(0, 1)
    from torch.nn.attention.varlen import varlen_attn  # not in CPU-only builds of every version

    ends, longest = documents.boundaries, documents.longest
    assert ends is not None
    attended = varlen_attn(q, k, v, ends, ends, longest, longest)
    assert isinstance(attended, Tensor)
    return attended


def attend_in_loop(
    q: Float[Tensor, "positions heads head_dim"],
    k: Float[Tensor, "positions heads head_dim"],
    v: Float[Tensor, "positions heads head_dim"],
    lengths: Sequence[int],
) -> Float[Tensor, "positions heads head_dim"]:
    """Call SDPA once per run of equally long documents. On CPUs this takes a quarter of the time of dense
    attention over the whole row.
    """
    outputs = []
    start = 0
    for length, count in _runs(lengths):
        stop = start + length * count
        q_run, k_run, v_run = (x[start:stop].unflatten(0, (count, length)).transpose(1, 2) for x in (q, k, v))
        outputs.append(F.scaled_dot_product_attention(q_run, k_run, v_run).transpose(1, 2).flatten(0, 1))
        start = stop
    return torch.cat(outputs)


def _runs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """(length, how many in a row) for each run of equal lengths."""
    runs: list[tuple[int, int]] = []
    for length in lengths:
        if runs and runs[-1][0] == length:
            runs[-1] = (length, runs[-1][1] + 1)
        else:
            runs.append((length, 1))
    return runs


def _document_mask(boundaries: Int[Tensor, "boundaries"], num_positions: int) -> Any:
    """Build FlexAttention's block mask, which skips blocks without attention."""
    from torch.nn.attention.flex_attention import create_block_mask

    places = torch.arange(num_positions, device=boundaries.device, dtype=boundaries.dtype)
    document = torch.searchsorted(boundaries, places, right=True)

    device = str(boundaries.device)
    return create_block_mask(
        lambda batch, head, query, key: document[query] == document[key],
        B=None,
        H=None,
        Q_LEN=num_positions,
        KV_LEN=num_positions,
        device=device,
    )


def _flex_attention(q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
    """Run FlexAttention; on a CPU the eager form holds all scores at once, for tests only."""
    from torch.nn.attention.flex_attention import flex_attention

    is_within_compiled = torch.compiler.is_compiling()
    attention = _compiled(flex_attention) if q.is_cuda and not is_within_compiled else flex_attention
    return attention(q, k, v, block_mask=mask)


@cache
def _compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=True)
