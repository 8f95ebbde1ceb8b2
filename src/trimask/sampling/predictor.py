"""The sampler's interface to a model: log-probabilities at chosen slots over one codebook's range.

A predictor is called once per step and returns a function of the slots, which depend on the order; so logits
over slots × vocabulary are never materialized.
"""

from collections.abc import Callable
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimask.model.denoiser import Denoiser
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary

Prediction = Callable[[Int[Tensor, "n"], int], Float[Tensor, "n codes"]]
"""`prediction(slots, range_index)`: normalized log p(code | z) at `slots`, indices into z flattened in
row-major order, all in the codebook range `range_index`."""


@runtime_checkable
class Predictor(Protocol):
    """Predicts log p(code | z) for the partly masked tokens z of a batch."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def device(self) -> torch.device: ...

    def __call__(self, z: Int[Tensor, "rows slots"], batch: Batch) -> Prediction: ...


@final
class DenoiserPredictor:
    """The denoiser as a predictor: one forward pass per call, logits only at the requested slots."""

    def __init__(self, denoiser: Denoiser):
        self.denoiser = denoiser

    @property
    def vocabulary(self) -> Vocabulary:
        return self.denoiser.vocabulary

    @property
    def device(self) -> torch.device:
        return self.denoiser.embedding.weight.device

    def __call__(self, z: Int[Tensor, "rows slots"], batch: Batch) -> Prediction:
        return predict_from(self.denoiser, self.denoiser(z, batch), batch)


def predict_from(denoiser: Denoiser, hidden: Float[Tensor, "positions width"], batch: Batch) -> Prediction:
    """Return the prediction of a denoiser whose final hidden states at all positions of `batch` are known."""
    position = batch.position.flatten()

    def log_probabilities(slots: Int[Tensor, "n"], range_index: int) -> Float[Tensor, "n codes"]:
        logits = denoiser.logits(hidden[position[slots]], range_index)
        return torch.log_softmax(logits.float(), dim=-1)

    return log_probabilities


def forbid_ends(
    prediction: Prediction, is_inside: Bool[Tensor, "rows slots"] | None, vocabulary: Vocabulary
) -> Prediction:
    """Return the prediction given that no end code is drawn at the slots `is_inside`; None for no slots."""
    if is_inside is None:
        return prediction
    inside = is_inside.flatten()

    def log_probabilities(slots: Int[Tensor, "n"], range_index: int) -> Float[Tensor, "n codes"]:
        log_p = prediction(slots, range_index)
        space = vocabulary.space(vocabulary.ranges[range_index].modality)
        if not space.has_end:
            return log_p
        without = log_p.clone()
        without[:, space.codebook_size] = -torch.inf
        return torch.where(inside[slots, None], torch.log_softmax(without, 1), log_p)

    return log_probabilities
