"""The NELBO under the oracle: equal to the entropy for every schedule, ln V for a uniform guess, and its
terms add up."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from design_space import SCHEDULES, kinks
from oracle import Oracle, double_exponential
from trimask.diffusion.objective import count_targets, mask_ratio_weight, nelbo, nelbo_terms, training_loss
from trimask.diffusion.schedule import (
    MINIMUM_MASK_RATIO,
    Cosine,
    Schedule,
)


def integrated_over_time(oracle: Oracle, schedule: Schedule, by_mask: torch.Tensor) -> float:
    """The integral over t in [0, 1] of w(t) sum over masks of P(mask | t) `by_mask`, the schedule taken as
    a black box."""
    t_min = float(schedule.inverse(torch.tensor(1 - MINIMUM_MASK_RATIO, dtype=torch.float64)))
    breaks = [0.0, t_min, *(kink for kink in kinks(schedule) if t_min < kink < 1), 1.0]
    total = 0.0
    for start, end in itertools.pairwise(breaks):
        t, dt = double_exponential(start, end)
        expected = oracle.mask_probability(schedule.mask_ratio(t)) @ by_mask
        total += float((dt * schedule.loss_weight(t) * expected).sum())
    return total


@pytest.mark.parametrize("table", [(3, 3, 0), (4, 3, 1), (3, 4, 2), (2, 5, 3)])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_nelbo_of_the_oracle_is_the_entropy(schedule: Schedule, table: tuple[int, int, int]) -> None:
    vocabulary_size, length, seed = table
    oracle = Oracle.random(vocabulary_size=vocabulary_size, length=length, seed=seed)
    views = oracle.views()
    logits = oracle.log_probabilities(views.reshape(-1, length)).reshape(*views.shape, vocabulary_size)
    by_mask = oracle.probability @ oracle.cross_entropy(logits)
    error = integrated_over_time(oracle, schedule, by_mask) - oracle.entropy
    print(f"{schedule!r} {table}: NELBO - entropy = {error:.1e} nats")
    assert abs(error) < 1e-9
    assert error > -1e-12  # A bound: what the clip adds is never negative.


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_wrong_predictor_has_a_larger_nelbo(schedule: Schedule) -> None:
    oracle, other = Oracle.random(seed=0), Oracle.random(seed=5)
    views = oracle.views()
    logits = other.log_probabilities(views.reshape(-1, 3)).reshape(*views.shape, 3)
    bound = integrated_over_time(oracle, schedule, oracle.probability @ oracle.cross_entropy(logits))
    # The other table's own chain rule is exact too: its NELBO is the cross-entropy between the two tables.
    cross_entropy = float(-(oracle.probability * other.probability.log()).sum())
    assert bound > oracle.entropy + 0.1
    assert abs(bound - cross_entropy) < 1e-9


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_uniform_predictor_has_ln_v_nats_per_token(schedule: Schedule) -> None:
    oracle = Oracle.random(vocabulary_size=4, length=3)
    logits = torch.zeros(*oracle.views().shape, 4, dtype=torch.float64).log_softmax(-1)
    by_mask = oracle.probability @ oracle.cross_entropy(logits)
    assert integrated_over_time(oracle, schedule, by_mask) / 3 == pytest.approx(math.log(4), abs=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reference_nelbo_agrees_with_its_terms(dtype: torch.dtype) -> None:
    oracle = Oracle.random(seed=3)
    views = oracle.views()[:, 1:].reshape(-1, 3)
    target = oracle.sequences.repeat_interleave(7, dim=0)
    t = torch.linspace(0.01, 1, len(views), dtype=dtype)
    logits = oracle.log_probabilities(views).to(dtype)
    maskable = torch.ones_like(target, dtype=torch.bool)
    sequence, position = (views == oracle.mask_id).nonzero(as_tuple=True)
    nats = -logits[sequence, position].log_softmax(-1).gather(-1, target[sequence, position, None])[:, 0]
    weight = Cosine().loss_weight(t)
    terms = nelbo_terms(nats, weight[sequence], modality=torch.zeros_like(sequence), sequence=sequence)
    whole = nelbo(logits, target=target, z_t=views, t=t, schedule=Cosine())
    assert whole.dtype == terms.values.dtype == dtype
    torch.testing.assert_close(terms.per_sequence(len(views)) / 3, whole)
    torch.testing.assert_close(
        nelbo(logits, target=target, z_t=views, t=t, schedule=Cosine(), maskable=maskable), whole
    )
    num_targets = count_targets(maskable, torch.zeros_like(target), num_modalities=1)
    torch.testing.assert_close(terms.nats_per_token(num_targets)[0], whole.mean())


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_reductions_match_loops(num_masked: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    nats = torch.rand(num_masked, generator=draw, dtype=torch.float64)
    weight = torch.rand(num_masked, generator=draw, dtype=torch.float64) * 10
    modality = torch.randint(0, 3, (num_masked,), generator=draw)
    sequence = torch.randint(0, 5, (num_masked,), generator=draw)
    terms = nelbo_terms(nats, weight, modality=modality, sequence=sequence)
    by_sequence, by_modality = [0.0] * 5, [0.0] * 3
    for index in range(num_masked):
        value = float(nats[index] * weight[index])
        by_sequence[int(sequence[index])] += value
        by_modality[int(modality[index])] += value
    assert terms.per_sequence(5).tolist() == pytest.approx(by_sequence)
    assert terms.per_modality(3).tolist() == pytest.approx(by_modality)
    loss = training_loss(terms, num_sequences=5, token_weights=torch.tensor([1.0, 0.5, 2.0]))
    expected = (by_modality[0] + 0.5 * by_modality[1] + 2 * by_modality[2]) / 5
    assert float(loss) == pytest.approx(expected)


def test_training_loss_of_a_batch_without_a_modality_is_finite_and_has_gradients() -> None:
    nats = torch.tensor([1.0, 2.0], requires_grad=True)
    zeros = torch.zeros(2, dtype=torch.int64)
    terms = nelbo_terms(nats, torch.tensor([2.0, 4.0], dtype=torch.float64), modality=zeros, sequence=zeros)
    num_targets = torch.tensor([5, 0])
    loss = training_loss(terms, num_sequences=2, token_weights=torch.tensor([0.2, 0.2]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0)
    assert nats.grad is not None and nats.grad.tolist() == pytest.approx([0.2, 0.4])
    assert terms.nats_per_token(num_targets)[1].isnan()


def test_targets_are_counted_masked_or_not() -> None:
    maskable = torch.tensor([[True, True, False], [True, False, True]])
    modality = torch.tensor([[0, 1, 1], [1, -1, 1]])
    assert count_targets(maskable, modality, num_modalities=3).tolist() == [1, 3, 0]


def test_mask_ratio_weight() -> None:
    ratio = torch.tensor([0.25, 0.5], dtype=torch.float64)
    assert mask_ratio_weight(ratio).tolist() == [4.0, 2.0]
    assert mask_ratio_weight(ratio, density=torch.tensor([2.0, 0.5], dtype=torch.float64)).tolist() == [
        2.0,
        4.0,
    ]
