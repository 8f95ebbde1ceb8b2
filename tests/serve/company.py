"""Requests of every kind, and a predictor whose bits cannot depend on the batch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from generation.fakes import hum, picture, random_denoiser, tiny_generator
from trimask import rng
from trimask.generation.generate import Generator
from trimask.generation.generated import Generated
from trimask.generation.results import Results
from trimask.sampling import (
    Confidence,
    EntropyBound,
    Grown,
    Halton,
    LowestEntropy,
    Needed,
    Predicted,
    ReMDMCap,
    SamplerConfig,
)
from trimask.sampling.predictor import Prediction
from trimask.serve.job import Began, Ended, Failed, Job, Made, Message, Watch
from trimask.serve.scheduler import Scheduler
from trimask.vocabulary.batch import Batch

REQUESTS: list[dict[str, Any]] = [
    {"task": "text_to_image", "prompt": "a red hat", "num_steps": 3},
    {"task": "text_to_image", "prompt": "a cat", "num_steps": 2, "guidance_scale": 2.5, "num_samples": 3},
    {"task": "text", "num_steps": 6, "seed": 4, "temperature": 0.7},
    {"task": "text", "prompt": "once [__] a time", "num_steps": 2},
    {"task": "text", "config": SamplerConfig(num_steps=4, length=Grown(share=0.5, most=3.0)), "seed": 2},
    {"task": "image_to_text", "image": picture(), "num_steps": 5, "guidance_scale": 0.5},
    {"task": "text_to_speech", "prompt": "good morning", "num_steps": 4, "num_samples": 2, "top_p": 0.9},
    {
        "task": "text_to_speech",
        "prompt": "b",
        "config": SamplerConfig(num_steps=3, length=Predicted(quantile=0.1)),
    },
    {
        "task": "speech_to_text",
        "speech": hum(),
        "config": SamplerConfig(count=EntropyBound(), order=LowestEntropy()),
    },
    {"task": "joint", "pair": "speech", "num_steps": 7, "seed": 9},
    {
        "task": "triple",
        "config": SamplerConfig(num_steps=4, order=Confidence(noise_temperature=1.0), ends_last=True),
    },
    {"task": "text", "config": SamplerConfig(num_steps=5, corrector=ReMDMCap()), "num_samples": 2},
    {  # the last: it needs a predictor that keeps keys and values
        "task": "text_to_image",
        "prompt": "b",
        "config": SamplerConfig(num_steps=5, order=Halton(), recompute=Needed(renew_every=1)),
    },
]


class HashPredictor:
    """Log-probabilities from a hash of a document's own tokens and the slot: the same bits in any batch."""

    def __init__(self) -> None:
        self.vocabulary = random_denoiser().vocabulary
        self.device = torch.device("cpu")
        self.num_passes = 0

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        self.num_passes += 1
        real = batch.sequence >= 0
        weights = torch.arange(1, z.shape[1] + 1) * 7919
        own = ((z + 1) * weights * real).sum(1)

        def log_probabilities(slots: Tensor, range_index: int) -> Tensor:
            row, slot = slots // z.shape[1], slots % z.shape[1]
            keys = rng.fold(rng.key(0, "hash", range_index), own[row] * 1009 + slot)
            size = self.vocabulary.ranges[range_index].size
            return torch.log_softmax(4 * rng.uniform(keys, size), dim=-1)

        return log_probabilities


def hash_generator() -> Generator:
    return tiny_generator(predictor=HashPredictor())


def prepare(generator: Generator, request: dict[str, Any]) -> Results:
    return generator.generate_each(**request)


def listen(
    generator: Generator, request: dict[str, Any], *, watch: Watch | None = None
) -> tuple[Job, list[Message]]:
    """Make a job, and the list of what it tells."""
    told: list[Message] = []
    return Job(lambda: prepare(generator, request), told.append, watch=watch), told


def run(scheduler: Scheduler) -> None:
    while scheduler.step():
        pass


def results(told: list[Message]) -> list[Generated]:
    """Return the results of a request that was carried out, in order."""
    assert isinstance(told[0], Began) and isinstance(told[-1], Ended), told
    assert not any(isinstance(each, Failed) for each in told)
    made = {each.index: each.generated for each in told if isinstance(each, Made)}
    return [made[index] for index in range(len(made))]


def to_bytes(made: Generated) -> list[bytes]:
    """Return all that a result is, as bytes."""
    parts = [made.tokens.tobytes(), (made.text or "").encode(), str(made.is_complete).encode()]
    parts += [made.codes[name].tobytes() for name in sorted(made.codes)]
    parts.append(b"" if made.image is None else made.image.tobytes())
    parts.append(b"" if made.waveform is None else np.ascontiguousarray(made.waveform).tobytes())
    return parts
