"""A script for torchrun: a few updates of a small denoiser; the main process writes what came of them.

`distributed_steps.py OUT [name=value …]`, with fields of `ComputeConfig`, `anti_masking`, and fields of the
denoiser's config as `model.name`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from in_memory import InMemory
from trimask.config import from_dict, override
from trimask.data.mixture import Component, Mixture, MixtureConfig
from trimask.data.stream import SpanSlack, TrainingStream
from trimask.model.denoiser import DenoiserConfig
from trimask.model.parametrization import CompletedP
from trimask.model.weights import save_denoiser
from trimask.training.average import WeightAverageConfig
from trimask.training.compute import ComputeConfig
from trimask.training.corruption import ObjectiveConfig
from trimask.training.distributed import open_world
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import AdamWConfig
from trimask.training.placement import place
from trimask.training.sharded_tensors import local
from trimask.training.step import DenoiserStep
from trimask.vocabulary.codebooks import Parallel
from trimask.vocabulary.layout import CodeSpace, Vocabulary

VOCABULARY = Vocabulary(
    spaces=(
        CodeSpace(name="text", num_codebooks=1, codebook_size=40, has_end=True),
        CodeSpace(name="image", num_codebooks=2, codebook_size=16, has_end=False, grid=(3, 3)),
        CodeSpace(name="speech", num_codebooks=2, codebook_size=8, has_end=True),
    ),
    layouts={"image": Parallel(), "speech": Parallel()},
)
CONFIG = DenoiserConfig(
    width=32,
    depth=3,
    num_heads=2,
    parametrization=CompletedP(base_width=16, base_depth=2, base_num_heads=1),
)
NUM_STEPS = 4


def make_stream(physical_batch: int = 13) -> TrainingStream:
    """Text, pictures and speech of different lengths; a batch that no number of processes divides."""
    draw = np.random.default_rng(0)

    def spans(size: int, codebooks: int, lengths: list[int]) -> list[np.ndarray]:
        return [draw.integers(0, size, (n, codebooks)) for n in lengths]

    sources = {}
    for name, other in (("texts", None), ("pictures", "image"), ("speech", "speech")):
        codes = {"text": spans(40, 1, draw.integers(2, 9, 20).tolist())}
        if other == "image":
            codes[other] = spans(16, 2, [9] * 20)
        elif other == "speech":
            codes[other] = spans(8, 2, draw.integers(3, 12, 20).tolist())
        sources[name] = InMemory(name=name, codes=codes, groups=np.arange(20))
    components = (
        Component(source="texts", task="text", weight=1.0),
        Component(source="pictures", task="text_to_image", weight=1.0),
        Component(source="speech", task="text_to_speech", weight=1.0),
    )
    mixture = Mixture(MixtureConfig(components=components, block_length=16), sources, seed=3)
    return TrainingStream(
        mixture, VOCABULARY, slack=SpanSlack(), text_window=128, physical_batch=physical_batch, row_length=40
    )


def layout(step: DenoiserStep) -> dict[str, tuple[type, torch.Size]]:
    """How a checkpoint would find each tensor: whole or as a shard, and its part here."""
    return {name: (type(tensor), local(tensor).shape) for name, tensor in step.state_dict().items()}


def main(out: Path, compute: ComputeConfig, objective: ObjectiveConfig, config: DenoiserConfig) -> None:
    stream = make_stream()
    with open_world(replicas=compute.replicas) as world:
        denoiser = place(config, VOCABULARY, seed=0, compute=compute, world=world)
        step = DenoiserStep(
            denoiser,
            objective=objective,
            optimizer=AdamWConfig(learning_rate=5e-3),
            lr_schedule=WarmupCosine(warmup_fraction=0.1),
            num_steps=NUM_STEPS,
            seed=5,
            targets=stream.target_tokens(),
            tasks=stream.tasks,
            logical_batch=6,
            micro_batch=compute.micro_batch,
            average=WeightAverageConfig(half_life=20.0),
            batch=13,
            world=world,
        )
        rows = []
        for number in range(NUM_STEPS):
            metrics = step(stream.batch(number, rank=world.rank, num_parts=world.size))
            rows.append({name: float(value) for name, value in metrics.items()})
            before = layout(step)
            with torch.no_grad(), step.use_average():  # an evaluation
                step.losses(stream.batch(0), 0)
            assert layout(step) == before
        assert all(row == rows for row in world.gather(rows)), "processes disagree"
        save_denoiser(out / "model.safetensors", denoiser, is_main=world.is_main)
        with step.use_average():
            save_denoiser(out / "average.safetensors", denoiser, is_main=world.is_main)
        assert layout(step) == before
        if world.is_main:
            (out / "metrics.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    torch.set_num_threads(1)
    fields = dict(word.split("=") for word in sys.argv[2:])
    anti_masking = fields.pop("anti_masking", "") == "true"
    model = {n.removeprefix("model."): fields.pop(n) for n in list(fields) if n.startswith("model.")}
    main(
        Path(sys.argv[1]),
        from_dict(ComputeConfig, {name: json.loads(text) for name, text in fields.items()}),
        ObjectiveConfig(anti_masking=anti_masking),
        override(CONFIG, model),
    )
