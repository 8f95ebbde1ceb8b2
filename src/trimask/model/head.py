"""Fused unembedding and loss: weighted cross-entropy that never keeps the logits.

The loss weights are known beforehand, so each chunk's gradient is computed right after its logits: three
matrix products as with plain autograd, none repeated, and memory for one chunk.
"""

import enum
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from trimask.devices import send
from trimask.vocabulary.layout import TokenRange


class Normalization(enum.Enum):
    """What the logits of a slot are normalized over.

    Its own codebook's range, which is exact, since a slot's modality and codebook are always known [D]. Or
    the ranges of all codebooks, as in a head that is not told what a slot is [L: MMaDA, arXiv 2505.15809];
    special tokens are left out, since none is ever a target. Sampling normalizes over the slot's own range
    either way.
    """

    CODEBOOK = "codebook"
    ALL = "all"

    def widen(self, ranges: Sequence[TokenRange]) -> tuple[TokenRange, ...]:
        """Return, for each range, the ids that logits of its slots are normalized over."""
        if self is Normalization.CODEBOOK:
            return tuple(ranges)
        return tuple(replace(each, start=ranges[0].start, stop=ranges[-1].stop) for each in ranges)


# A chunk's logits: within a CPU's last cache, yet enough rows for fast products; on a GPU, where each chunk
# passes over the whole gradient of the table, as many as memory bears.
_CHUNK_BYTES = {"cpu": 16 * 2**20, "cuda": 2**30}
_MIN_ROWS = 128


def weighted_cross_entropy(
    hidden: Float[Tensor, "positions width"],
    weight: Float[Tensor, "vocabulary width"],
    *,
    position: Int[Tensor, "slots"],
    target: Int[Tensor, "slots"],
    range_index: Int[Tensor, "slots"],
    scale: Float[Tensor, "slots"],
    ranges: Sequence[TokenRange],
    chunk_rows: int | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, "slots"]]:
    """Σ_i scale_i · CE_i, differentiable in `hidden` and `weight`, and CE in nats, without gradient.

    CE_i = −log softmax(weight[start:stop] · hidden[position_i])[target_i − start], over the ids of the
    slot's range alone; ranges may overlap (`Normalization`). All ranges share one gradient of the table,
    where plain autograd makes one of its full size for each. Softmax, loss, and the table's sums over chunks
    are in fp32 at least. Sums have a fixed order; on a GPU too if slots of one range stand at distinct
    positions, as in every layout. What is said of slots is best given on the host: then nothing waits for a
    GPU.

    Args:
        position: rows of `hidden`; several slots may share one.
        target: clean ids.
        range_index: of each slot, into `ranges`.
        chunk_rows: slots whose logits are formed at once, None for what suits the device.
    """
    assert not scale.requires_grad
    device = hidden.device
    order = range_index.argsort(stable=True)
    counts = range_index.bincount(minlength=len(ranges)).tolist()
    wide = torch.promote_types(hidden.dtype, torch.float32)
    by_range = (send(x[order], device).split(counts) for x in (position, target, scale.to(wide)))
    parts = [
        _Part(token_range=r, position=p, target=t - r.start, scale=s[:, None])
        for r, p, t, s in zip(ranges, *by_range, strict=True)
        if len(p)
    ]
    loss, sorted_losses = _WeightedCrossEntropy.apply(
        hidden, weight, parts, chunk_rows, torch.is_grad_enabled()
    )
    return loss, torch.empty_like(sorted_losses).index_copy_(0, send(order, device), sorted_losses)


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Part:
    """The slots of one range; `target` counts within it."""

    token_range: TokenRange
    position: Int[Tensor, "slots"]
    target: Int[Tensor, "slots"]
    scale: Float[Tensor, "slots 1"]

    @property
    def ids(self) -> tuple[int, int]:
        return self.token_range.start, self.token_range.stop


class _WeightedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, parts: list[_Part], chunk_rows: int | None, train: bool
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        hidden_grad, weight_grad = (
            torch.zeros_like(x) if needed and train else None
            for x, needed in zip((hidden, weight), ctx.needs_input_grad[:2], strict=True)
        )
        loss, losses = hidden.new_zeros((), dtype=wide), [hidden.new_empty(0, dtype=wide)]
        # Ranges widened to the same ids go together: between them the table's sums would be rounded.
        for (start, stop), alike in itertools.groupby(parts, lambda part: part.ids):
            ids = slice(start, stop)
            # In fp32 for one range at a time: a whole table of fp32 sums would be twice as much memory.
            total = None if weight_grad is None else weight_grad[ids].to(wide)
            for chunk in (chunk for part in alike for chunk in _chunks(part, chunk_rows)):
                losses.append(_add_chunk(hidden, weight[ids], chunk, hidden_grad, total))
                loss += (losses[-1] * chunk.scale[:, 0]).sum()
            if weight_grad is not None and total is not None and wide != weight_grad.dtype:
                weight_grad[ids] = total
        ctx.save_for_backward(hidden_grad, weight_grad)
        cross_entropy = torch.cat(losses)
        ctx.mark_non_differentiable(cross_entropy)
        return loss, cross_entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        # In place: autograd takes the table's gradient as it is. A second pass raises, as it would be wrong.
        grads = (None if grad is None else grad.mul_(grad_outputs[0]) for grad in ctx.saved_tensors)
        return *grads, None, None, None


def _chunks(part: _Part, rows: int | None) -> list[_Part]:
    """Split the slots of `part` into chunks of about equal size."""
    if rows is None:
        budget = _CHUNK_BYTES.get(part.scale.device.type, _CHUNK_BYTES["cuda"])
        rows = max(_MIN_ROWS, budget // (part.token_range.size * part.scale.element_size()))
    number = math.ceil(len(part.target) / rows)
    pieces = (x.tensor_split(number) for x in (part.position, part.target, part.scale))
    return [
        _Part(token_range=part.token_range, position=position, target=target, scale=scale)
        for position, target, scale in zip(*pieces, strict=True)
    ]


def _add_chunk(
    hidden: Float[Tensor, "positions width"],
    weight: Float[Tensor, "codes width"],
    chunk: _Part,
    hidden_grad: Float[Tensor, "positions width"] | None,
    weight_grad: Float[Tensor, "codes width"] | None,
) -> Float[Tensor, "slots"]:
    """Return the cross-entropy of a chunk's slots; add its gradients to those given."""
    h, target = hidden[chunk.position], chunk.target[:, None]
    logits = (h @ weight.T).to(chunk.scale.dtype)
    largest, right = logits.amax(1), logits.gather(1, target)[:, 0]
    p = torch.softmax(logits, 1, out=logits)
    # The largest logit gives the normalizer, as its probability never underflows.
    cross_entropy = largest - p.amax(1).log() - right
    if hidden_grad is None and weight_grad is None:
        return cross_entropy
    # softmax − onehot; the scale multiplies rows of width instead of rows of codes.
    error = p.scatter_(1, target, p.gather(1, target) - 1).to(h.dtype)
    if hidden_grad is not None:
        hidden_grad.index_add_(0, chunk.position, ((error @ weight) * chunk.scale).to(h.dtype))
    if weight_grad is not None:
        scaled = (h * chunk.scale).to(h.dtype)
        if weight_grad.dtype == h.dtype:
            weight_grad.addmm_(error.T, scaled)
        else:
            weight_grad += error.T @ scaled
    return cross_entropy
