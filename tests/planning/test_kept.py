"""What a block is said to keep against what autograd saves."""

import gc
import warnings
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from trimask.model.attention import AttentionBackend, Documents, QKNorm
from trimask.model.block import Block
from trimask.model.recompute import Recompute
from trimask.model.rope import rotary_angles
from trimask.model.segments import ConditionAttention
from trimask.planning.kept import (
    count_kept_after_attention,
    count_kept_by_block,
    count_recomputed_by_block,
    gathers,
    is_loop,
)

WIDTH, HEADS, POSITIONS = 64, 2, 96
ON_CPU = {"is_gpu": False, "is_looped": True, "is_compiled": False}


def size(tensors: list[Tensor], others: list[Tensor]) -> int:
    """Bytes of the storages of `tensors`, each once, without those of `others`."""
    left_out = {tensor.untyped_storage().data_ptr() for tensor in others}
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(count for place, count in storages.items() if place not in left_out)


def run_block(
    recompute: Recompute,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    backend: AttentionBackend = AttentionBackend.LOOP,
    at: Tensor | None = None,
    prefixes: Tensor | None = None,
    qk_norm: QKNorm = QKNorm.RMS,
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The tensors of a block that are not its activations, those that autograd saved, and its output."""
    block = Block(WIDTH, HEADS, residual_multiplier=0.5, qk_norm=qk_norm).to(device, dtype)
    block.recompute = recompute
    coordinates = torch.rand(POSITIONS, 2, device=device)
    cos, sin = rotary_angles(coordinates, WIDTH // HEADS, 1e4)
    boundaries = torch.tensor([0, 30, 60, POSITIONS])
    documents = Documents.of(boundaries, backend, torch.device(device), prefixes=prefixes)
    h = torch.randn(POSITIONS, WIDTH, device=device, dtype=dtype, requires_grad=True)
    others = [*block.parameters(), cos, sin]
    indices = (documents.boundaries, documents.key_boundaries, documents.keys)
    others += [tensor for tensor in indices if tensor is not None]
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor.detach())
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        out = block(h, cos=cos, sin=sin, documents=documents, at=at)
    return others, saved, out


def expected(recompute: Recompute, qk_norm: QKNorm = QKNorm.RMS) -> int:
    hidden = Block(WIDTH, HEADS, residual_multiplier=1.0).feed_forward.down.in_features
    sizes = {"width": WIDTH, "hidden": hidden, "num_heads": HEADS, "element": 4}
    kept = count_kept_by_block(recompute, has_qk_norm=qk_norm is QKNorm.RMS, **ON_CPU)
    return POSITIONS * kept.num_bytes(**sizes)


@pytest.mark.parametrize("recompute", [Recompute.NONE, Recompute.FULL])
@pytest.mark.parametrize("qk_norm", QKNorm)
def test_autograd_saves_what_is_listed(recompute: Recompute, qk_norm: QKNorm) -> None:
    others, saved, _ = run_block(recompute, qk_norm=qk_norm)
    assert size(saved, others) == expected(recompute, qk_norm)


@pytest.mark.parametrize("recompute", [Recompute.NONE, Recompute.FULL])
def test_the_last_block_keeps_less_at_positions_that_are_not_read(recompute: Recompute) -> None:
    at = torch.arange(0, POSITIONS, 3)
    others, saved, _ = run_block(recompute, at=at)
    hidden = Block(WIDTH, HEADS, residual_multiplier=1.0).feed_forward.down.in_features
    after = count_kept_after_attention(recompute, **ON_CPU)
    spared = after.num_bytes(width=WIDTH, hidden=hidden, num_heads=HEADS, element=4)
    assert size(saved, [*others, at]) == expected(recompute) - (POSITIONS - len(at)) * spared


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("recompute", [Recompute.NONE, Recompute.FULL])
def test_autograd_saves_what_is_listed_on_a_gpu(recompute: Recompute) -> None:
    """But for a few numbers of the kernel's own."""
    others, saved, _ = run_block(
        recompute, device="cuda", dtype=torch.bfloat16, backend=AttentionBackend.VARLEN
    )
    kept = count_kept_by_block(recompute, is_gpu=True, is_looped=False, is_compiled=False)
    hidden = Block(WIDTH, HEADS, residual_multiplier=1.0).feed_forward.down.in_features
    listed = POSITIONS * kept.num_bytes(width=WIDTH, hidden=hidden, num_heads=HEADS, element=2)
    assert size(saved, others) == pytest.approx(listed, rel=0.02)


def test_selective_recomputation_holds_what_is_listed() -> None:
    """Its store is not autograd's: all tensors that are alive are counted, before and after."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # looking at all objects calls some that are deprecated
        before = {id(x) for x in gc.get_objects() if isinstance(x, Tensor)}
        others, saved, out = run_block(Recompute.SELECTIVE)
        (h,) = (tensor for tensor in saved if tensor.shape == (POSITIONS, WIDTH))
        saved.clear()
        gc.collect()
        alive = [x for x in gc.get_objects() if isinstance(x, Tensor) and id(x) not in before]
    assert size([*alive, h], [*others, out]) == expected(Recompute.SELECTIVE)


class Kernel(torch.autograd.Function):
    """Keeps what the kernel for variable lengths keeps."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, *others: object) -> Tensor:
        ctx.save_for_backward(q, k, v, out := torch.zeros_like(q), torch.zeros(q.shape[:2]))
        return out


def test_gathered_keys_and_values_are_kept() -> None:
    """All positions but the last of each document are of its prefix: their keys come twice."""
    lengths, prefixes = (30, 30, 36), torch.tensor([29, 29, 35])
    with patch("torch.nn.attention.varlen.varlen_attn", Kernel.apply):
        plain, gathered = (
            run_block(Recompute.NONE, backend=AttentionBackend.VARLEN, prefixes=given)
            for given in (None, prefixes)
        )
    assert sum(lengths) == POSITIONS
    kept = [size(saved, others) for others, saved, _ in (plain, gathered)]
    how = {"is_gpu": False, "is_looped": False, "is_compiled": False}
    hidden = Block(WIDTH, HEADS, residual_multiplier=1.0).feed_forward.down.in_features
    sizes = {"width": WIDTH, "hidden": hidden, "num_heads": HEADS, "element": 4}
    expected = [
        POSITIONS * count_kept_by_block(Recompute.NONE, is_gathered=is_gathered, **how).num_bytes(**sizes)
        for is_gathered in (False, True)
    ]
    assert kept[0] == expected[0] and kept[1] == expected[1] - len(lengths) * 2 * WIDTH * 4


def test_a_prefix_makes_the_loop_keep_no_more() -> None:
    others, saved, _ = run_block(Recompute.NONE, prefixes=torch.tensor([7, 29, 0]))
    assert size(saved, others) == expected(Recompute.NONE)


def test_only_the_kernel_for_variable_lengths_gathers() -> None:
    on_gpu = {"is_gpu": True, "is_half": True}
    assert gathers(ConditionAttention.PREFIX, None, **on_gpu)
    assert gathers(ConditionAttention.PREFIX, AttentionBackend.VARLEN, **on_gpu)
    assert not gathers(ConditionAttention.FULL, AttentionBackend.VARLEN, **on_gpu)
    for backend in (AttentionBackend.LOOP, AttentionBackend.FLEX):
        assert not gathers(ConditionAttention.PREFIX, backend, **on_gpu)
    assert not gathers(ConditionAttention.PREFIX, None, is_gpu=False, is_half=False)


def test_what_is_computed_again_completes_what_is_kept() -> None:
    everything = count_kept_by_block(Recompute.NONE, **ON_CPU)
    assert count_recomputed_by_block(Recompute.NONE, **ON_CPU).widths == 0
    again = count_recomputed_by_block(Recompute.FULL, **ON_CPU)
    assert (again.widths + 1, again.hiddens) == (everything.widths, everything.hiddens)


def test_the_loop_is_what_suits_a_cpu_and_full_precision() -> None:
    assert is_loop(None, is_gpu=False, is_half=False) and is_loop(None, is_gpu=True, is_half=False)
    assert not is_loop(None, is_gpu=True, is_half=True)
    assert is_loop(AttentionBackend.LOOP, is_gpu=True, is_half=True)
    assert not is_loop(AttentionBackend.FLEX, is_gpu=True, is_half=True)
