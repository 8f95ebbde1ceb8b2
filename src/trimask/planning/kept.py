"""Activations that a block keeps from forward to backward, tensor by tensor.

Listed from what autograd saves (`torch.autograd.graph.saved_tensors_hooks`; tests/planning/test_kept.py
does it again), per position, in numbers of width w, feed-forward width f and heads H. Unmeasured on GPUs [D].

`is_gathered`: the keys and values of prefixes are copied beside those of documents (`gathers`), counted as if
every position were of a prefix.
"""

from dataclasses import dataclass
from typing import final

from trimask.model.attention import AttentionBackend
from trimask.model.recompute import Recompute
from trimask.model.segments import ConditionAttention


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Elements per position: `widths` × w + `hiddens` × f in the precision of the products, and `statistics`
    + `head_statistics` × H in fp32.
    """

    widths: int
    hiddens: int = 0
    statistics: int = 0
    head_statistics: int = 0

    def num_bytes(self, *, width: int, hidden: int, num_heads: int, element: int) -> int:
        products = element * (self.widths * width + self.hiddens * hidden)
        return products + 4 * (self.statistics + self.head_statistics * num_heads)

    def minus(self, other: "Kept") -> "Kept":
        return Kept(
            widths=self.widths - other.widths,
            hiddens=self.hiddens - other.hiddens,
            statistics=self.statistics - other.statistics,
            head_statistics=self.head_statistics - other.head_statistics,
        )


def count_kept_by_block(
    recompute: Recompute,
    *,
    is_gpu: bool,
    is_looped: bool,
    is_compiled: bool,
    is_gathered: bool = False,
    has_qk_norm: bool = True,
) -> Kept:
    """Return the activation memory that one block keeps from forward to backward."""
    if recompute is Recompute.FULL:
        return Kept(widths=1)  # its input
    if recompute is Recompute.SELECTIVE or is_compiled:
        # Its input and the results of products: qkv 3, attention, out, gate and up, down; one number a head
        # of the softmax. A compiled block keeps about as much by the compiler's own choice [D].
        return Kept(widths=7, hiddens=2, head_statistics=1)
    return _all(is_gpu=is_gpu, is_looped=is_looped, is_gathered=is_gathered, has_qk_norm=has_qk_norm)


def count_recomputed_by_block(
    recompute: Recompute,
    *,
    is_gpu: bool,
    is_looped: bool,
    is_compiled: bool,
    is_gathered: bool = False,
    has_qk_norm: bool = True,
) -> Kept:
    """Return the extra activation memory held while the block is recomputed in backward."""
    how = {"is_gpu": is_gpu, "is_looped": is_looped, "is_gathered": is_gathered, "has_qk_norm": has_qk_norm}
    kept = count_kept_by_block(recompute, is_compiled=is_compiled, **how)
    if recompute is Recompute.NONE and not is_compiled:
        return Kept(widths=0)
    everything = _all(**how)
    if recompute is Recompute.FULL:
        return everything.minus(kept)
    # Backward does not need the kept outputs of `out` and `down`.
    return everything.minus(Kept(widths=5, hiddens=2, head_statistics=1))


def count_kept_after_attention(
    recompute: Recompute, *, is_gpu: bool, is_looped: bool, is_compiled: bool
) -> Kept:
    """Return the part of `count_kept_by_block` after attention, which the last block keeps only at positions
    that the loss reads.
    """
    if recompute is Recompute.FULL:
        return Kept(widths=0)
    if recompute is Recompute.SELECTIVE or is_compiled:
        return Kept(widths=2, hiddens=2)  # the results of out, of down, of gate and up
    return Kept(widths=2 + int(not is_gpu) + int(is_looped), hiddens=4, statistics=1)


def _all(*, is_gpu: bool, is_looped: bool, is_gathered: bool, has_qk_norm: bool) -> Kept:
    """Two norms (input, output; their inverse root mean squares), qkv 3, q and k turned 2, attention 1 (the
    softmax: a number a head), the middle of the block is the second norm's input; gate and up 2 f, silu f,
    product f. On a CPU a norm is several operations, and keeps the normalized input too: of both norms, of q
    and of k. A loop over documents copies their results into one tensor. Gathered keys and values, 2 each,
    are kept in place of k turned.
    """
    num_norms = 2 if has_qk_norm else 0  # of q and of k
    fused = Kept(widths=10, hiddens=4, statistics=2, head_statistics=1 + num_norms)
    extra = (0 if is_gpu else 2 + num_norms) + int(is_looped) + 3 * int(is_gathered)
    return Kept(
        widths=fused.widths + extra,
        hiddens=fused.hiddens,
        statistics=fused.statistics,
        head_statistics=fused.head_statistics,
    )


def is_loop(backend: AttentionBackend | None, *, is_gpu: bool, is_half: bool) -> bool:
    """Return whether attention with `backend` loops over documents."""
    return backend is AttentionBackend.LOOP or (backend is None and not (is_gpu and is_half))


def gathers(
    condition_attention: ConditionAttention, backend: AttentionBackend | None, *, is_gpu: bool, is_half: bool
) -> bool:
    """Return whether attention with `backend` copies the keys and values of prefixes: the kernel for variable
    lengths alone.
    """
    is_kernel = backend is not AttentionBackend.FLEX and not is_loop(backend, is_gpu=is_gpu, is_half=is_half)
    return is_kernel and condition_attention is ConditionAttention.PREFIX
