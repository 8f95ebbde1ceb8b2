"""The likelihood of a sampler is that of its law, and the best grid follows from a profile."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oracle import Oracle
from sampling.laws import Law, Twin, entropy, nats
from sampling.oracle_predictor import OraclePredictor
from trimask.errors import UserError
from trimask.sampling import (
    Ancestral,
    CoarseFirst,
    Confidence,
    EntropyBound,
    LargestProbability,
    LeftToRight,
    LowestEntropy,
    PathPlanning,
    SamplerConfig,
    Shifted,
    Tabulated,
    Temperature,
    Threshold,
    measure_profile,
    measure_sampler_likelihood,
)
from trimask.sampling.profile import InformationProfile

DRAWN = Oracle.random(vocabulary_size=3, length=4, seed=3, sharpness=2.0)
COUNTS = np.rint(DRAWN.probability.numpy() * 400).astype(int) + 1
ORACLE = replace(DRAWN, probability=torch.from_numpy(COUNTS / COUNTS.sum()))
"""Its probabilities are those of a finite set of sequences, `COUNTS` of each."""
TWIN = Twin(ORACLE)


def expected_nats(config: SamplerConfig, *, repeats: int = 1, **shape: Any) -> float:
    """−Σ p log q in nats per sequence, the mean over `repeats` draws of the order's noise."""
    predictor = OraclePredictor(ORACLE, **shape)
    documents = [predictor.document(x) for x in ORACLE.sequences.numpy()] * repeats
    found = measure_sampler_likelihood(predictor, documents, config, seed=2)
    assert (found.num_tokens["made"] == ORACLE.length).all()
    return float(found.nats["made"] @ np.tile(ORACLE.probability.numpy() / repeats, repeats))


FIXED: dict[str, tuple[SamplerConfig, Law]] = {
    "left to right": (
        SamplerConfig(num_steps=2, order=LeftToRight()),
        TWIN.run([TWIN.ranked([range(4)], 2)] * 2),
    ),
    "entropy": (
        SamplerConfig(num_steps=2, order=LowestEntropy()),
        TWIN.run([TWIN.scored(lambda p: -entropy(p), 2)] * 2),
    ),
    "threshold": (
        SamplerConfig(count=Threshold(probability=0.7), order=LargestProbability()),
        TWIN.run_until_full(TWIN.adaptive(lambda p: float(p.max()), lambda ps: [p.max() >= 0.7 for p in ps])),
    ),
    "entropy bound, temperature": (
        SamplerConfig(count=EntropyBound(nats=1e6), filters=(Temperature(value=0.5),)),
        Twin(ORACLE, temperature=0.5).run([Twin(ORACLE, temperature=0.5).random(4)]),
    ),
}


@pytest.mark.parametrize("name", FIXED)
def test_likelihood_is_that_of_the_enumerated_law(name: str) -> None:
    config, law = FIXED[name]
    assert expected_nats(config) == pytest.approx(nats(ORACLE, law), rel=1e-9)


@pytest.mark.parametrize("order", [LeftToRight(), LowestEntropy(), LargestProbability()], ids=repr)
def test_one_slot_at_a_time_gives_the_entropy(order: Any) -> None:
    assert expected_nats(SamplerConfig(num_steps=4, order=order)) == pytest.approx(ORACLE.entropy, rel=1e-9)
    assert expected_nats(SamplerConfig(num_steps=2, order=order)) > ORACLE.entropy + 0.01


def cross_entropies(num_masked: int) -> float:
    """Z: nats per masked slot when so many slots are masked, over all masks and sequences."""
    total, count = 0.0, 0
    for masked in itertools.combinations(range(ORACLE.length), num_masked):
        count += 1
        for x, probability in zip(ORACLE.sequences.tolist(), ORACLE.probability.tolist(), strict=True):
            p = TWIN.p(tuple(ORACLE.mask_id if i in masked else code for i, code in enumerate(x)))
            total -= probability * sum(math.log(p[i][x[i]]) for i in masked) / num_masked
    return total / count


@pytest.mark.usefixtures("unchecked_shapes")
def test_excess_of_random_order_is_the_riemann_sum_of_the_profile() -> None:
    z = {number: cross_entropies(number) for number in range(1, 5)}
    riemann = 2 * z[4] + 2 * z[2]  # two steps of two slots
    assert sum(z.values()) == pytest.approx(ORACLE.entropy, rel=1e-9)
    assert riemann > ORACLE.entropy
    assert expected_nats(SamplerConfig(num_steps=2), repeats=20) == pytest.approx(riemann, abs=0.04)


def measured(config: SamplerConfig, **shape: Any) -> InformationProfile:
    """The profile over the set of sequences that the oracle knows."""
    predictor = OraclePredictor(ORACLE, **shape)
    documents = [predictor.document(x) for x in np.repeat(ORACLE.sequences.numpy(), COUNTS, axis=0)]
    return measure_profile(predictor, documents, config, num_levels=5, batch_size=200)


@pytest.mark.usefixtures("unchecked_shapes")
def test_profile_of_random_order() -> None:
    profile = measured(SamplerConfig(num_steps=1))
    assert profile.levels.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    expected = [cross_entropies(number) for number in (4, 3, 2, 1)]
    assert profile.cross_entropy() == pytest.approx(expected, rel=0.06)


def test_best_times_are_the_best_of_all() -> None:
    config = SamplerConfig(num_steps=1, order=CoarseFirst(inner=LeftToRight()))
    profile = measured(config, num_codebooks=2)
    for num_steps in (1, 2, 3, 4):
        inner = itertools.combinations(profile.levels[1:-1], num_steps - 1)
        every = [profile.evaluate((1.0, *times, 0.0)) for times in inner]
        assert profile.evaluate(profile.find_best_times(num_steps)) == pytest.approx(min(every))
    grid = profile.make_grid((2, 3, 9))
    assert isinstance(grid, Tabulated) and [len(times) for times in grid.times_of_steps] == [3, 4]
    assert tuple(grid.times(3).tolist()) == profile.find_best_times(3)


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=9), st.integers(1, 8))
def test_best_times_fall(gains: list[float], num_steps: int) -> None:
    number = len(gains)
    z = np.cumsum(gains)[::-1]  # more is known, less is left
    levels = np.linspace(1, 0, number + 1)
    cost = np.where(levels[:, None] > levels, (levels[:, None] - levels) * [*z, 0.0], 0.0)
    profile = InformationProfile(levels=levels, cost=cost)
    if num_steps > number:
        with pytest.raises(UserError, match=f"num_steps is {num_steps}: a profile of"):
            profile.find_best_times(num_steps)
        return
    times = profile.find_best_times(num_steps)
    assert len(times) == num_steps + 1 and times[0] == 1 and times[-1] == 0
    assert all(earlier > later for earlier, later in itertools.pairwise(times))


def test_a_sampler_without_a_likelihood_is_refused() -> None:
    predictor = OraclePredictor(ORACLE)
    for config in (
        SamplerConfig(num_steps=2, order=Confidence()),
        SamplerConfig(num_steps=2, order=LowestEntropy(), corrector=PathPlanning()),
    ):
        with pytest.raises(UserError, match="no exact likelihood"):
            measure_sampler_likelihood(predictor, [predictor.document()], config)
    with pytest.raises(UserError, match="needs a fixed order"):
        measure_profile(predictor, [predictor.document()], SamplerConfig(num_steps=1, order=LowestEntropy()))


def test_it_is_the_same_at_any_batch_size() -> None:
    predictor = OraclePredictor(ORACLE)
    documents = [predictor.document(x) for x in ORACLE.sequences.numpy()[:20]]
    config = SamplerConfig(num_steps=3, grid=Shifted(shift=2.0), count=Ancestral())
    whole = measure_sampler_likelihood(predictor, documents, config, seed=4)
    parts = measure_sampler_likelihood(predictor, documents, config, seed=4, batch_size=3)
    assert np.allclose(whole.nats["made"], parts.nats["made"], rtol=1e-12)
    assert (whole.num_passes == parts.num_passes).all() and whole.num_passes.max() <= 3
    assert whole.nats_per_token().value == pytest.approx(whole.nats["made"].mean() / ORACLE.length)
