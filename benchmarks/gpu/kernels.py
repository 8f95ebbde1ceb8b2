"""The attention backends and the chunked head against float64 on the CPU."""

from typing import Any

import torch
from torch import Tensor

from trimask.model.attention import AttentionBackend, Documents, attend
from trimask.model.head import weighted_cross_entropy
from trimask.vocabulary.layout import TokenRange

CPU = torch.device("cpu")
RANGES = tuple(
    TokenRange(index=index, modality="speech", codebook=index, start=start, stop=stop)
    for index, (start, stop) in enumerate(((17, 218), (218, 250), (250, 1283)))
)


def relative(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """‖found − expected‖ / ‖expected‖ over all tensors."""
    assert found.keys() == expected.keys()
    pairs = [(found[name].double(), expected[name].double()) for name in expected]
    off = sum(float((a - b).square().sum()) for a, b in pairs)
    return (off / max(sum(float(b.square().sum()) for _, b in pairs), 1e-300)) ** 0.5


def head(device: torch.device) -> dict[str, Any]:
    """The chunked head in bf16 against plain autograd in float64 over the same bf16 numbers."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(300, 64, generator=draw).to(torch.bfloat16)
    weight = torch.randn(RANGES[-1].stop, 64, generator=draw).mul(0.3).to(torch.bfloat16)
    ranges = RANGES
    range_index = torch.randint(len(ranges), (300,), generator=draw)
    target = torch.tensor(
        [ranges[r].start + (7 * i) % ranges[r].size for i, r in enumerate(range_index.tolist())]
    )
    scale = torch.rand(300, generator=draw)
    exact = [x.double().requires_grad_() for x in (hidden, weight)]
    loss = torch.zeros((), dtype=torch.float64)
    for r in ranges:
        here = (range_index == r.index).nonzero()[:, 0]
        logits = exact[0][here] @ exact[1][r.start : r.stop].T
        terms = torch.nn.functional.cross_entropy(logits, target[here] - r.start, reduction="none")
        loss = loss + (terms * scale[here]).sum()
    loss.backward()
    off = {}
    for chunk_rows in (None, 16):
        leaves = [x.to(device, copy=True).requires_grad_() for x in (hidden, weight)]
        found, _ = weighted_cross_entropy(
            leaves[0],
            leaves[1],
            position=torch.arange(300),
            target=target,
            range_index=range_index,
            scale=scale,
            ranges=ranges,
            chunk_rows=chunk_rows,
        )
        found.backward()
        named = {"hidden": leaves[0].grad, "weight": leaves[1].grad, "loss": found.detach()}
        right = {"hidden": exact[0].grad, "weight": exact[1].grad, "loss": loss.detach()}
        for name, value in named.items():
            expected = right[name]
            assert value is not None and expected is not None
            off[f"{name}, chunks of {chunk_rows}"] = relative({"": value.cpu()}, {"": expected})
    return {"passed": max(off.values()) < 1e-2, "relative_difference": off, "tolerance": 1e-2}


def attention(
    device: torch.device,
    backend: AttentionBackend,
    dtype: torch.dtype,
    tolerance: float,
    *,
    has_prefixes: bool = False,
    is_partial: bool = False,
) -> dict[str, Any]:
    """Output and gradients over documents of mixed lengths, against the loop in float64 on the CPU.

    Args:
        has_prefixes: a third of each document attends to itself alone.
        is_partial: a third of the positions are queries, and of one document none.
    """
    if device.type == "cpu" and backend is AttentionBackend.VARLEN:
        return {"impossible": "the variable-length kernel has no CPU form"}
    lengths = [1, 3, 64, 127, 200, 129] if device.type == "cpu" else [1, 3, 64, 127, 700, 129, 1091]
    draw = torch.Generator().manual_seed(0)
    given = [torch.randn(sum(lengths), 4, 64, generator=draw).to(dtype) for _ in range(4)]
    boundaries = torch.tensor([0, *lengths]).cumsum(0)
    prefixes = torch.tensor(lengths) // 3 if has_prefixes else None
    active = torch.arange(0, sum(lengths), 3)
    active = active[(active < boundaries[3]) | (active >= boundaries[4])]
    queries = active if is_partial else torch.arange(sum(lengths))

    def outcome(backend: AttentionBackend, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        has_backward = device.type != "cpu" or backend is not AttentionBackend.FLEX
        q, k, v = (
            x.to(device, dtype, copy=True).requires_grad_(has_backward)
            for x in (given[0][queries], *given[1:3])
        )
        documents = Documents.of(
            boundaries, backend, device, prefixes=prefixes, active=active if is_partial else None
        )
        attended = attend(q, k, v, documents)
        if not has_backward:
            return {"output": attended}
        attended.backward(given[3][queries].to(device, dtype))
        named = {"output": attended, "q": q.grad, "k": k.grad, "v": v.grad}
        return {name: x.detach().cpu() for name, x in named.items() if x is not None}

    right = outcome(AttentionBackend.LOOP, CPU, torch.float64)
    found = outcome(backend, device, dtype)
    off = {name: relative({"": found[name]}, {"": right[name]}) for name in found}
    return {"passed": max(off.values()) < tolerance, "relative_difference": off, "tolerance": tolerance}
