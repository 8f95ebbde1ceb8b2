"""An autoregressive transformer of the denoiser's size, with keys and values kept: what most systems are."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.sampling.keys_values import KeysValues
from benchmarks.sampling.network import Count, Head, masked_canvas
from trimask.model.denoiser import Denoiser
from trimask.vocabulary.batch import Batch


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Autoregressive:
    """Draw the positions from left to right, each from the hidden state of the one before it: what stands
    before the first target in one pass, then one position a pass.

    The weights are a denoiser's with causal attention: of equal size, and fit for its time alone. Codes that
    share a position are drawn at once.
    """

    temperature: float = 1.0

    def __call__(
        self, denoiser: Denoiser, batch: Batch, count: Count, generator: torch.Generator
    ) -> Int[Tensor, "rows slots"]:
        kept, head = KeysValues(denoiser, batch), Head(denoiser, batch)
        z = masked_canvas(batch, denoiser.vocabulary).tokens.clone()
        places = [_slots_at(kept.position, position) for position in range(kept.num_positions)]
        targets = [position for position, at in enumerate(places) if batch.maskable[0, at].any()]
        prefix = slice(0, places[targets[0]].start)
        hidden = kept.run(z[:, prefix], prefix, until=targets[0], is_causal=True)[:, -1:]
        count.add(len(z) * targets[0])
        for position in range(targets[0], targets[-1] + 1):
            at = places[position]
            if position in targets:
                z[:, at] = self._draw(head(hidden.expand(-1, at.stop - at.start, -1), at), generator)
            if position < targets[-1]:
                hidden = kept.run(z[:, at], at, until=position + 1)
                count.add(len(z))
        return z

    def _draw(self, logits: Tensor, generator: torch.Generator) -> Int[Tensor, "rows slots"]:
        """Draw from the whole vocabulary; the most probable token at temperature 0."""
        if self.temperature == 0:
            return logits.argmax(-1)
        probability = torch.softmax(logits / self.temperature, dim=-1)
        return torch.multinomial(probability.flatten(0, 1), 1, generator=generator).view(logits.shape[:2])


def _slots_at(positions: Int[Tensor, "slots"], position: int) -> slice:
    slots = (positions == position).nonzero()
    return slice(int(slots[0]), int(slots[-1]) + 1)
