"""trimask as a contender: the one file that knows its loop and its settings."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.sampling.network import Count
from benchmarks.sampling.work import Work
from trimask import io
from trimask.model.denoiser import Denoiser
from trimask.runs.load import QUICKSTART
from trimask.runs.presets import PRESETS, Presets, read_presets
from trimask.sampling.backends import BACKENDS, COMPILED, TORCH
from trimask.sampling.config import SamplerConfig
from trimask.sampling.counting import CountingPredictor
from trimask.sampling.defaults import DEFAULTS, OTHER
from trimask.sampling.filters import Temperature
from trimask.sampling.predictor import Predictor
from trimask.sampling.recompute import Everything
from trimask.sampling.sampler import sample

ASSUMED_STEPS = 64
"""What rivals with as many steps as ours take where our count depends on the prediction."""
OURS = "trimask"
GUIDED = "trimask-guided"
BY_BACKEND = {f"{OURS}-{name}": name for name in BACKENDS if name not in (TORCH, COMPILED)}
"""What samples as `OURS` does, with the model computed by another backend; what it gains by being compiled,
`benchmarks/gpu` measures."""
INT8 = "onnx-int8"
BY_PRESET = {
    f"{OURS}-{preset}{suffix}": (preset, backend)
    for preset in ("fast", "balanced", "best")
    for suffix, backend in (("", TORCH), (f"-{INT8}", INT8))
}
"""What samples with the presets of `quickstart`, and with which backend."""


def settings(name: str, task: str) -> SamplerConfig:
    """Return the settings that the contender `name` samples `task` with: those of its preset, or the defaults
    of the package, without guidance but for `GUIDED`, since no rival here has it.
    """
    if name in BY_PRESET:
        preset, backend = BY_PRESET[name]
        config = load_presets().presets[preset][task]
        return config if backend == TORCH else replace(config, recompute=Everything())
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
    predictor = CountingPredictor(_predictor(work.model.denoiser, backend), count.add)
    documents = [work.document] * len(work.batch.tokens)
    return torch.from_numpy(np.stack(sample(predictor, documents, config, seed=seed)))


@cache
def load_presets() -> Presets:
    """Load the presets that ship. They are used for other models too: as a shape, not as their best."""
    path = QUICKSTART.with_name(PRESETS)
    return read_presets(io.read_json(path, fix="install trimask again"), path)


@cache
def _predictor(denoiser: Denoiser, backend: str) -> Predictor:
    """Made once for a model, as `trimask.load` does."""
    return BACKENDS[backend](denoiser)
