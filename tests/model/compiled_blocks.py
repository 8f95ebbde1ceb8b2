"""A script: compiled blocks over documents of different number and length, against plain ones. Prints as JSON
how many graphs were made after all positions were read, then some, then with prefixes that attend to
themselves alone, then on cached keys with all positions active, then some; and how often code was broken up.

A process of its own, without the checks of types under test, which cannot be compiled. The variable-length
kernel has no CPU form: slow ones stand in for it here.
"""

import itertools
import json
import sys
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn.attention import varlen

from trimask.model.attention import AttentionBackend, Documents, QKNorm
from trimask.model.block import Block
from trimask.model.cache import BlockCache
from trimask.model.recompute import Recompute
from trimask.model.rope import rotary_angles

LENGTHS = ((5, 9), (7, 7, 3), (20,), (4, 3, 2, 30), (6,) * 9, (40, 2))


def loop(
    q: Tensor, k: Tensor, v: Tensor, ends: Tensor, key_ends: Tensor, *args: object
) -> tuple[Tensor, Tensor, Tensor]:
    out = torch.empty_like(q)
    for of_queries, of_keys in segments(ends, key_ends):
        a, b, c = (x[s].transpose(0, 1) for x, s in ((q, of_queries), (k, of_keys), (v, of_keys)))
        out[of_queries] = ((a @ b.mT * q.shape[-1] ** -0.5).softmax(-1) @ c).transpose(0, 1)
    return out, torch.zeros(q.shape[1], len(q)), torch.zeros(2, dtype=torch.uint64)


def segments(ends: Tensor, key_ends: Tensor) -> Iterator[tuple[slice, slice]]:
    for (start, stop), (first, last) in zip(
        itertools.pairwise(ends.tolist()), itertools.pairwise(key_ends.tolist()), strict=True
    ):
        yield slice(start, stop), slice(first, last)


def loop_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    ends: Tensor,
    key_ends: Tensor,
    *args: object,
    **kwargs: object,
) -> tuple[Tensor, Tensor, Tensor]:
    grads = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    factor = q.shape[-1] ** -0.5
    for of_queries, of_keys in segments(ends, key_ends):
        a, g = (x[of_queries].transpose(0, 1) for x in (q, grad))
        b, c = (x[of_keys].transpose(0, 1) for x in (k, v))
        p = (a @ b.mT * factor).softmax(-1)
        from_p = g @ c.mT
        scores = p * (from_p - (from_p * p).sum(-1, keepdim=True)) * factor
        grads[0][of_queries] = (scores @ b).transpose(0, 1)
        grads[1][of_keys], grads[2][of_keys] = (scores.mT @ a).transpose(0, 1), (p.mT @ g).transpose(0, 1)
    return grads


def gradients(
    block: Block, lengths: tuple[int, ...], backend: AttentionBackend, *, some: bool, has_prefixes: bool
) -> list[Tensor]:
    draw = torch.Generator().manual_seed(sum(lengths))
    h = torch.randn(sum(lengths), 32, generator=draw, requires_grad=True)
    cos, sin = angles(len(h))
    prefixes = torch.tensor(lengths) // 2 if has_prefixes else None
    documents = Documents.of(
        torch.tensor([0, *lengths]).cumsum(0), backend, torch.device("cpu"), prefixes=prefixes
    )
    at = torch.arange(0, len(h), 2) if some else None
    out = block(h, cos=cos, sin=sin, documents=documents, at=at)
    return [out, *torch.autograd.grad(out.square().sum(), (h, *block.parameters()))]


def angles(num_positions: int) -> tuple[Tensor, Tensor]:
    return rotary_angles(torch.arange(float(num_positions))[:, None].expand(-1, 2), 16, 100.0)


@torch.no_grad()
def on_cached_keys(
    block: Block, lengths: tuple[int, ...], backend: AttentionBackend, *, some: bool
) -> list[Tensor]:
    draw = torch.Generator().manual_seed(sum(lengths))
    keys, values = torch.randn(2, sum(lengths), 2, 16, generator=draw)
    active = torch.arange(0, len(keys), 2) if some else None
    cos, sin = angles(len(keys))
    cos, sin = (cos, sin) if active is None else (cos[active], sin[active])
    documents = Documents.of(
        torch.tensor([0, *lengths]).cumsum(0),
        backend,
        torch.device("cpu"),
        prefixes=torch.tensor(lengths) // 2,
        active=active,
    )
    h = torch.randn(len(cos), 32, generator=draw)
    cache = BlockCache(keys=keys, values=values, active=active)
    return [block(h, cos=cos, sin=sin, documents=documents, cache=cache), keys, values]


def main(recompute: Recompute, qk_norm: QKNorm) -> None:
    varlen._varlen_attn.register_kernel("cpu")(loop)
    varlen._varlen_attn_backward.register_kernel("cpu")(loop_backward)
    torch.manual_seed(0)
    plain, compiled = (Block(32, 2, residual_multiplier=0.5, qk_norm=qk_norm) for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    compiled.recompute = recompute
    compiled.compile(backend="aot_eager", dynamic=True)
    graphs = []
    for compute in (
        partial(gradients, some=False, has_prefixes=False),
        partial(gradients, some=True, has_prefixes=False),
        partial(gradients, some=True, has_prefixes=True),
        partial(on_cached_keys, some=False),
        partial(on_cached_keys, some=True),
    ):
        for lengths in LENGTHS:
            found = compute(compiled, lengths, AttentionBackend.VARLEN)
            expected = compute(plain, lengths, AttentionBackend.LOOP)
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        graphs.append(counters["stats"]["unique_graphs"])
    print(json.dumps({"graphs": graphs, "breaks": sum(counters["graph_break"].values())}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Recompute(sys.argv[1]), QKNorm(sys.argv[2]))
