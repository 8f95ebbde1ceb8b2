"""The coordinate check (Yang et al. 2022, arXiv 2203.03466, appendix D.1): the size of activations, and of
their change in training.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trimask.model.denoiser import Denoiser
from trimask.training.corruption import View
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.slots import SlotTables

EMBEDDING, ATTENTION, FEED_FORWARD, STREAM, TARGET = (
    "embedding",
    "attention",
    "feed-forward",
    "residual stream",
    "target logit",
)
COORDINATES = (EMBEDDING, ATTENTION, FEED_FORWARD, STREAM, TARGET)


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Coordinates:
    """Activations of a denoiser on one masked batch, one row per masked slot of each modality.

    Branch outputs of all blocks are taken before the residual multiplier; the residual stream is the input of
    the final norm; the target logit is the right token's minus the mean of its codebook. Logits of all tokens
    are not used: in a small network most of them belong to tokens that never occur.
    """

    activations: Mapping[str, Mapping[str, Float[Tensor, "slots *values"]]]

    def sizes(self) -> dict[str, float]:
        """Return the RMS of each coordinate, as `modality/coordinate`."""
        return {
            f"{modality}/{name}": float(values.double().square().mean().sqrt())
            for modality, by_name in self.activations.items()
            for name, values in by_name.items()
        }

    def change(self, before: "Coordinates") -> dict[str, float]:
        """Return the RMS of the difference from `before` (the same batch), as `modality/coordinate`."""
        moved = {
            modality: {name: values - before.activations[modality][name] for name, values in by_name.items()}
            for modality, by_name in self.activations.items()
        }
        return Coordinates(activations=moved).sizes()


@torch.no_grad()
def measure_coordinates(denoiser: Denoiser, batch: Batch, view: View) -> Coordinates:
    """Record the activations of `denoiser` for the masked `view` of `batch`."""
    seen: dict[str, list[Tensor]] = {EMBEDDING: [], ATTENTION: [], FEED_FORWARD: [], STREAM: []}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: seen[name].append(output)

    def keep_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[STREAM].append(inputs[0])

    def keep_first(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[EMBEDDING].append(inputs[0])

    first = denoiser.blocks[0]
    handles = [
        denoiser.final_norm.register_forward_pre_hook(keep_input),
        first.register_forward_pre_hook(keep_first),
    ]
    for block in denoiser.blocks:
        assert isinstance(block.attention, nn.Module) and isinstance(block.feed_forward, nn.Module)
        handles.append(block.attention.register_forward_hook(keep(ATTENTION)))
        handles.append(block.feed_forward.register_forward_hook(keep(FEED_FORWARD)))
    try:
        hidden = denoiser(view.z_t, batch)
    finally:
        for handle in handles:
            handle.remove()
    by_position = {name: torch.stack(values, dim=1) for name, values in seen.items()}
    position, target = batch.position[view.masked], batch.tokens[view.masked]
    range_index = batch.range_index[view.masked]
    modality = SlotTables(denoiser.vocabulary, range_index.device).modality(range_index)
    logit = _target_logits(denoiser, hidden[position], range_index, target)
    found: dict[str, dict[str, Tensor]] = {}
    for number, name in enumerate(denoiser.vocabulary.modalities):
        here = modality == number
        if bool(here.any()):
            found[name] = {layer: values[position[here]] for layer, values in by_position.items()}
            found[name][TARGET] = logit[here]
    return Coordinates(activations=found)


def _target_logits(
    denoiser: Denoiser,
    hidden: Float[Tensor, "slots width"],
    range_index: Int[Tensor, "slots"],
    target: Int[Tensor, "slots"],
) -> Float[Tensor, "slots"]:
    """Return the right token's logit minus the mean over its codebook."""
    found = hidden.new_zeros(len(hidden))
    for token_range in denoiser.vocabulary.ranges:
        here = range_index == token_range.index
        if bool(here.any()):
            logits = denoiser.logits(hidden[here], token_range.index)
            right = logits.gather(1, (target[here] - token_range.start)[:, None])[:, 0]
            found[here] = right - logits.mean(1)
    return found
