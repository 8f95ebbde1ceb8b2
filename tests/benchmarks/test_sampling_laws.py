"""The twins sample their authors' laws: on the oracle, frequencies against an enumeration of the chain."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from benchmarks.sampling.fast_dllm import Cache, FastDLLM, above_threshold
from benchmarks.sampling.first_hitting import FirstHitting
from benchmarks.sampling.llada import LLaDA, draw_everywhere
from benchmarks.sampling.llada import most_confident as most_confident_slots
from benchmarks.sampling.maskgit import MaskGIT
from benchmarks.sampling.mdlm import MDLM
from benchmarks.sampling.network import Canvas
from oracle import Oracle

NUM_SAMPLES = 40_000
ORACLE = Oracle.random(sharpness=1.0)
Confidence = dict[int, float]
"""Probability of the token drawn at each masked slot."""
Choice = Iterator[tuple[tuple[int, ...], float]]
"""The sets of slots that a step may reveal, with their probabilities."""


class OracleNetwork:
    """The oracle's conditionals over its vocabulary and the mask, for many rows."""

    def __init__(self, oracle: Oracle, rows: int = NUM_SAMPLES):
        self.oracle, self.num_passes = oracle, 0
        mask_id = torch.full((rows, oracle.length), oracle.mask_id)
        self.canvas = Canvas(tokens=mask_id, is_target=torch.ones_like(mask_id).bool(), mask_id=mask_id)

    def logits(self, z: Tensor) -> Tensor:
        self.num_passes += 1
        log_p = self.oracle.log_probabilities(z)
        return torch.cat([log_p, torch.full_like(log_p[..., :1], -math.inf)], dim=-1)

    def logits_between(self, z: Tensor, start: int, stop: int) -> Tensor:
        """As with keys and values that are renewed in each pass."""
        return self.logits(z)[:, start:stop]


def exact_law(
    choose: Callable[[int, Confidence], Choice], temperature: Callable[[int], float] = lambda step: 1.0
) -> Tensor:
    """p(sequence) of a chain whose steps draw at all masked slots and then `choose` which draws stay."""
    states = {(ORACLE.mask_id,) * ORACLE.length: 1.0}
    step = 0
    while any(ORACLE.mask_id in state for state in states):
        after: dict[tuple[int, ...], float] = defaultdict(float)
        for state, weight in states.items():
            masked = [slot for slot, token in enumerate(state) if token == ORACLE.mask_id]
            p = ORACLE.probabilities(torch.tensor([state]))[0]
            q = sharpened(p, temperature(step))
            for draw in itertools.product(range(ORACLE.vocabulary_size), repeat=len(masked)):
                drawn = dict(zip(masked, draw, strict=True))
                chance = math.prod(float(q[slot, token]) for slot, token in drawn.items())
                confidence = {slot: float(p[slot, token]) for slot, token in drawn.items()}
                for revealed, share in choose(step, confidence) if masked else [((), 1.0)]:
                    new = tuple(drawn[s] if s in revealed else token for s, token in enumerate(state))
                    if chance * share > 0:
                        after[new] += weight * chance * share
        states, step = after, step + 1
    return torch.tensor([states.get(tuple(x), 0.0) for x in ORACLE.sequences.tolist()], dtype=torch.float64)


def sharpened(p: Tensor, temperature: float) -> Tensor:
    if temperature == 0:
        return torch.nn.functional.one_hot(p.argmax(-1), p.shape[-1]).double()
    q = p ** (1 / temperature)
    return q / q.sum(-1, keepdim=True)


def fits(samples: Tensor, law: Tensor) -> bool:
    """A χ² test that `samples` have the `law`, which fails once in 100,000 times where they do."""
    assert float(law.sum()) == pytest.approx(1)
    place = ORACLE.vocabulary_size ** torch.arange(ORACLE.length).flip(0)
    observed, expected = (samples @ place).bincount(minlength=len(law)).double(), law * len(samples)
    rare = expected < 5  # taken as one outcome
    observed, expected = (torch.cat([x[~rare], x[rare].sum()[None]]) for x in (observed, expected))
    if expected[-1] == 0:
        assert observed[-1] == 0
        observed, expected = observed[:-1], expected[:-1]
    expected *= len(samples) / float(expected.sum())  # what rounding took
    return float(chisquare(observed.numpy(), expected.numpy()).pvalue) > 1e-5


def most_confident(confidence: Confidence, count: int) -> tuple[int, ...]:
    return tuple(sorted(confidence, key=lambda slot: -confidence[slot])[:count])


def samples_of(sampler: Callable[[OracleNetwork, torch.Generator], Tensor], seed: int = 0) -> Tensor:
    return sampler(OracleNetwork(ORACLE), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_mdlm(num_steps: int) -> None:
    """Each masked slot is revealed with (t - s) / t; what is left at the end gets its most probable token."""
    latest = 1e-5
    length = (1 - latest) / num_steps

    def choose(step: int, confidence: Confidence) -> Choice:
        share = length / (1 - step * length) if step < num_steps else 1.0
        for size in range(len(confidence) + 1):
            for revealed in itertools.combinations(confidence, size):
                yield revealed, share**size * (1 - share) ** (len(confidence) - size)

    law = exact_law(choose, temperature=lambda step: float(step < num_steps))
    found = samples_of(MDLM(num_steps=num_steps))
    assert fits(found, law)
    if num_steps < 5:
        assert not fits(found, ORACLE.probability)  # few steps are another law


def test_mdlm_spares_passes_while_nothing_changes() -> None:
    network = OracleNetwork(ORACLE, rows=1)
    MDLM(num_steps=1000)(network, torch.Generator().manual_seed(0))
    assert network.num_passes <= ORACLE.length + 2  # one to begin with, one at the end


def test_first_hitting_has_the_law_of_the_data() -> None:
    assert fits(samples_of(FirstHitting()), ORACLE.probability)
    network = OracleNetwork(ORACLE)
    FirstHitting()(network, torch.Generator().manual_seed(1))
    assert network.num_passes == ORACLE.length


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(
    ("block_length", "num_steps", "counts"), [(32, None, (1, 1, 1)), (32, 2, (2, 1)), (2, None, (1, 1, 1))]
)
def test_llada(block_length: int, num_steps: int | None, counts: tuple[int, ...], temperature: float) -> None:
    def choose(step: int, confidence: Confidence) -> Choice:
        block = min(confidence) // block_length
        here = {slot: p for slot, p in confidence.items() if slot // block_length == block}
        yield most_confident(here, counts[step]), 1.0

    law = exact_law(choose, temperature=lambda step: temperature)
    sampler = LLaDA(num_steps=num_steps, block_length=block_length, temperature=temperature)
    found = samples_of(sampler)
    assert fits(found, law)
    assert not fits(found, ORACLE.probability)  # it is not the law of the data


def test_llada_without_temperature_takes_the_most_probable_tokens() -> None:
    law = exact_law(lambda step, c: iter([(most_confident(c, 1), 1.0)]), temperature=lambda step: 0.0)
    (expected,) = law.nonzero().squeeze(1).tolist()
    found = samples_of(LLaDA())
    assert (found == ORACLE.sequences[expected]).all()


@pytest.mark.parametrize("cache", Cache)
@pytest.mark.parametrize(("threshold", "block_length"), [(0.5, 32), (0.5, 2), (0.9, 32)])
def test_fast_dllm(cache: Cache, threshold: float, block_length: int) -> None:
    def choose(step: int, confidence: Confidence) -> Choice:
        block = min(confidence) // block_length
        here = {slot: p for slot, p in confidence.items() if slot // block_length == block}
        sure = {slot for slot, p in here.items() if p >= threshold}
        yield tuple(sure | set(most_confident(here, 1))), 1.0

    sampler = FastDLLM(cache=cache, threshold=threshold, block_length=block_length, temperature=1.0)
    # Rows of one batch wait for each other at the end of a block, which changes nothing in their law.
    assert fits(samples_of(sampler), exact_law(choose))


@pytest.mark.parametrize("threshold", [1.0, 0.5])
@pytest.mark.parametrize("count", [1, 3])
def test_a_step_of_both_against_that_of_diffusers(threshold: float, count: int) -> None:
    """LLaDA reveals `count` tokens; Fast-dLLM all above the threshold, and at least one."""
    from diffusers.schedulers.scheduling_block_refinement import BlockRefinementScheduler

    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 9, 11, generator=generator)
    masked = torch.rand(50, 9, generator=generator) < 0.7
    z: Any = torch.where(masked, 11, 0)
    scheduler = BlockRefinementScheduler()
    scheduler.set_timesteps(9 // count, block_length=9)
    (expected, *_) = scheduler.step(logits, 0, z, mask_token_id=11, threshold=threshold, return_dict=False)
    drawn, confidence = draw_everywhere(logits, 0.0, generator)
    revealed = most_confident_slots(confidence, masked, torch.full((50,), count))
    if threshold < 1:
        above = above_threshold(confidence, masked, threshold)
        revealed = torch.where(above.sum(1, keepdim=True) >= count, above, revealed)
    assert torch.equal(torch.where(revealed, drawn, z), expected)


@pytest.mark.parametrize("temperature", [(0.0, 0.0), (2.0, 0.0), (5.0, 1.0)])
@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_maskgit(num_steps: int, temperature: tuple[float, float]) -> None:
    found = samples_of(MaskGIT(num_steps=num_steps, temperature=temperature))
    assert fits(found, maskgit_law(num_steps, temperature))
    assert not fits(found, ORACLE.probability)
    if num_steps > 1 and temperature != (0.0, 0.0):
        assert not fits(found, maskgit_law(num_steps, (0.0, 0.0)))


def maskgit_law(num_steps: int, temperature: tuple[float, float]) -> Tensor:
    """The largest log p + τ · Gumbel stay: drawn one after the other in proportion to p^(1/τ)."""

    def choose(step: int, confidence: Confidence) -> Choice:
        done = (step + 1) / num_steps
        stay = max(min(len(confidence) - 1, int(ORACLE.length * math.cos(math.pi / 2 * done))), 1)
        count = len(confidence) if step + 1 == num_steps else len(confidence) - stay
        tau = temperature[0] + (temperature[1] - temperature[0]) * step / max(num_steps - 1, 1)
        if tau == 0:
            yield most_confident(confidence, count), 1.0
            return
        weight = {slot: p ** (1 / tau) for slot, p in confidence.items()}
        for order in itertools.permutations(confidence, count):
            left, share = sum(weight.values()), 1.0
            for slot in order:
                share *= weight[slot] / left
                left -= weight[slot]
            yield order, share

    return exact_law(choose)
