"""Bidirectional self-attention within documents."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from trimask.devices import send
from trimask.model.cache import BlockCache
from trimask.model.rope import rotate
from trimask.model.segments import Run, Segments


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


class QKNorm(enum.Enum):
    """Whether each head's queries and keys are normalized before they are rotated: by an RMSNorm with a gain
    per dimension, which bounds the scores [L: Henry et al. 2020, arXiv 2010.04245], or not.
    """

    RMS = "rms"
    NONE = "none"


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Documents:
    """What each query of a pass attends to, in the form that the attention backend needs.

    Attributes:
        runs: documents that are alike. On the host; only for the loop, since compiled code specializes on the
            number of documents in a tuple.
        boundaries, key_boundaries: cumulative queries and keys of each segment from 0, on the device; for the
            variable-length kernel.
        keys: which keys `key_boundaries` count, in order; None for all.
        longest, longest_keys: upper bounds on the queries and keys of a segment; powers of 2, since compiled
            code specializes on each value.
        mask: FlexAttention's.
    """

    backend: AttentionBackend
    runs: tuple[Run, ...] = ()
    boundaries: Int[Tensor, "boundaries"] | None = None
    key_boundaries: Int[Tensor, "boundaries"] | None = None
    keys: Int[Tensor, "keys"] | None = None
    longest: int = 0
    longest_keys: int = 0
    mask: Any = None

    @classmethod
    def of(
        cls,
        cu_positions: Int[Tensor, "boundaries"],
        backend: AttentionBackend,
        device: torch.device,
        *,
        prefixes: Int[Tensor, "documents"] | None = None,
        active: Int[Tensor, "active"] | None = None,
    ) -> "Documents":
        """From document boundaries in positions, best given on the host: lengths are needed there.

        Args:
            prefixes: positions at the start of each document that attend to themselves alone; None for none.
            active: sorted positions that are queries; None for all. Every position is a key.
        """
        is_whole = prefixes is None and active is None
        segments = Segments.of(cu_positions, prefixes=prefixes, active=active)
        if backend is AttentionBackend.LOOP:
            return cls(backend=backend, runs=segments.runs())
        if backend is AttentionBackend.FLEX:
            mask = _document_mask(cu_positions, device) if is_whole else _segment_mask(segments, device)
            return cls(backend=backend, mask=mask)
        queries, keys, gathered = (cu_positions, cu_positions, None) if is_whole else segments.packed()
        boundaries, longest = send(queries.to(torch.int32), device), _rounded_up(queries)
        return cls(
            backend=backend,
            boundaries=boundaries,
            key_boundaries=boundaries if is_whole else send(keys.to(torch.int32), device),
            keys=None if gathered is None else send(gathered, device),
            longest=longest,
            longest_keys=longest if is_whole else _rounded_up(keys),
        )


def _rounded_up(boundaries: Int[Tensor, "boundaries"]) -> int:
    return 1 << (max(boundaries.diff().tolist(), default=1) - 1).bit_length()


class Attention(nn.Module):
    """Multi-head attention with RoPE, and QK-norm unless `qk_norm` says otherwise; a document attends only to
    itself.

    `attend` is the function of that name, or one that does the same.
    """

    def __init__(self, width: int, num_heads: int, qk_norm: QKNorm = QKNorm.RMS):
        super().__init__()
        self.head_dim = width // num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.q_norm, self.k_norm = (
            nn.RMSNorm(self.head_dim) if qk_norm is QKNorm.RMS else nn.Identity() for _ in range(2)
        )
        self.attend = attend

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
        """Return the output, only of rows `at` if given. Renew the keys and values of these positions in
        `cache`, if given, and attend to all that it has.
        """
        # Best a size of a weight: of a number of ours, compiled code may have kernels for any head dimension.
        norm = self.q_norm
        head_dim = norm.weight.shape[0] if isinstance(norm, nn.RMSNorm) else self.head_dim
        q, k, v = self.qkv(h).view(len(h), 3, -1, head_dim).unbind(1)
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        if cache is not None:
            k, v = cache.renew(k, v)
        attended = self.attend(q, k, v, documents).reshape(len(h), -1)
        return self.out(attended if at is None else attended.index_select(0, at))


def attend(
    q: Float[Tensor, "queries heads head_dim"],
    k: Float[Tensor, "positions heads head_dim"],
    v: Float[Tensor, "positions heads head_dim"],
    documents: Documents,
) -> Float[Tensor, "queries heads head_dim"]:
    """Compute softmax(q kᵀ / √head_dim) v, each query over its document or the prefix of it."""
    if documents.backend is AttentionBackend.LOOP:
        return attend_in_loop(q, k, v, documents.runs)
    if documents.backend is AttentionBackend.FLEX:
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        return _flex_attention(q, k, v, documents.mask)[0].transpose(0, 1)
    from torch.nn.attention.varlen import varlen_attn  # not in CPU-only builds of every version

    ends, key_ends, keys = documents.boundaries, documents.key_boundaries, documents.keys
    assert ends is not None and key_ends is not None
    if keys is not None:
        # Gradients of a key that comes twice are a sum of two: the same in any order.
        k, v = k.index_select(0, keys), v.index_select(0, keys)
    attended = varlen_attn(q, k, v, ends, key_ends, documents.longest, documents.longest_keys)
    assert isinstance(attended, Tensor)
    return attended


def attend_in_loop(
    q: Float[Tensor, "queries heads head_dim"],
    k: Float[Tensor, "positions heads head_dim"],
    v: Float[Tensor, "positions heads head_dim"],
    runs: Sequence[Run],
) -> Float[Tensor, "queries heads head_dim"]:
    """Call SDPA once per run of documents that are alike, or twice if they have a prefix. On CPUs this takes
    a quarter of the time of dense attention over the whole row; in fp32, since the backward pass of bf16
    takes 2.5 times as long there.
    """
    if q.device.type == "cpu" and q.dtype is torch.bfloat16:
        return attend_in_loop(q.float(), k.float(), v.float(), runs).to(q.dtype)
    # Split, not sliced: the gradient of a slice is as large as the whole.
    queries = q.split([run.count * run.num_active for run in runs])
    keys, values = (x.split([run.count * run.length for run in runs]) for x in (k, v))
    outputs = []
    for run, of_run, keys_of_run, values_of_run in zip(runs, queries, keys, values, strict=True):
        if run.num_active:
            q_run = of_run.unflatten(0, (run.count, run.num_active)).transpose(1, 2)
            k_run, v_run = (
                x.unflatten(0, (run.count, run.length)).transpose(1, 2) for x in (keys_of_run, values_of_run)
            )
            outputs.append(_attend_alike(q_run, k_run, v_run, run).transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)


def _attend_alike(
    q: Float[Tensor, "count heads queries head_dim"],
    k: Float[Tensor, "count heads length head_dim"],
    v: Float[Tensor, "count heads length head_dim"],
    run: Run,
) -> Float[Tensor, "count heads queries head_dim"]:
    num_rest = run.num_active - run.num_active_in_prefix
    if not run.num_active_in_prefix:
        return F.scaled_dot_product_attention(q, k, v)
    of_prefix, of_rest = q.split([run.num_active_in_prefix, num_rest], dim=2)
    k_prefix, v_prefix = k[:, :, : run.prefix], v[:, :, : run.prefix]
    attended = F.scaled_dot_product_attention(of_prefix, k_prefix, v_prefix)
    if not num_rest:
        return attended
    return torch.cat([attended, F.scaled_dot_product_attention(of_rest, k, v)], dim=2)


def _document_mask(cu_positions: Int[Tensor, "boundaries"], device: torch.device) -> Any:
    """Build the mask of documents of which every position attends to all."""
    num_positions = int(cu_positions[-1])
    boundaries = send(cu_positions.to(torch.int32), device)
    places = torch.arange(num_positions, device=device, dtype=torch.int32)
    document = torch.searchsorted(boundaries, places, right=True)
    return _block_mask(
        lambda query, key: document[query] == document[key], num_positions, num_positions, device
    )


def _segment_mask(segments: Segments, device: torch.device) -> Any:
    first, end = (send(each, device) for each in segments.key_ranges())
    return _block_mask(
        lambda query, key: (first[query] <= key) & (key < end[query]),
        len(first),
        int(segments.boundaries[-1]),
        device,
    )


def _block_mask(
    sees: Callable[[Tensor, Tensor], Tensor], num_queries: int, num_keys: int, device: torch.device
) -> Any:
    """Build FlexAttention's block mask, which skips blocks without attention."""
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(
        lambda batch, head, query, key: sees(query, key),
        B=None,
        H=None,
        Q_LEN=num_queries,
        KV_LEN=num_keys,
        device=str(device),
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
