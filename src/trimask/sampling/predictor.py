"""What the sampler asks of a model: log-probabilities at chosen slots, over one codebook's range.

A predictor is called once per step and answers with a function, because which slots are needed differs from
order to order and logits over slots × vocabulary are never formed.
"""

from collections.abc import Callable
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimask.model.denoiser import Denoiser
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary

Prediction = Callable[[Int[Tensor, "n"], int], Float[Tensor, "n codes"]]
"""`prediction(slots, range_index)`: normalized log p(code | z) at `slots`, places in the row-major flattening
of z, which all belong to the codebook range `range_index`."""


@runtime_checkable
class Predictor(Protocol):
    """log p(code | z) for the partly masked tokens z of a batch."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    def __call__(self, z: Int[Tensor, "rows slots"], batch: Batch) -> Prediction: ...


@final
class DenoiserPredictor:
    """The denoiser as a predictor: one pass per call, logits at the slots asked for alone."""

    def __init__(self, denoiser: Denoiser):
        self.denoiser = denoiser

    @property
    def vocabulary(self) -> Vocabulary:
        return self.denoiser.vocabulary

    def __call__(self, z: Int[Tensor, "rows slots"], batch: Batch) -> Prediction:
        hidden = self.denoiser(z, batch)
        position = batch.position.flatten()

        def log_probabilities(slots: Int[Tensor, "n"], range_index: int) -> Float[Tensor, "n codes"]:
            logits = self.denoiser.logits(hidden[position[slots]], range_index)
            return torch.log_softmax(logits.float(), dim=-1)

        return log_probabilities
