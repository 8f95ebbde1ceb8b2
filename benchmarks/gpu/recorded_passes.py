"""Passes that are recorded and replayed, on the device, against plain ones there."""

from typing import Any

import torch
from torch import Tensor

from trimask.model.attention import AttentionBackend
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.sampling.compiled_predictor import CompiledPredictor
from trimask.sampling.predictor import DenoiserPredictor, Prediction
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary

_TURNS = 3


@torch.inference_mode()
def recorded_passes(
    config: DenoiserConfig,
    vocabulary: Vocabulary,
    batches: list[Batch],
    device: torch.device,
    backend: AttentionBackend,
    dtype: torch.dtype,
    tolerance: float,
) -> dict[str, Any]:
    """Batches of several shapes in turn, other tokens each time: the first pass of a shape computes, the
    second records, others replay. Nothing is recorded on a CPU.
    """
    if device.type == "cpu" and backend is AttentionBackend.VARLEN:
        return {"impossible": "the variable-length kernel has no CPU form"}
    denoiser = Denoiser(config, vocabulary)
    denoiser.initialize(0)
    denoiser.attention_backend = backend
    denoiser = denoiser.to(device, dtype)
    plain, recorded, off = DenoiserPredictor(denoiser), CompiledPredictor(denoiser, compiles=False), 0.0
    for turn in range(_TURNS):
        for batch in batches:
            masks = torch.from_numpy(vocabulary.mask_of_range)[batch.range_index]
            inputs = [
                torch.where(batch.maskable & (batch.position % _TURNS == place), masks, batch.tokens)
                for place in (turn, (turn + 1) % _TURNS)
            ]
            # Read after both: the second pass must not write over what the first one gave.
            found = [recorded(z.to(device), batch) for z in inputs]
            right = [plain(z.to(device), batch) for z in inputs]
            for one, other in zip(found, right, strict=True):
                off = max(off, _difference(one, other, batch, vocabulary, device))
    return {
        "passed": off < tolerance,
        "largest_difference": off,
        "same_bits": off == 0.0,
        "tolerance": tolerance,
    }


def _difference(
    one: Prediction, other: Prediction, batch: Batch, vocabulary: Vocabulary, device: torch.device
) -> float:
    """The largest difference of two predictions, in nats."""
    differences: list[Tensor] = []
    for token_range in vocabulary.ranges:
        slots = (batch.range_index.flatten() == token_range.index).nonzero()[:, 0].to(device)
        if len(slots):
            difference = one(slots, token_range.index) - other(slots, token_range.index)
            differences.append(difference.abs().max())
    return float(torch.stack(differences).max())
