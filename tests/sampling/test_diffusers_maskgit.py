"""One step of ours against one step of diffusers' `AmusedScheduler` (MaskGIT): Confidence, on a cosine or a
linear grid. As in `test_diffusers.py`.
"""

import itertools
from typing import Any, ClassVar, final

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jaxtyping import Float64
from scipy.stats import chi2_contingency

from sampling.given_logits import (
    CODES,
    MASK,
    Given,
    first_states,
    is_clear_cut,
    noise_of,
    our_states,
    random_logits,
    row,
)
from trimask.sampling import (
    Confidence,
    Cosine,
    PlannedCount,
    SamplerConfig,
    Temperature,
    Uniform,
)
from trimask.sampling.canvas import Canvas
from trimask.sampling.order import Step, gumbel

SEEDS = st.integers(0, 10_000)
GREEDY = (Temperature(value=0.0),)


def amused(num_steps: int, schedule: Any, temperature: tuple[float, float] = (0.0, 0.0)) -> Any:
    from diffusers.schedulers.scheduling_amused import AmusedScheduler

    scheduler: Any = AmusedScheduler(mask_token_id=MASK, masking_schedule=schedule)
    scheduler.set_timesteps(num_steps, temperature)
    return scheduler


def left_by_amused(num_slots: int, num_masked: int, s: float) -> int:
    """Theirs rounds down where ours rounds to the nearest; it reveals at least one slot as long as there are
    two, and keeps one for the last step.
    """
    return max(1, min(num_masked - 1, int(num_slots * s))) if s else 0


@final
class AsAmused(PlannedCount):
    """The count of AmusedScheduler."""

    has_steps: ClassVar[bool] = True

    def times(
        self, canvas: Canvas, grid: Float64[np.ndarray, "times"] | None
    ) -> Float64[np.ndarray, "times"]:
        assert grid is not None
        return grid

    def number(self, canvas: Canvas, num_masked: int, num_remasked: int, step: Step) -> int:
        return num_masked - left_by_amused(canvas.num_slots, num_masked, step.s)


@given(st.integers(2, 12), st.data(), SEEDS, st.sampled_from([0.0, 0.5, 4.5]), st.booleans())
def test_amused(length: int, data: st.DataObject, seed: int, temperature: float, is_cosine: bool) -> None:
    """The same slots and codes, with their count. Our noise fades with the masked fraction s, theirs with the
    number of the step: on a linear grid it is the same from temperature · (1 − 1/steps) on, on a cosine one
    not, and each step is given its own.
    """
    num_steps = data.draw(st.integers(1, length))
    grid = Cosine() if is_cosine else Uniform()
    times = grid.times(num_steps).numpy()
    # They multiply in float32, which is off where n · s is whole.
    assume(all(abs(length * s - round(length * s)) > 1e-4 for s in times[1:-1]))
    predictor = Given(random_logits(seed, num_steps, length))
    config = SamplerConfig(
        num_steps=num_steps, grid=grid, count=AsAmused(), order=Confidence(noise_temperature=temperature)
    )
    states = our_states(predictor, config, seed)
    assert len(states) == num_steps + 1
    canvas, every = predictor.canvas(seed), np.arange(length)
    fading = amused(num_steps, "linear", (temperature * (1 - 1 / num_steps), 0.0))
    for number, (before, after) in enumerate(itertools.pairwise(states)):
        noise = temperature * float(times[number + 1])
        theirs = amused(num_steps, "cosine", (noise, noise)) if is_cosine else fading
        with noise_of(canvas, number, every):
            logits = predictor.log_p[number][None]
            step = theirs.step(logits, int(theirs.timesteps[number]), row(before))
        drawn = step.pred_original_sample[0].numpy()
        score = predictor.log_p[number].numpy()[every, drawn]
        score = score + noise * gumbel(canvas, Step(number=number, t=1.0, s=1.0))
        revealed = int(((before == MASK) & (after != MASK)).sum())
        if is_clear_cut(score[before == MASK], revealed):
            assert np.array_equal(step.prev_sample[0].numpy(), after)
        assert int((step.prev_sample == MASK).sum()) == int((after == MASK).sum())


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_amused_by_frequency(temperature: float) -> None:
    """With random numbers of its own, the first of three steps has the same law: which slots, and codes."""
    length, number = 4, 2000
    predictor = Given(random_logits(5, 1, length, sharpness=1.0))
    scheduler = amused(3, "linear", (temperature * 2 / 3, 0.0))
    masked = torch.full((number, length), MASK)
    generator = torch.Generator().manual_seed(0)
    logits = predictor.log_p.expand(number, -1, -1)
    theirs = scheduler.step(logits, 2, masked, generator=generator).prev_sample.numpy()
    config = SamplerConfig(num_steps=3, count=AsAmused(), order=Confidence(noise_temperature=temperature))
    ours = first_states(predictor, config, number)
    place = (CODES + 1) ** np.arange(length)
    counts = np.stack([np.bincount(x @ place, minlength=(CODES + 1) ** length) for x in (theirs, ours)])
    common = counts.sum(0) >= 20  # the others are taken as one outcome
    table = np.column_stack([counts[:, common], counts[:, ~common].sum(1)])
    assert table[:, -1].min() < 0.2 * number
    found: Any = chi2_contingency(table)
    assert found.pvalue > 1e-4


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(1, 20), st.booleans(), SEEDS)
def test_amused_leaves_other_numbers_masked(length: int, num_steps: int, is_cosine: bool, seed: int) -> None:
    """Theirs: n · s rounded down, within bounds. Ours: rounded to the nearest; steps that reveal nothing are
    left out, where theirs takes a pass.
    """
    grid = Cosine() if is_cosine else Uniform()
    times = grid.times(num_steps).numpy()[1:]
    assume(all(abs(length * s - round(length * s)) > 1e-4 for s in times[:-1]))
    scheduler = amused(num_steps, "cosine" if is_cosine else "linear")
    logits, z, left = random_logits(seed, 1, length), torch.full((1, length), MASK), length
    for number, s in enumerate(times):
        left = left_by_amused(length, left, float(s))
        z = scheduler.step(logits, num_steps - 1 - number, z, generator=torch.Generator()).prev_sample
        assert int((z == MASK).sum()) == left
    config = SamplerConfig(num_steps=num_steps, grid=grid, order=Confidence())
    ours = [int((state == MASK).sum()) for state in our_states(Given(logits), config, seed)]
    assert ours == sorted({length, *(int(np.rint(length * s)) for s in times)}, reverse=True)


def test_amused_reveals_ties_together() -> None:
    """It masks what is below the cut, so slots of the same confidence are all revealed: of equal predictions
    everything at once. Ours reveals the number that the schedule says, and draws which.
    """
    logits = torch.zeros(1, 8, CODES)
    z = amused(4, "cosine").step(logits, 3, torch.full((1, 8), MASK)).prev_sample
    assert not (z == MASK).any()
    config = SamplerConfig(num_steps=4, grid=Cosine(), order=Confidence())
    firsts = [our_states(Given(logits), config, seed)[1] for seed in range(40)]
    assert {int((state == MASK).sum()) for state in firsts} == {7}
    assert len({int((state != MASK).argmax()) for state in firsts}) > 4


def test_ours_draws_between_scores_that_rounding_errors_could_swap() -> None:
    """Of two slots that differ by less than a thousandth nat, theirs always reveals the better one."""
    logits = torch.full((1, 2, CODES), -60.0)
    logits[0, :, 0], logits[0, 0, 1], logits[0, 1, 1] = 0.0, -3.0, -3.0001
    z = amused(2, "linear").step(logits, 1, torch.full((1, 2), MASK), generator=torch.Generator())
    assert z.prev_sample[0, 0] == MASK and z.pred_original_sample.tolist() == [[0, 0]]
    config = SamplerConfig(num_steps=2, order=Confidence(), filters=GREEDY)
    firsts = {tuple(our_states(Given(logits), config, seed)[1].tolist()) for seed in range(40)}
    assert firsts == {(0, MASK), (MASK, 0)}
