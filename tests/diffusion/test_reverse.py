"""Reverse probabilities: marginals, ends, and the exact distribution of the ancestral sampler under the
oracle."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from design_space import SCHEDULES
from oracle import Oracle
from trimask.diffusion.reverse import remask_limit, remask_probabilities, unmask_probability
from trimask.diffusion.schedule import Linear, Schedule

schedules = st.sampled_from(SCHEDULES)
pairs_of_times = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@given(schedules, pairs_of_times)
def test_unmasking_keeps_the_marginal(schedule: Schedule, times: list[float]) -> None:
    s, t = map(scalar, times)
    revealed = unmask_probability(schedule, s=s, t=t)
    assert 0 <= revealed <= 1
    visible = schedule.alpha(t) + (1 - schedule.alpha(t)) * revealed
    torch.testing.assert_close(visible, schedule.alpha(s), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_ends(schedule: Schedule, dtype: torch.dtype) -> None:
    t = torch.tensor([1e-12, 1e-6, 0.5, 1.0], dtype=dtype)
    assert (unmask_probability(schedule, s=torch.zeros_like(t), t=t) == 1).all()
    assert (unmask_probability(schedule, s=t, t=t) == 0).all()
    zero = torch.zeros((), dtype=dtype)
    assert unmask_probability(schedule, s=zero, t=zero) == 0


@given(schedules, pairs_of_times, st.floats(0, 1))
def test_remasking_keeps_the_marginal(schedule: Schedule, times: list[float], sigma: float) -> None:
    s, t = map(scalar, times)
    if t == 0:
        return
    reveal, remask = remask_probabilities(schedule, s=s, t=t, sigma=scalar(sigma))
    assert 0 <= reveal <= 1 and 0 <= remask <= remask_limit(schedule, s=s, t=t)
    visible = schedule.alpha(t) * (1 - remask) + (1 - schedule.alpha(t)) * reveal
    torch.testing.assert_close(visible, schedule.alpha(s), rtol=0, atol=1e-12)
    plain, none = remask_probabilities(schedule, s=s, t=t, sigma=scalar(0.0))
    torch.testing.assert_close(plain, unmask_probability(schedule, s=s, t=t), rtol=0, atol=1e-12)
    assert none == 0


def ancestral_distribution(oracle: Oracle, schedule: Schedule, *, num_steps: int) -> torch.Tensor:
    """P(each state) after `num_steps` even steps from all masked: the Markov chain on (V + 1)^n states,
    without sampling."""
    size = oracle.vocabulary_size + 1
    states = torch.tensor(list(itertools.product(range(size), repeat=oracle.length)))
    # States that are impossible cannot arise: the table is positive. At visible positions the rows below
    # are not used.
    posterior = oracle.probabilities(states)
    distribution = torch.zeros(len(states), dtype=torch.float64)
    distribution[-1] = 1.0
    masked = (states == oracle.mask_id)[..., None]
    stay = torch.nn.functional.one_hot(states, size).to(torch.float64)
    grid = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    for t, s in itertools.pairwise(grid):
        reveal = unmask_probability(schedule, s=s, t=t)
        position = torch.cat([reveal * posterior, (1 - reveal).expand(len(states), oracle.length, 1)], dim=-1)
        moves = torch.where(masked, position, stay)
        step = torch.ones(len(states), len(states), dtype=torch.float64)
        for index in range(oracle.length):
            step *= moves[:, index, states[:, index]]
        distribution = distribution @ step
    assert math.isclose(float(distribution.sum()), 1.0, abs_tol=1e-12)
    return distribution[(states != oracle.mask_id).all(-1)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_total_variation_falls_with_the_number_of_steps(schedule: Schedule) -> None:
    oracle = Oracle.random(vocabulary_size=3, length=3, seed=1)
    distances = []
    for num_steps in (1, 2, 4, 8, 16, 32, 64, 128):
        final = ancestral_distribution(oracle, schedule, num_steps=num_steps)
        distances.append(0.5 * float((final - oracle.probability).abs().sum()))
    print(repr(schedule), [f"{distance:.4f}" for distance in distances])
    assert all(later < earlier for earlier, later in itertools.pairwise(distances))
    # One step draws all tokens independently; with many, the error is of first order in the step.
    assert distances[0] > 0.1 and distances[-1] < 0.1 * distances[0]
    assert distances[-1] < 0.6 * distances[-2]


def test_one_step_is_the_product_of_marginals() -> None:
    oracle = Oracle.random(seed=2)
    marginals = oracle.probabilities(torch.full((1, 3), oracle.mask_id))[0]
    product = marginals[torch.arange(3), oracle.sequences].prod(-1)
    torch.testing.assert_close(
        ancestral_distribution(oracle, Linear(), num_steps=1), product, rtol=0, atol=1e-15
    )
