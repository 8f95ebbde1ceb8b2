"""The sampler's interface to a model: log-probabilities at chosen slots over one codebook's range.

A predictor is called once per step and returns a function of the slots, which depend on the order; so logits
over slots × vocabulary are never materialized.
"""

from collections.abc import Callable
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimask.devices import send
from trimask.model.cache import KeyValueCache
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


@runtime_checkable
class PartialPredictor(Predictor, Protocol):
    """A predictor that can compute some positions only, on keys and values of earlier passes."""

    def empty_cache(self, batch: Batch) -> KeyValueCache: ...

    def predict_some(
        self,
        z: Int[Tensor, "rows slots"],
        batch: Batch,
        at: Int[Tensor, "kept"],
        *,
        cache: KeyValueCache | None = None,
        active: Int[Tensor, "active"] | None = None,
    ) -> Prediction:
        """Compute the positions `active`, by default all, and predict at those of them in `at`; both sorted,
        on the host.
        """
        ...


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
        return predict_from(self.denoiser, self.denoiser(z, batch), batch.position.flatten())

    def empty_cache(self, batch: Batch) -> KeyValueCache:
        return self.denoiser.empty_cache(batch)

    def predict_some(
        self,
        z: Int[Tensor, "rows slots"],
        batch: Batch,
        at: Int[Tensor, "kept"],
        *,
        cache: KeyValueCache | None = None,
        active: Int[Tensor, "active"] | None = None,
    ) -> Prediction:
        hidden = self.denoiser(z, batch, at, cache=cache, active=active)
        row_of_position = torch.full((batch.num_positions,), -1).index_put((at,), torch.arange(len(at)))
        # Padding has position −1: the last row, which is never read.
        return predict_from(self.denoiser, hidden, row_of_position[batch.position.flatten()])


def predict_from(
    denoiser: Denoiser, hidden: Float[Tensor, "computed width"], row_of_slot: Int[Tensor, "all_slots"]
) -> Prediction:
    """Return the prediction of a denoiser from its final hidden states; `row_of_slot` says where each slot's
    is.
    """
    row_of_slot = send(row_of_slot, hidden.device)

    def log_probabilities(slots: Int[Tensor, "n"], range_index: int) -> Float[Tensor, "n codes"]:
        logits = denoiser.logits(hidden[row_of_slot[slots]], range_index)
        return torch.log_softmax(logits.float(), dim=-1)

    return log_probabilities


def read_nothing(slots: Int[Tensor, "n"], range_index: int) -> Float[Tensor, "n codes"]:
    """The prediction of a pass that nothing reads."""
    raise AssertionError("a pass in which nothing is read was read")


def predict_at(
    predictor: Predictor,
    z: Int[Tensor, "rows slots"],
    batch: Batch,
    read: Bool[np.ndarray, "rows slots"],
) -> Prediction:
    """Predict at the slots `read`; computes less than a prediction at all slots, if the predictor can."""
    if not isinstance(predictor, PartialPredictor):
        return predictor(z, batch)
    at = np.unique(batch.position.numpy()[read])
    return predictor.predict_some(z, batch, torch.from_numpy(at))


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
