"""trimask as a contender: the one file that knows its loop and its settings."""

from dataclasses import replace
from functools import cache
from typing import final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.sampling.network import Count
from benchmarks.sampling.work import Work
from trimask.model.cache import KeyValueCache
from trimask.model.denoiser import Denoiser
from trimask.sampling.backends import BACKENDS, COMPILED, TORCH
from trimask.sampling.config import SamplerConfig
from trimask.sampling.defaults import DEFAULTS, OTHER
from trimask.sampling.filters import Temperature
from trimask.sampling.kept import require_partial
from trimask.sampling.predictor import PartialPredictor, Prediction, Predictor
from trimask.sampling.sampler import sample
from trimask.vocabulary.batch import Batch

ASSUMED_STEPS = 64
"""What rivals with as many steps as ours take where our count depends on the prediction."""
OURS = "trimask"
GUIDED = "trimask-guided"
BY_BACKEND = {f"{OURS}-{name}": name for name in BACKENDS if name not in (TORCH, COMPILED)}
"""What samples as `OURS` does, with the model computed by another backend; what it gains by being compiled,
`benchmarks/gpu` measures."""


def settings(name: str, task: str) -> SamplerConfig:
    """Return the settings that the contender `name` samples `task` with: the defaults of the package, without
    guidance but for `GUIDED`, since no rival here has it.
    """
    config = DEFAULTS.get(task, OTHER)
    return config if name == GUIDED else replace(config, guidance_scale=1.0)


def temperature(task: str) -> float:
    """Return the temperature of our draws: rivals that have one get the same."""
    filters = settings(OURS, task).filters
    return next((each.value for each in filters if isinstance(each, Temperature)), 1.0)


def fill(
    config: SamplerConfig, work: Work, count: Count, seed: int, *, backend: str = TORCH
) -> Int[Tensor, "rows slots"]:
    """Fill all rows of `work` at once."""
    predictor = _Counted(_predictor(work.model.denoiser, backend), count)
    documents = [work.document] * len(work.batch.tokens)
    return torch.from_numpy(np.stack(sample(predictor, documents, config, seed=seed)))


@cache
def _predictor(denoiser: Denoiser, backend: str) -> Predictor:
    """Made once for a model, as `trimask.load` does."""
    return BACKENDS[backend](denoiser)


@final
class _Counted:
    """Counts passes and the positions that they compute."""

    def __init__(self, predictor: Predictor, count: Count):
        self.predictor, self.count = predictor, count
        self.vocabulary, self.device = predictor.vocabulary, predictor.device

    def __call__(self, z: Int[Tensor, "rows slots"], batch: Batch) -> Prediction:
        self.count.add(batch.num_positions)
        return self.predictor(z, batch)

    def empty_cache(self, batch: Batch) -> KeyValueCache:
        return require_partial(self.predictor).empty_cache(batch)

    def predict_some(
        self,
        z: Int[Tensor, "rows slots"],
        batch: Batch,
        at: Int[Tensor, "kept"],
        *,
        cache: KeyValueCache | None = None,
        active: Int[Tensor, "active"] | None = None,
    ) -> Prediction:
        self.count.add(batch.num_positions if active is None else len(active))
        if cache is None and not isinstance(self.predictor, PartialPredictor):
            return self.predictor(z, batch)
        return require_partial(self.predictor).predict_some(z, batch, at, cache=cache, active=active)
