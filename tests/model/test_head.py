"""The head against plain autograd, and what it keeps."""

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trimask import rng
from trimask.model.head import Normalization, weighted_cross_entropy
from trimask.vocabulary.layout import TokenRange

BOUNDS = (3, 14, 30, 31, 50)
RANGES = tuple(
    TokenRange(index=i, modality="text", codebook=i, start=a, stop=b)
    for i, (a, b) in enumerate(pairwise(BOUNDS))
)
POSITIONS, WIDTH = 12, 6


def tables(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Hidden states and an unembedding whose last rows are in no range, as leaves."""
    draw = rng.generator(0, "head")
    hidden, weight = (
        torch.from_numpy(draw.standard_normal(s)).to(dtype) for s in ((POSITIONS, WIDTH), (53, WIDTH))
    )
    return hidden.requires_grad_(), weight.requires_grad_()


def slots(range_index: list[int]) -> dict[str, Any]:
    """Slots at any positions (several share one) with any targets of their ranges and any scale, 0 too."""
    draw = rng.generator(1, "slots")
    of_range = torch.tensor(range_index, dtype=torch.int64)
    start, stop = (torch.tensor(edges)[of_range] for edges in (BOUNDS[:-1], BOUNDS[1:]))
    scale = torch.from_numpy(draw.uniform(-1, 2, len(of_range)))
    if len(scale):
        scale[0] = 0
    return {
        "position": torch.from_numpy(draw.integers(0, POSITIONS, len(of_range))),
        "target": start + torch.from_numpy(draw.integers(0, 10**6, len(of_range))) % (stop - start),
        "range_index": of_range,
        "scale": scale,
    }


def plain_losses(
    hidden: Tensor,
    weight: Tensor,
    position: Tensor,
    target: Tensor,
    range_index: Tensor,
    normalization: Normalization = Normalization.CODEBOOK,
) -> Tensor:
    """The slow twin: each slot on its own."""
    losses = []
    for p, t, r in zip(position.tolist(), target, range_index.tolist(), strict=True):
        is_all = normalization is Normalization.ALL
        start, stop = (BOUNDS[0], BOUNDS[-1]) if is_all else (BOUNDS[r], BOUNDS[r + 1])
        losses.append(F.cross_entropy(weight[start:stop] @ hidden[p], t - start))
    return torch.stack(losses) if losses else hidden.new_zeros(0)


MANY = rng.generator(2, "ranges").integers(0, 4, 70).tolist()
CASES = [[], [3] * 9, [0, 3, 0, 3, 3], [2], MANY]


@pytest.mark.parametrize("range_index", CASES, ids=["none", "one range", "two", "one code", "all"])
@pytest.mark.parametrize("chunk_rows", [1, 3, 70, None])
@pytest.mark.parametrize("normalization", Normalization)
def test_loss_and_gradients_are_those_of_plain_autograd(
    range_index: list[int], chunk_rows: int | None, normalization: Normalization
) -> None:
    given, ranges = slots(range_index), normalization.widen(RANGES)
    (hidden, weight), (plain_hidden, plain_weight) = tables(), tables()
    loss, losses = weighted_cross_entropy(hidden, weight, **given, ranges=ranges, chunk_rows=chunk_rows)
    (3 * loss).backward()
    scale = given.pop("scale")
    expected = plain_losses(plain_hidden, plain_weight, **given, normalization=normalization)
    (3 * (expected * scale).sum() + 0 * (plain_hidden.sum() + plain_weight.sum())).backward()
    assert not losses.requires_grad
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(loss.detach(), (expected * scale).sum().detach())
    torch.testing.assert_close(hidden.grad, plain_hidden.grad)
    torch.testing.assert_close(weight.grad, plain_weight.grad)


@pytest.mark.parametrize("needing", [(), (0,), (1,)], ids=["none", "hidden", "weight"])
def test_only_what_is_needed_gets_a_gradient(needing: tuple[int, ...]) -> None:
    both, some = tables(), tables()
    for index, leaf in enumerate(some):
        leaf.requires_grad_(index in needing)
    expected, expected_losses = weighted_cross_entropy(*both, **slots(MANY), ranges=RANGES)
    expected.backward()
    loss, losses = weighted_cross_entropy(*some, **slots(MANY), ranges=RANGES)
    assert torch.equal(loss, expected) and torch.equal(losses, expected_losses)
    assert loss.requires_grad == bool(needing)
    if needing:
        loss.backward()
    for index, (a, b) in enumerate(zip(some, both, strict=True)):
        if index in needing:
            torch.testing.assert_close(a.grad, b.grad)
        else:
            assert a.grad is None


def test_without_grad_nothing_is_kept() -> None:
    expected, _ = weighted_cross_entropy(*tables(), **slots(MANY), ranges=RANGES)
    with torch.no_grad(), torch.autograd.graph.saved_tensors_hooks(_refuse, _refuse):
        loss, _ = weighted_cross_entropy(*tables(), **slots(MANY), ranges=RANGES)
    assert torch.equal(loss, expected) and not loss.requires_grad


def _refuse(tensor: Tensor) -> Tensor:
    raise AssertionError(f"a tensor of shape {tuple(tensor.shape)} was kept")


def test_a_second_backward_pass_raises() -> None:
    """It would multiply a gradient that was multiplied already."""
    loss, _ = weighted_cross_entropy(*tables(), **slots(MANY), ranges=RANGES)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


def test_extreme_logits_are_exact() -> None:
    """A right code with a probability far below what fp32 holds, and one that is all but certain."""
    hidden, weight = torch.eye(2), torch.tensor([[400.0, -500.0], [-300.0, 500.0]])
    one = TokenRange(index=0, modality="text", codebook=0, start=0, stop=2)
    _, losses = weighted_cross_entropy(
        hidden,
        weight,
        position=torch.tensor([0, 1]),
        target=torch.tensor([1, 1]),
        range_index=torch.zeros(2, dtype=torch.int64),
        scale=torch.ones(2),
        ranges=[one],
    )
    assert losses.tolist() == [700.0, 0.0]


@pytest.mark.parametrize("normalization", Normalization)
def test_half_precision_within_its_rounding(normalization: Normalization) -> None:
    """Products are rounded to bf16 (2⁻⁹ relative), losses and sums over chunks are not."""
    given, ranges = slots(MANY), normalization.widen(RANGES)
    exact, half = tables(), tables(torch.bfloat16)
    loss, losses = weighted_cross_entropy(*half, **given, ranges=ranges, chunk_rows=4)
    loss.backward()
    expected, expected_losses = weighted_cross_entropy(*exact, **given, ranges=ranges)
    expected.backward()
    assert loss.dtype == losses.dtype == torch.float32
    torch.testing.assert_close(losses, expected_losses.float(), rtol=0.02, atol=0.05)
    for a, b in zip(half, exact, strict=True):
        assert a.grad is not None and b.grad is not None and a.grad.dtype == torch.bfloat16
        assert (a.grad - b.grad).norm() < 0.02 * b.grad.norm()


class _Shapes(TorchDispatchMode):
    """Notes the shape of whatever is made."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = result if isinstance(result, (tuple, list)) else [result]
        self.seen |= {tuple(x.shape) for x in tensors if isinstance(x, Tensor)}
        return result


def test_logits_are_formed_in_chunks_and_not_kept() -> None:
    hidden, weight = tables()
    kept: list[tuple[int, ...]] = []
    shapes = _Shapes()
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(tuple(x.shape)) or x, lambda x: x)
    with hooks, shapes:
        loss, _ = weighted_cross_entropy(hidden, weight, **slots(MANY), ranges=RANGES, chunk_rows=5)
        loss.backward()
    assert sorted(kept) == sorted([tuple(hidden.shape), tuple(weight.shape)])
    sizes = {r.size for r in RANGES if r.size > 1}
    logits = [
        s for s in shapes.seen if len(s) == 2 and s[1] in sizes and s[0] != WIDTH
    ]  # not the table, turned
    assert max(rows for rows, _ in logits) == 5
