"""A predictor that notes what its passes compute."""

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from trimask.model.cache import KeyValueCache
from trimask.sampling.kept import require_partial
from trimask.sampling.predictor import PartialPredictor, Prediction, Predictor
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary


@final
class CountingPredictor:
    """Calls `note` with the number of positions that each pass of `inner` computes."""

    def __init__(self, inner: Predictor, note: Callable[[int], None]):
        self.inner, self.note = inner, note

    @property
    def vocabulary(self) -> Vocabulary:
        return self.inner.vocabulary

    @property
    def device(self) -> torch.device:
        return self.inner.device

    def __call__(self, z: Int[Tensor, "rows slots"], batch: Batch) -> Prediction:
        self.note(batch.num_positions)
        return self.inner(z, batch)

    def empty_cache(self, batch: Batch) -> KeyValueCache:
        return require_partial(self.inner).empty_cache(batch)

    def predict_some(
        self,
        z: Int[Tensor, "rows slots"],
        batch: Batch,
        at: Int[Tensor, "kept"],
        *,
        cache: KeyValueCache | None = None,
        active: Int[Tensor, "active"] | None = None,
    ) -> Prediction:
        self.note(batch.num_positions if active is None else len(active))
        if cache is None and not isinstance(self.inner, PartialPredictor):
            return self.inner(z, batch)
        return require_partial(self.inner).predict_some(z, batch, at, cache=cache, active=active)
