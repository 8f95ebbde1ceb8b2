"""The noise scale on problems whose gradient and covariance are known, and on the denoiser."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.training.corruption import ObjectiveConfig
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.noise_scale import (
    TOTAL,
    estimate_noise_scale,
    measure_denoiser_noise_scale,
    measure_noise_scale,
)
from trimask.training.optimizers import AdamWConfig
from trimask.training.step import DenoiserStep
from trimask.vocabulary.batch import make_batch
from vocabulary.test_sequence_batch import SPANS, V, example

SCALES = torch.tensor([0.5, 1.0, 2.0, 4.0])
CENTRE = torch.tensor([1.0, -2.0, 0.5, 0.0])


def test_exact_moments_give_the_exact_answer() -> None:
    """E|G_B|² = |G|² + tr Σ / B with |G|² = 3, tr Σ = 60."""
    found = estimate_noise_scale([3 + 60 / 4] * 2, [3 + 60 / 32] * 2, small_batch=4, large_batch=32)
    assert found.squared_gradient == pytest.approx(3) and found.noise == pytest.approx(60)
    assert found.batch == pytest.approx(20) and found.standard_error == pytest.approx(0, abs=1e-9)


def test_it_averages_before_it_divides() -> None:
    draw = np.random.default_rng(0)
    small, large = (draw.exponential(3 + 60 / b, 1000).tolist() for b in (4, 32))
    found = estimate_noise_scale(small, large, small_batch=4, large_batch=32)
    assert abs(found.batch - 20) < 4 * found.standard_error < 16
    ratios = [
        estimate_noise_scale([s], [b], small_batch=4, large_batch=32).batch
        for s, b in zip(small[:200], large[:200], strict=True)
    ]
    finite = [ratio for ratio in ratios if math.isfinite(ratio)]
    assert abs(sum(finite) / len(finite) - 20) > 5


def test_a_quadratic_with_known_covariance() -> None:
    weight = nn.Parameter(torch.zeros(4))

    def losses(index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        x = CENTRE + SCALES * torch.randn(5, 4, generator=generator)
        squares = 0.5 * (weight - x).square().mean(0)
        return {"first": squares[:2].sum(), "second": squares[2:].sum()}

    found = measure_noise_scale(losses, [weight], batch=5, num_small=8, num_pairs=400)
    for name, part in (("first", slice(0, 2)), ("second", slice(2, 4)), (TOTAL, slice(0, 4))):
        squared, noise = float(CENTRE[part].square().sum()), float(SCALES[part].square().sum())
        assert found[name].noise == pytest.approx(noise, rel=0.1)
        assert found[name].squared_gradient == pytest.approx(squared, rel=0.15, abs=0.1)
        assert abs(found[name].batch - noise / squared) < 4 * found[name].standard_error
    assert weight.grad is None and (weight == 0).all()


def test_a_loss_that_some_batches_lack_counts_as_nothing_there() -> None:
    weight = nn.Parameter(torch.zeros(2))

    def losses(index: int) -> dict[str, Tensor]:
        always = {"always": weight[0] * 1.0}
        return always if index in (0, 1, 4) else always | {"seldom": weight[1] * 2.0}

    found = measure_noise_scale(losses, [weight], batch=1, num_small=2, num_pairs=3)
    # Gradients of `seldom`: 0, 0 | 2, 2 | 0, 2. Small squares: 0, 4, 2; of the means: 0, 4, 1.
    expected = estimate_noise_scale([0.0, 4.0, 2.0], [0.0, 4.0, 1.0], small_batch=1, large_batch=2)
    assert found["seldom"] == expected
    assert found["always"].noise == pytest.approx(0) and found["always"].squared_gradient == pytest.approx(1)


def test_the_denoisers_parts_add_up_and_nothing_moves() -> None:
    denoiser = Denoiser(DenoiserConfig(width=16, depth=1, num_heads=1), V)
    denoiser.initialize(0)
    step = DenoiserStep(
        denoiser,
        objective=ObjectiveConfig(),
        optimizer=AdamWConfig(learning_rate=1e-2),
        lr_schedule=WarmupCosine(warmup_fraction=0.0),
        num_steps=10,
        seed=0,
        targets=(6.0, 8.0, 9.0),
        tasks={task for task, _ in SPANS},
    )

    def batches(index: int):
        sequences = [example(task, spans, seed=10 * index + k) for k, (task, spans) in enumerate(SPANS)]
        return make_batch(sequences, range(8 * index, 8 * index + 8))

    step(batches(0))
    before = [parameter.detach().clone() for parameter in denoiser.parameters()]
    found = measure_denoiser_noise_scale(step, batches, num_small=2, num_pairs=3)
    assert set(found) == {"text", "image", "speech", TOTAL}
    assert all(scale.noise > 0 and scale.num_pairs == 3 for scale in found.values())
    assert step.step == 1
    for parameter, old in zip(denoiser.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    parts = step.losses(batches(1), 1)
    denoiser.zero_grad(set_to_none=True)
    metrics = step(batches(1))  # the step's second update: the same noise
    total = sum(float(part.detach()) for part in parts.values())
    assert float(metrics["loss"]) == pytest.approx(total, rel=1e-6)
    only_text = make_batch([example("text", ("text",))], [0])
    assert list(step.losses(only_text, 0)) == ["text"]


@pytest.mark.parametrize(
    ("small", "large", "batches", "message"),
    [
        ([1.0], [1.0], (4, 4), "batches of 4 and 4"),
        ([1.0], [], (1, 2), "1 and 0 squared norms"),
        ([], [], (1, 2), "at least one"),
    ],
)
def test_errors_name_the_value(
    small: list[float], large: list[float], batches: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_noise_scale(small, large, small_batch=batches[0], large_batch=batches[1])
    with pytest.raises(ValueError, match="num_small 1"):
        measure_noise_scale(lambda index: {}, [], batch=1, num_small=1, num_pairs=1)


def test_noise_alone_has_no_scale() -> None:
    found = estimate_noise_scale([10.0, 10.0], [1.0, 1.0], small_batch=1, large_batch=8)
    assert found.squared_gradient < 0 and found.batch == math.inf and found.standard_error == math.inf
