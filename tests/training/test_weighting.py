"""Weightings of the training loss: what they are worth in expectation, and that the bound is reported."""

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from tests.training.test_step import VOCABULARY, batch, make_corruption, make_sequences, make_step  # noqa: F401

from design_space import SCHEDULES, WEIGHTINGS, kinks
from training.test_step import scheduled
from trimask.diffusion.schedule import Cosine, Linear, Polynomial, Schedule
from trimask.training.modalities import ModalityConfig
from trimask.training.weighting import Bound, PowerOfBound, Unweighted, Weighting
from trimask.vocabulary.batch import Batch, make_batch


def test_every_weighting_is_tested():
    # By name: a dataclass with slots is made twice.
    ours = {cls.__name__ for cls in Weighting.__subclasses__() if cls.__module__.startswith("trimask.")}
    assert ours == {type(weighting).__name__ for weighting in WEIGHTINGS}


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_uniform_predictor_costs_ln_v_per_target(schedule: Schedule, weighting: Weighting):
    """∫ mask_ratio(t) weight(t) dt = 1, by adaptive quadrature: a target is masked with that probability."""

    def density(t: float) -> float:
        at = torch.tensor([t], dtype=torch.float64)
        ratio = schedule.mask_ratio(at)
        return float(ratio * weighting.relative(schedule.loss_weight(at), ratio))

    jumps = [t for t in kinks(schedule) if 0 < t < 1]
    integral, _ = quad(density, 0, 1, points=[1e-3, 1e-2, 0.1, 0.999, *jumps], limit=500)
    # The midpoint rule that normalizes is exact to 1e-3 at a jump.
    assert weighting.constant(schedule) * integral == pytest.approx(1, abs=1e-3 if jumps else 1e-4)


def test_constants_that_are_known():
    assert Unweighted().constant(Linear()) == pytest.approx(2, rel=1e-6)
    assert Unweighted().constant(Cosine()) == pytest.approx(math.pi / 2, rel=1e-6)
    assert Unweighted().constant(Polynomial(exponent=3.0)) == pytest.approx(4, rel=1e-6)
    # √(1/t) has the integral 2/3 against t.
    assert PowerOfBound(exponent=0.5).constant(Linear()) == pytest.approx(1.5, rel=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_powers_lie_between_the_bound_and_no_weight(schedule: Schedule):
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    bound, ratio = schedule.loss_weight(t), schedule.mask_ratio(t)
    for power, end in ((PowerOfBound(exponent=1.0), Bound()), (PowerOfBound(exponent=0.0), Unweighted())):
        torch.testing.assert_close(power.relative(bound, ratio), end.relative(bound, ratio))
        assert power.constant(schedule) == pytest.approx(end.constant(schedule), rel=1e-3)


@pytest.mark.parametrize("exponent", [-0.1, 1.5, math.nan])
def test_an_exponent_outside_is_named(exponent: float):
    with pytest.raises(ValueError, match=f"exponent is {exponent}"):
        PowerOfBound(exponent=exponent)


@pytest.mark.parametrize(
    "objective",
    [
        {"weighting": Unweighted()},
        {"weighting": Unweighted(), "anti_masking": True},
        {
            "weighting": PowerOfBound(exponent=0.5),
            "modalities": scheduled(speech=Cosine(), image=Polynomial(exponent=0.5)),
        },
    ],
    ids=str,
)
def test_a_target_weighs_one_in_expectation(objective: dict[str, Any]):
    """By the masks that training draws, with the schedule of each modality."""
    corruption, sequences = make_corruption(**objective), make_sequences(240)
    means: dict[str, list[float]] = {modality: [] for modality in VOCABULARY.modalities}
    for k in range(40):
        big = make_batch(sequences, range(k * 240, (k + 1) * 240))
        modality = corruption.tables.modality(big.range_index)
        views = corruption.views(big, k)
        for m in VOCABULARY.modalities:
            targets = len(views) * int((big.maskable & (modality == VOCABULARY.modality_number(m))).sum())
            weight = sum(
                float(view.loss_weight[view.masked & (modality == VOCABULARY.modality_number(m))].sum())
                for view in views
            )
            means[m].append(weight / targets)
    for m in VOCABULARY.modalities:
        error = np.std(means[m]) / math.sqrt(len(means[m]))
        assert abs(np.mean(means[m]) - 1) < 4 * error + 1e-4, m
        assert error < 0.1


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=str)
def test_the_bound_is_reported_whatever_is_trained_on(batch: Batch, weighting: Weighting):  # noqa: F811
    """The first update has the same masks and weights: its NELBO does not know of the weighting."""
    plain = make_step(modalities=scheduled(speech=Cosine()))(batch)
    rows = {**scheduled(speech=Cosine()), "image": ModalityConfig(codebook_weights=(1.0, 0.5))}
    other = make_step(modalities=rows, weighting=weighting)(batch)
    for name, value in plain.items():
        if name.endswith("bits_per_token"):
            assert float(other[name]) == float(value), name
    assert (float(other["loss"]) == float(plain["loss"])) is False


def test_weights_of_a_users_own_are_used(batch: Batch):  # noqa: F811
    """Here: the cross-entropy of views above a half alone, each with its ratio."""

    @final
    @dataclass(frozen=True, kw_only=True, slots=True)
    class HighRatios(Weighting):
        def relative(self, bound: torch.Tensor, mask_ratio: torch.Tensor) -> torch.Tensor:
            return mask_ratio * (mask_ratio > 0.5)

    assert HighRatios().constant(Linear()) == pytest.approx(3 / (1 - 1 / 8), rel=1e-3)
    view = make_corruption(weighting=HighRatios()).views(batch, 0)[0]
    ratio = 1 / view.weight
    expected = HighRatios().constant(Linear()) * ratio * (ratio > 0.5)
    real = batch.maskable
    torch.testing.assert_close(view.loss_weight[real], expected[real])


def test_codebooks_weigh_what_is_stated(batch: Batch):  # noqa: F811
    """Against a sum over slots, one by one."""
    factors = {"text": (3.0,), "image": (1.0, 0.25), "speech": (0.0, 2.0)}
    rows = {
        name: ModalityConfig(weight=weight, codebook_weights=factors[name])
        for name, weight in (("text", 1.0), ("image", 2.0), ("speech", 0.5))
    }
    step = make_step(modalities=rows, weighting=Unweighted())
    view = step.passes.corruption.views(batch, 0)[0]
    losses = step.denoiser.cross_entropy(view.z_t, batch, view.masked).tolist()
    ranges = batch.range_index[view.masked].tolist()
    expected = 0.0
    for loss, number in zip(losses, ranges, strict=True):
        token_range = VOCABULARY.ranges[number]
        weight = 2.0 * factors[token_range.modality][token_range.codebook]  # 2 = 1 / ∫ t dt
        number = VOCABULARY.modality_number(token_range.modality)
        expected += weight * float(step.passes.token_weights[number]) * loss / 12
    assert float(step(batch)["loss"]) == pytest.approx(expected, rel=1e-3)


def test_codebook_weights_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"codebook_weights has 3 for speech.*give 2, one for each codebook"):
        make_step(modalities={"speech": ModalityConfig(codebook_weights=(1.0, 1.0, 1.0))})
    with pytest.raises(ValueError, match="must be finite and at least 0"):
        ModalityConfig(codebook_weights=(-1.0, 1.0))
