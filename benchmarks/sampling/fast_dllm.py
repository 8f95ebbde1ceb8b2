"""Fast-dLLM (Wu et al., arXiv 2505.22618; NVlabs/Fast-dLLM, llada/generate.py): LLaDA's blocks, where a pass
reveals all tokens above a threshold, and keys and values outside of the block are kept.
"""

import enum
from dataclasses import dataclass
from typing import Protocol, final

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from benchmarks.sampling.keys_values import KeysValues
from benchmarks.sampling.llada import draw_everywhere, most_confident
from benchmarks.sampling.network import Canvas, Count, Head, masked_canvas
from trimask.model.denoiser import Denoiser
from trimask.vocabulary.batch import Batch


class Cache(enum.Enum):
    """What a pass computes after the first in a block: everything, the block and what is right of it (the
    prefix's keys and values are kept), or the block alone (dual).
    """

    NONE = "none"
    PREFIX = "prefix"
    DUAL = "dual"


class PartNetwork(Protocol):
    """A network that computes a part of the slots, and keeps what the others need of the rest."""

    @property
    def canvas(self) -> Canvas: ...

    def logits_between(
        self, z: Int[Tensor, "rows slots"], start: int, stop: int
    ) -> Float[Tensor, "rows part vocabulary"]:
        """Return the logits of the slots [start, stop) of z."""
        ...


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class FastDLLM:
    """Reveal each masked slot of the block whose drawn token has a probability of at least `threshold`, and
    the most probable one in any case; go on to the next block when none is masked in any row.

    All rows have their targets in the same slots. The temperature is LLaDA's, and 0 in the authors' example.
    """

    cache: Cache
    threshold: float = 0.9
    block_length: int = 32
    temperature: float = 0.0

    def __call__(self, network: PartNetwork, generator: torch.Generator) -> Int[Tensor, "rows slots"]:
        canvas = network.canvas
        z, block = canvas.tokens.clone(), canvas.blocks(self.block_length)
        assert (block == block[0]).all()
        for number in range(int(block.max()) + 1):
            slots = (block[0] == number).nonzero().squeeze(1)
            left, right = int(slots[0]), int(slots[-1]) + 1
            start, stop = 0, z.shape[1]  # the first pass in a block renews all that is kept
            while (masked := canvas.masked(z) & (block == number)).any():
                logits = network.logits_between(z, start, stop)
                drawn, confidence = draw_everywhere(logits, self.temperature, generator)
                revealed = above_threshold(confidence, masked[:, start:stop], self.threshold)
                z[:, start:stop] = torch.where(revealed, drawn, z[:, start:stop])
                if self.cache is not Cache.NONE:
                    start = left
                if self.cache is Cache.DUAL:
                    stop = right
        return z


def above_threshold(
    confidence: Float64[Tensor, "rows slots"], masked: Bool[Tensor, "rows slots"], threshold: float
) -> Bool[Tensor, "rows slots"]:
    one = torch.ones(len(masked), dtype=torch.long)
    return most_confident(confidence, masked, one) | (masked & (confidence >= threshold))


@final
class DenoiserParts:
    """A denoiser as a `PartNetwork`: the slots of a position are computed together."""

    def __init__(self, denoiser: Denoiser, batch: Batch, count: Count):
        self.kept = KeysValues(denoiser, batch)
        self.head, self.count = Head(denoiser, batch), count
        self.canvas = masked_canvas(batch, denoiser.vocabulary)

    def logits_between(
        self, z: Int[Tensor, "rows slots"], start: int, stop: int
    ) -> Float[Tensor, "rows part vocabulary"]:
        slots = slice(start, stop)
        hidden = self.kept.run(z[:, slots], slots)
        self.count.add(len(z) * hidden.shape[1])
        position = self.kept.position[slots]
        return self.head(hidden[:, position - position[0]], slots)
