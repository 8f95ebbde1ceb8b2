"""Squared gradients by mask ratio, beside every mask of a short sequence; the density of least variance."""

import itertools
import math

import numpy as np
import pytest
import torch

from oracle import double_exponential
from training.test_step import VOCABULARY
from trimask.diffusion.schedule import MINIMUM_MASK_RATIO, Cosine, Linear, Polynomial, Schedule, Tabulated
from trimask.errors import UserError
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.questions.schedules.profile import Profile, measure_profile, optimal_density, strata
from trimask.studies.gradients import flat_gradient
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.sequence import Sequence, build_sequence

SCHEDULES = [
    Linear(),
    Cosine(),
    Polynomial(exponent=2.0),
    Tabulated(edges=(0.0, 0.1, 1.0), densities=(3.0, 1.0)),
]


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    """Weights that are not those of the start, where the unembedding is 0."""
    denoiser = Denoiser(DenoiserConfig(width=16, depth=1, num_heads=1), VOCABULARY)
    denoiser.initialize(0)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        denoiser.unembedding.weight.copy_(torch.randn(denoiser.unembedding.weight.shape, generator=draw) / 4)
    return denoiser


@pytest.fixture(scope="module")
def one() -> Sequence:
    return build_sequence(VOCABULARY, "text", {"text": np.array([[3], [7], [7], [1]])}, num_end={})


def gradients(denoiser: Denoiser, one: Sequence) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of Σ_masked −log p under each mask that hides something, and how many it hides."""
    batch = make_batch([one], [0])
    places = batch.maskable.nonzero()[:, 1]
    found, sizes = [], []
    for bits in itertools.product((False, True), repeat=len(places)):
        hidden = torch.zeros_like(batch.maskable)
        hidden[0, places] = torch.tensor(bits)
        if any(bits):
            z_t = torch.where(hidden, VOCABULARY.mask("text"), batch.tokens)
            loss = denoiser.cross_entropy(z_t, batch, hidden).sum()
            found.append(flat_gradient(loss, denoiser).double())
            sizes.append(sum(bits))
    return torch.stack(found), torch.tensor(sizes)


def exact(denoiser: Denoiser, one: Sequence, schedule: Schedule) -> tuple[float, float]:
    """E|g|² and |E g|² of the NELBO's gradient under a schedule, by quadrature over t and all masks."""
    found, sizes = gradients(denoiser, one)
    count = int(one.maskable.sum())
    t_min = float(schedule.inverse(torch.tensor(1 - MINIMUM_MASK_RATIO, dtype=torch.float64)))
    middle = [float(schedule.inverse(torch.tensor(0.9)))] if isinstance(schedule, Tabulated) else []
    second, mean = 0.0, torch.zeros(found.shape[1], dtype=torch.float64)
    for start, end in itertools.pairwise([0.0, t_min, *middle, 1.0]):
        t, dt = double_exponential(start, end, num_nodes=400)
        ratio, weight = schedule.mask_ratio(t)[:, None], schedule.loss_weight(t)
        chance = ratio**sizes * (1 - ratio) ** (count - sizes)
        second += float((dt * weight**2 * (chance @ found.square().sum(1))).sum())
        mean += (dt * weight) @ chance @ found
    return second, float(mean.square().sum())


@pytest.fixture(scope="module")
def profile(denoiser: Denoiser, one: Sequence) -> Profile:
    return measure_profile(denoiser, [one] * 50, seed=0, num_strata=6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_profile_gives_the_moments_of_every_schedule(
    denoiser: Denoiser, one: Sequence, profile: Profile, schedule: Schedule
) -> None:
    second, mean = exact(denoiser, one, schedule)
    found = profile.second_moment(schedule)
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert error < 0.05 * second
    assert abs(found.mean() - second) < 4 * error
    error = profile.squared_mean.std(ddof=1) / math.sqrt(len(found))
    assert error < 0.15 * mean
    assert abs(profile.squared_mean.mean() - mean) < 4 * error
    np.testing.assert_allclose(profile.variance(schedule), found - profile.squared_mean)


def test_the_mean_gradient_is_the_same_under_every_schedule(denoiser: Denoiser, one: Sequence) -> None:
    means = [exact(denoiser, one, schedule)[1] for schedule in SCHEDULES]
    # Quadrature meets the jumps of the table, and the clip: the bound is the same to 1e-9.
    assert means == pytest.approx([means[0]] * len(means), rel=1e-6)


def test_moments_add_up_to_the_linear_second_moment(profile: Profile) -> None:
    assert profile.moments().sum() == pytest.approx(profile.second_moment(Linear()).mean(), rel=1e-9)
    assert len(profile.moments()) == 6 and (profile.moments() > 0).all()


def test_the_optimal_density_beats_every_other_of_its_kind(profile: Profile) -> None:
    best = optimal_density(profile.edges.tolist(), profile.moments().tolist())
    least = profile.second_moment(best).mean()
    assert least < 0.8 * profile.second_moment(Linear()).mean()
    draw = np.random.default_rng(0)
    for size in (0.03, 0.3, 1.0):
        for _ in range(10):
            densities = np.array(best.densities) * np.exp(draw.normal(size=len(best.densities)) * size)
            other = Tabulated(edges=best.edges, densities=tuple(densities.tolist()))
            assert profile.second_moment(other).mean() > least
    # At its optimum the second moment is (Σ √(moment · width))²: Cauchy–Schwarz with equality.
    expected = np.sqrt(profile.moments() * np.diff(profile.edges)).sum() ** 2
    assert least == pytest.approx(expected, rel=1e-6)


def test_noise_of_single_tokens_has_the_density_of_the_root() -> None:
    """E|h|² = a/m, as with uncorrelated tokens: p* ∝ m^(-1/2), the polynomial schedule with k = 2."""
    edges = np.linspace(0, 1, 2001)
    lows = np.maximum(edges[:-1], 1e-300)
    moments = np.log(edges[1:] / np.where(edges[:-1] > 0, lows, edges[1] / 16))
    density = optimal_density(edges.tolist(), moments.tolist())
    middle = torch.tensor([0.05, 0.3, 0.8], dtype=torch.float64)
    expected = Polynomial(exponent=2.0).loss_weight(Polynomial(exponent=2.0).inverse(1 - middle))
    torch.testing.assert_close(
        density.loss_weight(density.inverse(1 - middle)), expected, rtol=0.02, atol=0.0
    )


def test_strata_span_all_ratios_and_are_finest_near_0() -> None:
    edges = strata(12)
    assert (edges[0], edges[-1], len(edges)) == (0.0, 1.0, 13)
    assert (np.diff(edges, 2) > 0).all()


def test_a_moment_of_0_is_named() -> None:
    with pytest.raises(UserError, match=r"ratios 0\.5 to 1 is 0\.0"):
        optimal_density([0.0, 0.5, 1.0], [1.0, 0.0])
