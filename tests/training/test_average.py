"""The average of the weights: its law, the runs that keep one, and what is made of them."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_step import TASKS, VOCABULARY, batch, make_sequences, targets_of  # noqa: F401
from torch import nn

from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.weights import load_denoiser
from trimask.recipes.quickstart import debug
from trimask.runs.export import export
from trimask.runs.load import load_trained
from trimask.runs.pretrain import MODEL, pretrain
from trimask.training.average import WeightAverage, WeightAverageConfig
from trimask.training.corruption import ObjectiveConfig
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import AdamWConfig
from trimask.training.step import DenoiserStep
from trimask.vocabulary.batch import Batch

CONFIG = WeightAverageConfig(half_life=64.0)


def test_the_average_follows_its_definition():
    """Against sums in double precision, one number at a time."""
    draw = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.randn(5, generator=draw))
    average = WeightAverage(CONFIG, [("w", parameter)], batch=16)
    expected = parameter.detach().double()
    for step in range(1, 40):
        with torch.no_grad():
            parameter.copy_(torch.randn(5, generator=draw))
        average.update(step)
        half_life = min(64.0, 0.05 * 16 * step)
        kept = 0.5 ** (16 / half_life)
        expected = kept * expected + (1 - kept) * parameter.detach().double()
    torch.testing.assert_close(average.tensors()["w"].double(), expected, rtol=1e-5, atol=1e-6)


def test_a_half_life_is_the_same_at_any_batch():
    for step in (1000, 1500):
        assert CONFIG.decay(batch=16, step=step) ** 4 == pytest.approx(CONFIG.decay(batch=64, step=step))
    assert CONFIG.decay(batch=64, step=10_000) == 0.5
    # At first it is a share of what was seen: the start does not stay.
    assert CONFIG.decay(batch=16, step=1) < 1e-5


@pytest.mark.parametrize("fields", [{"half_life": 0.0}, {"half_life": 1.0, "ramp_up": 0.0}])
def test_values_out_of_range_are_named(fields: dict[str, float]):
    with pytest.raises(ValueError, match=r"0.0"):
        WeightAverageConfig(**fields)


def make_step(average: WeightAverageConfig | None = CONFIG) -> DenoiserStep:
    denoiser = Denoiser(DenoiserConfig(width=32, depth=2, num_heads=2), VOCABULARY)
    denoiser.initialize(0)
    return DenoiserStep(
        denoiser,
        objective=ObjectiveConfig(),
        optimizer=AdamWConfig(learning_rate=5e-3),
        lr_schedule=WarmupCosine(warmup_fraction=0.1),
        num_steps=60,
        seed=5,
        targets=targets_of(make_sequences()),
        tasks=TASKS,
        average=average,
        batch=12,
    )


def weights_of(step: DenoiserStep) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in step.denoiser.named_parameters()}


def test_training_does_not_know_of_the_average(batch: Batch):  # noqa: F811
    plain, averaged = make_step(None), make_step()
    for _ in range(5):
        assert float(plain(batch)["loss"]) == float(averaged(batch)["loss"])
        with averaged.use_average():
            averaged.losses(batch, 0)
    for name, tensor in weights_of(plain).items():
        assert torch.equal(weights_of(averaged)[name], tensor)


def test_the_weights_come_back_also_after_an_error(batch: Batch):  # noqa: F811
    step = make_step()
    for _ in range(3):
        step(batch)
    before = weights_of(step)
    with pytest.raises(RuntimeError), step.use_average():
        assert any(not torch.equal(before[name], tensor) for name, tensor in weights_of(step).items())
        raise RuntimeError
    assert all(torch.equal(before[name], tensor) for name, tensor in weights_of(step).items())


def test_a_resumed_average_is_the_average(batch: Batch):  # noqa: F811
    one, two = make_step(), make_step()
    for _ in range(3):
        one(batch)
    two.load_state_dict({name: tensor.clone() for name, tensor in one.state_dict().items()})
    one(batch)
    two(batch)
    for name, tensor in one.state_dict().items():
        assert torch.equal(two.state_dict()[name], tensor), name


@pytest.mark.usefixtures("few_speeches")
def test_a_run_is_exported_sampled_and_resumed_by_its_average(tmp_path: Path):
    run = replace(
        debug(), average=WeightAverageConfig(half_life=80.0), checkpoint_every=10, evaluate_every=20
    )
    pretrain(run, tmp_path / "whole", recipe="debug")
    ended = load_denoiser(tmp_path / "whole" / MODEL).state_dict()
    last = tmp_path / "whole" / "checkpoints" / "step_00000020"
    from_checkpoint = load_trained(last)[0].state_dict()
    assert all(torch.equal(from_checkpoint[name], tensor) for name, tensor in ended.items())
    export(last, tmp_path / "exported.safetensors", dtype=torch.float32)
    exported = load_denoiser(tmp_path / "exported.safetensors").state_dict()
    assert all(torch.equal(exported[name], tensor) for name, tensor in ended.items())
    plain = replace(run, average=None)
    pretrain(plain, tmp_path / "plain", recipe="debug")
    weights = load_denoiser(tmp_path / "plain" / MODEL).state_dict()
    assert any(not torch.equal(weights[name], tensor) for name, tensor in ended.items())

    def rows(name: str) -> list[dict[str, Any]]:
        text = (tmp_path / name / "metrics.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    assert [row.get("loss") for row in rows("whole")] == [row.get("loss") for row in rows("plain")]
    ours, theirs = rows("whole")[-1], rows("plain")[-1]
    scores = [name for name in ours if name.startswith("evaluation/")]
    assert scores and any(not math.isclose(ours[name], theirs[name], rel_tol=1e-9) for name in scores)
