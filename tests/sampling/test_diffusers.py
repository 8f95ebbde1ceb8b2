"""One step of ours against one step of the schedulers of diffusers, from the same tokens and logits.

Each test runs our sampler on random logits, and from every state that it passes asks the other scheduler for
its step. Where the other draws, its random numbers are ours: `noise_of` puts them in the place of
`torch.multinomial` and of its Gumbel noise. What they mean to do differently is asserted as it is.

- `AmusedScheduler` (MaskGIT): Confidence, on a cosine or a linear grid; in `test_diffusers_maskgit.py`.
- `BlockRefinementScheduler` with a mask token (LLaDA 2): Threshold, or Scheduled, in blocks; TokenEditing.
- `VQDiffusionScheduler` without its uniform noise: Ancestral.
- `EntropyBoundScheduler` and `DiscreteDDIMScheduler` replace tokens by random ones and have no mask, which we
  do not do; the slots that the first accepts are those of EntropyBound, and the last step of the second is
  ours.
"""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sampling.given_logits import (
    CODES,
    MASK,
    QUANTUM,
    Given,
    first_states,
    is_clear_cut,
    noise_of,
    our_states,
    random_logits,
    row,
)
from trimask.sampling import (
    Ancestral,
    Confidence,
    EntropyBound,
    LargestProbability,
    LowestEntropy,
    Order,
    SamplerConfig,
    Shifted,
    Temperature,
    Threshold,
    TokenEditing,
    TopK,
    TopP,
)
from trimask.sampling.filters import apply_filters

SEEDS = st.integers(0, 10_000)
GREEDY = (Temperature(value=0.0),)
ORDERS = st.sampled_from([LargestProbability(), Confidence()])


def block_refinement(num_steps: int, block_length: int) -> Any:
    from diffusers.schedulers.scheduling_block_refinement import BlockRefinementScheduler

    scheduler: Any = BlockRefinementScheduler()
    scheduler.set_timesteps(num_steps, block_length=block_length)
    return scheduler


def block_of(state: np.ndarray, block_length: int) -> slice:
    """The slots of the first block that is not full."""
    start = int((state == MASK).argmax()) // block_length * block_length
    return slice(start, start + block_length)


@settings(max_examples=30)
@given(st.integers(1, 14), st.integers(1, 6), SEEDS, st.sampled_from([0.3, 0.6, 0.9]), ORDERS)
def test_block_refinement_by_threshold(
    length: int, block_length: int, seed: int, threshold: float, order: Order
) -> None:
    """With one slot a step, it reveals those above the threshold (ours: at or above), or else the best.
    Theirs compares the drawn code's probability, ours the largest: the same where codes are greedy.
    """
    predictor = Given(random_logits(seed, length, length))
    best = predictor.log_p.exp().amax(-1)
    assume(float((best - threshold).abs().min()) > 1e-5)
    config = SamplerConfig(
        order=order, count=Threshold(probability=threshold), block_length=block_length, filters=GREEDY
    )
    for number, (before, after) in enumerate(itertools.pairwise(our_states(predictor, config, seed))):
        here = block_of(before, block_length)
        assume(is_clear_cut(best[number, here].log().numpy()[before[here] == MASK], 1))
        step = block_refinement(block_length, block_length).step(
            predictor.log_p[number, here][None], 0, row(before[here]), mask_token_id=MASK, threshold=threshold
        )
        expected = before.copy()
        expected[here] = step.prev_sample[0].numpy()
        assert np.array_equal(after, expected)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), SEEDS, st.booleans())
def test_block_refinement_by_number(
    num_blocks: int, steps_per_block: int, per_step: int, seed: int, is_drawn: bool
) -> None:
    """Blocks whose slots the steps divide evenly: the most confident of the drawn codes, or of the best."""
    block_length = steps_per_block * per_step
    num_steps = num_blocks * steps_per_block
    predictor = Given(random_logits(seed, num_steps, num_blocks * block_length))
    config = SamplerConfig(
        num_steps=num_steps,
        order=Confidence(),
        block_length=block_length,
        filters=() if is_drawn else GREEDY,
    )
    states, canvas = our_states(predictor, config, seed), predictor.canvas(seed)
    assert len(states) == num_steps + 1
    scheduler = block_refinement(steps_per_block, block_length)
    for number, (before, after) in enumerate(itertools.pairwise(states)):
        here = block_of(before, block_length)
        with noise_of(canvas, number, np.arange(len(before))[here]):
            step = scheduler.step(
                predictor.log_p[number, here][None],
                number % steps_per_block,
                row(before[here]),
                mask_token_id=MASK,
                temperature=float(is_drawn),
                threshold=2.0,
            )
        is_masked = before[here] == MASK
        assume(is_clear_cut(step.sampled_probs[0].log().numpy()[is_masked], per_step))
        expected = before.copy()
        expected[here] = step.prev_sample[0].numpy()
        assert np.array_equal(after, expected)


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(1, 30), SEEDS)
def test_block_refinement_deals_out_the_rest_first(length: int, num_steps: int, seed: int) -> None:
    """Where the steps do not divide the slots, its first steps reveal one more each; ours spreads them."""
    logits, z = random_logits(seed, 1, length), torch.full((1, length), MASK)
    scheduler, theirs = block_refinement(num_steps, length), [length]
    for number in range(num_steps):
        z = scheduler.step(logits, number, z, mask_token_id=MASK, threshold=2.0).prev_sample
        theirs.append(int((z == MASK).sum()))
    each, rest = divmod(length, num_steps)
    assert theirs == [length - each * n - min(n, rest) for n in range(num_steps + 1)]
    config = SamplerConfig(num_steps=num_steps, order=Confidence(), filters=GREEDY)
    ours = [int((state == MASK).sum()) for state in our_states(Given(logits), config, seed)]
    nearest = [int(np.rint(length * (1 - n / num_steps))) for n in range(num_steps + 1)]
    assert ours == sorted(set(nearest), reverse=True)
    assert rest or nearest == theirs


@settings(max_examples=25)
@given(SEEDS, st.sampled_from([0.5, 0.8, 1.5]), st.integers(1, CODES), st.sampled_from([0.4, 0.8, 1.0]))
def test_block_refinement_draws_by_our_filters(seed: int, temperature: float, k: int, p: float) -> None:
    """Temperature, then top-k, then top-p give the same probabilities. It ranks slots by these; ours by what
    the network said before filters.
    """
    logits = random_logits(seed, 1, 6)
    predictor = Given(logits)
    filters = (Temperature(value=temperature), TopK(value=k), TopP(value=p))
    expected = apply_filters(filters, predictor.log_p[0], torch.ones(6).double()).softmax(-1)
    cumulative = expected.sort(descending=True).values.cumsum(-1)
    assume(float((cumulative[:, :-1] - p).abs().min()) > 1e-5)
    config = SamplerConfig(num_steps=2, order=Confidence(), filters=filters)
    (before, after), *_ = itertools.pairwise(our_states(predictor, config, seed))
    with noise_of(predictor.canvas(seed), 0, np.arange(6)):
        step = block_refinement(2, 6).step(
            logits.double(),
            0,
            row(before),
            mask_token_id=MASK,
            temperature=temperature,
            top_k=k,
            top_p=p,
            threshold=2.0,
        )
    drawn = step.sampled_tokens[0]
    assert torch.allclose(step.sampled_probs[0].double(), expected.gather(1, drawn[:, None])[:, 0], atol=1e-5)
    said = predictor.log_p[0].gather(1, drawn[:, None])[:, 0].numpy()
    assume(is_clear_cut(said, 3))
    chosen = np.argsort(-said)[:3]
    assert set(chosen) == set((after != MASK).nonzero()[0])
    assert np.array_equal(after[chosen], drawn.numpy()[chosen])
    ranked = step.sampled_probs[0]
    assert float(ranked[step.transfer_index[0]].min()) >= float(ranked[~step.transfer_index[0]].max())


@given(st.integers(2, 10), SEEDS, st.sampled_from([0.4, 0.7, 0.9]))
def test_block_refinement_edits(length: int, seed: int, probability: float) -> None:
    """A revealed code gives way to the most probable one above the threshold. It may go on when nothing is
    masked any more; ours ends there.
    """
    predictor = Given(random_logits(seed, length, length))
    best = predictor.log_p.exp().amax(-1)
    assume(float((best - probability).abs().min()) > 1e-5)
    config = SamplerConfig(
        num_steps=length,
        order=Confidence(),
        corrector=TokenEditing(probability=probability),
        filters=GREEDY,
    )
    scheduler = block_refinement(length, length)
    for number, (before, after) in enumerate(itertools.pairwise(our_states(predictor, config, seed))):
        assume(is_clear_cut(best[number].log().numpy()[before == MASK], 1))
        step = scheduler.step(
            predictor.log_p[number][None],
            number,
            row(before),
            mask_token_id=MASK,
            threshold=2.0,
            editing_threshold=probability,
        )
        assert np.array_equal(step.prev_sample[0].numpy(), after)


@settings(max_examples=30)
@given(st.integers(1, 12), SEEDS, st.sampled_from([0.05, 0.5, 2.0]), st.sampled_from([0.4, 1.0]))
def test_entropy_bound(length: int, seed: int, nats: float, temperature: float) -> None:
    """Of the masked slots it accepts those that ours reveals, with the same codes; the others it replaces by
    random tokens, as it has no mask. Its entropies are those at its temperature, ours those of the network.
    """
    from diffusers.schedulers.scheduling_entropy_bound import EntropyBoundScheduler

    logits = random_logits(seed, length, length, sharpness=3.0)
    predictor = Given(logits / temperature)
    config = SamplerConfig(order=LowestEntropy(), count=EntropyBound(nats=nats))
    scheduler: Any = EntropyBoundScheduler(entropy_bound=nats, t_max=temperature, t_min=temperature)
    canvas = predictor.canvas(seed)
    for number, (before, after) in enumerate(itertools.pairwise(our_states(predictor, config, seed))):
        masked = (before == MASK).nonzero()[0]
        entropies = torch.special.entr(predictor.log_p[number, masked].exp()).sum(-1).numpy()
        ordered = np.sort(entropies)
        assume(float(np.abs(ordered.cumsum() - ordered - nats).min()) > 1e-4)
        assume(len(ordered) < 2 or float(np.diff(ordered).min()) > QUANTUM)
        with noise_of(canvas, number, masked):
            step = scheduler.step(logits[number, masked][None].double(), 0, row(before[masked]))
        accepted = step.accepted_index[0].numpy()
        assert np.array_equal(masked[accepted], ((before == MASK) & (after != MASK)).nonzero()[0])
        assert np.array_equal(step.prev_sample[0].numpy()[accepted], after[masked[accepted]])


@given(st.integers(1, 10), SEEDS, st.sampled_from([0.0, 0.7, 1.0]))
def test_last_step_of_discrete_ddim(length: int, seed: int, temperature: float) -> None:
    """In the last step every position gets its predicted code."""
    from diffusers.schedulers.scheduling_discrete_ddim import DiscreteDDIMScheduler

    predictor = Given(random_logits(seed, 1, length))
    config = SamplerConfig(num_steps=1, filters=(Temperature(value=temperature),))
    before, after = our_states(predictor, config, seed)
    scheduler: Any = DiscreteDDIMScheduler(num_inference_steps=3)
    with noise_of(predictor.canvas(seed), 0, np.arange(length)):
        step = scheduler.step(predictor.log_p, 2, row(before), temperature=temperature)
    assert np.array_equal(step.prev_sample[0].numpy(), after)


def vq_diffusion(num_steps: int, first: float) -> Any:
    """Times go linearly from `first` to 1. Of uniform noise, whose logarithm it takes, there is little."""
    from diffusers.schedulers.scheduling_vq_diffusion import VQDiffusionScheduler

    tiny = 1e-6
    return VQDiffusionScheduler(
        num_vec_classes=CODES + 1,
        num_train_timesteps=num_steps,
        gamma_cum_start=first,
        gamma_cum_end=1 - 2 * tiny,
        alpha_cum_start=1 - first - tiny,
        alpha_cum_end=tiny,
    )


def test_vq_diffusion() -> None:
    """Without uniform noise its posterior is the law of Ancestral: a masked slot is revealed with
    (t − s) / t. Revealed ones stay if the network is certain of them, ours in any case.
    """
    predictor = Given(random_logits(0, 1, 1))
    certain = torch.full((CODES,), -70.0).index_fill(0, torch.tensor(3), 0.0)
    log_p = torch.stack([predictor.log_p[0, 0], certain])[None].mT.float()
    scheduler, z = vq_diffusion(4, 0.25), torch.tensor([[MASK, 3]])
    for number, (t, s) in enumerate(itertools.pairwise((1.0, 0.75, 0.5, 0.25))):
        step = scheduler.q_posterior(log_p, z, 3 - number)[0].double().exp()
        assert torch.allclose(step[:CODES, 0], predictor.log_p[0, 0].exp() * (t - s) / t, atol=1e-4)
        assert float(step[MASK, 0]) == pytest.approx(s / t, abs=1e-4)
        assert float(step[3, 1]) == pytest.approx(1, abs=1e-4)


@pytest.mark.usefixtures("unchecked_shapes")
def test_vq_diffusion_by_frequency() -> None:
    """Our first pass of two steps, from 1 to 0.8 and to 0, has the law of its first step; or of its second
    one where the first reveals nothing: for that ours takes no pass.
    """
    predictor, number = Given(random_logits(0, 1, 2, sharpness=1.0)), 3000
    log_p = predictor.log_p.mT.float()
    first = vq_diffusion(2, 0.8).q_posterior(log_p, torch.full((1, 2), MASK), 1)[0].double().exp().numpy()
    law = np.outer(first[:, 0], first[:, 1])
    last = predictor.log_p[0].exp().numpy()
    law[:MASK, :MASK] += law[MASK, MASK] * np.outer(last[0], last[1])
    law[MASK, MASK] = 0.0
    assert law.sum() == pytest.approx(1, abs=1e-4)
    config = SamplerConfig(num_steps=2, grid=Shifted(shift=4.0), count=Ancestral())
    firsts = first_states(predictor, config, number)
    observed = np.bincount(firsts @ [CODES + 1, 1], minlength=law.size)
    expected = law.flatten() / law.sum() * number
    assert not observed[expected == 0].any()
    assert chisquare(observed[expected > 0], expected[expected > 0]).pvalue > 1e-4
