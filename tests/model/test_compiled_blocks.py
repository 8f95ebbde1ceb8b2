"""Compiled blocks over batches of different lengths: code is made once, and computes the same.

The variable-length kernel has no CPU form: slow ones stand in for it here.
"""

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn.attention import varlen

from trimask.model.attention import AttentionBackend, Documents, attend_in_loop
from trimask.model.block import Block
from trimask.model.recompute import Recompute
from trimask.model.rope import rotary_angles

LENGTHS = ((5, 9), (7, 7, 3), (20,), (4, 3, 2, 30), (6,) * 9, (40, 2))


def loop(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, *args) -> tuple[Tensor, Tensor, Tensor]:
    out = attend_in_loop(q, k, v, ends.diff().tolist())
    return out.clone(), torch.zeros(q.shape[1], len(q)), torch.zeros(2, dtype=torch.uint64)


def loop_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, ends: Tensor, *args, **kwargs
) -> tuple[Tensor, Tensor, Tensor]:
    grads = tuple(torch.empty_like(x) for x in (q, k, v))
    bounds, factor = ends.tolist(), q.shape[-1] ** -0.5
    for start, stop in zip(bounds, bounds[1:], strict=False):
        a, b, c, g = (x[start:stop].transpose(0, 1) for x in (q, k, v, grad))
        p = (a @ b.mT * factor).softmax(-1)
        from_p = g @ c.mT
        scores = p * (from_p - (from_p * p).sum(-1, keepdim=True)) * factor
        for found, value in zip(grads, (scores @ b, scores.mT @ a, p.mT @ g), strict=True):
            found[start:stop] = value.transpose(0, 1)
    return grads


@pytest.fixture(scope="module")
def cpu_kernels() -> None:
    varlen._varlen_attn.register_kernel("cpu")(loop)
    varlen._varlen_attn_backward.register_kernel("cpu")(loop_backward)


def gradients(
    block: Block, lengths: tuple[int, ...], backend: AttentionBackend, *, some: bool
) -> list[Tensor]:
    draw = torch.Generator().manual_seed(sum(lengths))
    h = torch.randn(sum(lengths), 32, generator=draw, requires_grad=True)
    cos, sin = rotary_angles(torch.arange(float(len(h)))[:, None].expand(-1, 2), 16, 100.0)
    documents = Documents.of(torch.tensor([0, *lengths]).cumsum(0), backend, torch.device("cpu"))
    at = torch.arange(0, len(h), 2) if some else None
    out = block(h, cos=cos, sin=sin, documents=documents, at=at)
    return [out, *torch.autograd.grad(out.square().sum(), (h, *block.parameters()))]


@pytest.mark.slow
@pytest.mark.usefixtures("cpu_kernels")
@pytest.mark.parametrize("recompute", Recompute)
def test_code_is_made_once_for_all_lengths(recompute: Recompute) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    plain, compiled = (Block(32, 2, residual_multiplier=0.5) for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    compiled.recompute = recompute
    compiled.compile(backend="aot_eager", dynamic=True)
    for some in (False, True):
        before = counters["stats"]["unique_graphs"]
        for lengths in LENGTHS:
            found = gradients(compiled, lengths, AttentionBackend.VARLEN, some=some)
            for a, b in zip(found, gradients(plain, lengths, AttentionBackend.LOOP, some=some), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        assert counters["stats"]["unique_graphs"] == before + 1
    assert not counters["graph_break"]
