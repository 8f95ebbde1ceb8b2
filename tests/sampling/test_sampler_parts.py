"""Draws, filters, grids, guidance and length: each part by itself."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from design_space import GRIDS
from trimask.config import from_dict, to_dict
from trimask.diffusion.reverse import remask_limit, remask_probabilities
from trimask.diffusion.schedule import Linear
from trimask.sampling import (
    DEFAULTS,
    Ancestral,
    CalibratedConfidence,
    Confidence,
    Cosine,
    EntropyBound,
    FactorRule,
    FrechetBound,
    Halton,
    IntervalGuidance,
    LinearGuidance,
    MinP,
    PathPlanning,
    ReMDMCap,
    ReMDMLoop,
    ReMDMRescale,
    SamplerConfig,
    Shifted,
    StableAndSure,
    Tabulated,
    Temperature,
    Threshold,
    TimeGrid,
    TokenEditing,
    TopK,
    TopP,
    Uniform,
)
from trimask.sampling.canvas import Canvas
from trimask.sampling.categorical import draw
from trimask.sampling.filters import apply_filters
from trimask.sampling.order import Step
from trimask.vocabulary.layout import CodeSpace

ALL = torch.ones(4)  # everything is masked


def stratified(count: int) -> torch.Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def test_draw_has_exact_frequencies() -> None:
    p = torch.tensor([0.5, 0.0, 0.3, 0.2, 0.0], dtype=torch.float64)
    drawn = draw(p.log().expand(1000, -1), stratified(1000))
    assert drawn.bincount(minlength=5).tolist() == [500, 0, 300, 200, 0]


def test_draw_keeps_rare_codes() -> None:
    rare = 1e-7
    logits = torch.tensor([0.0, math.log(rare), 0.0], dtype=torch.float64)
    count = 200_000
    uniforms = 0.5 + (stratified(count) - 0.5) * 1e-5  # zoom on the rare code, in the middle of the line
    drawn = draw(logits.expand(count, -1), uniforms)
    assert drawn.bincount(minlength=3)[1].item() == pytest.approx(rare / 2 / 1e-5 * count, rel=1e-3)


def test_draw_at_the_ends() -> None:
    logits = torch.tensor([[-math.inf, 0.0, 0.0, -math.inf]]).repeat(2, 1)
    assert draw(logits, torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)).tolist() == [1, 2]


@given(st.lists(st.floats(-8, 3), min_size=2, max_size=9), st.floats(0.01, 0.99))
def test_top_p_against_a_slow_twin(logits: list[float], limit: float) -> None:
    p = torch.softmax(torch.tensor(logits, dtype=torch.float64), 0)
    kept, mass = set(), 0.0
    for code in p.argsort(descending=True, stable=True).tolist():
        if mass >= limit - 1e-12:
            break
        kept.add(code)
        mass += float(p[code])
    filtered = TopP(value=min(limit, 1.0))(p.log()[None], ALL[:1])[0]
    got = set(filtered.isfinite().nonzero().flatten().tolist())
    assert got == kept or abs(sum(float(p[c]) for c in kept & got) - limit) < 1e-9


@given(st.integers(0, 2**31), st.sampled_from([0.3, 0.9, 0.999]))
def test_top_p_of_many_codes_against_a_sort(seed: int, limit: float) -> None:
    """More codes than are partitioned, with ties: the same as by a full stable sort."""
    logits = torch.from_numpy(np.random.default_rng(seed).integers(-6, 6, size=(4, 200))).float()
    p = torch.softmax(logits.double(), 1)
    ordered, code = p.sort(dim=1, descending=True, stable=True)
    dropped = torch.zeros_like(p, dtype=torch.bool).scatter(1, code, ordered.cumsum(1) - ordered >= limit)
    assert torch.equal(TopP(value=limit)(logits, ALL).isinf(), dropped)


def test_filters_compose_in_order() -> None:
    logits, all_masked = torch.tensor([[0.0, 1.0, 2.0, 3.0]]), ALL[:1]
    assert torch.equal(apply_filters((), logits, all_masked), logits)
    both = apply_filters((Temperature(value=0.5), TopK(value=2)), logits, all_masked)
    assert both.tolist() == [[-math.inf, -math.inf, 4.0, 6.0]]
    assert Temperature(value=0.0)(logits, all_masked).tolist() == [[-math.inf, -math.inf, -math.inf, 0.0]]
    assert TopK(value=1)(torch.zeros(1, 3), all_masked).isfinite().sum() == 1
    assert TopK(value=9)(logits, all_masked).isfinite().all()
    kept = MinP(value=math.exp(-1.5))(logits, all_masked)
    assert kept.tolist() == [[-math.inf, -math.inf, 2.0, 3.0]]
    assert torch.equal(MinP(value=0.0)(logits, all_masked), logits)


def test_a_temperature_with_a_schedule() -> None:
    logits = torch.tensor([[0.0, 1.0]]).expand(3, -1)
    masked = torch.tensor([1.0, 0.5, 0.0])
    cooled = Temperature(value=2.0, last=0.0)(logits, masked)
    assert cooled[:2].tolist() == [[0.0, 0.5], [0.0, 1.0]] and cooled[2].tolist() == [-math.inf, 0.0]
    assert torch.equal(Temperature(value=0.5, last=0.5)(logits, masked), logits / 0.5)


@pytest.mark.parametrize("num_steps", [1, 2, 7, 1000])
@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_grid_falls_from_one_to_zero(grid: TimeGrid, num_steps: int) -> None:
    times = grid.times(num_steps)
    assert len(times) == num_steps + 1 and times[0] == 1 and times[-1] == 0
    assert (times.diff() < 0).all()


def test_grids_that_linger_at_the_start() -> None:
    half = [grid.times(2)[1].item() for grid in (Uniform(), Cosine(), Shifted(shift=3.0))]
    assert half == pytest.approx([0.5, math.sqrt(0.5), 0.75])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Temperature(value=-1.0), "temperature is -1.0"),
        (lambda: TopP(value=0.0), "top_p is 0.0"),
        (lambda: TopK(value=0), "top_k is 0"),
        (lambda: Shifted(shift=0.0), "shift is 0.0"),
        (lambda: Uniform().times(0), "num_steps is 0"),
        (lambda: SamplerConfig(num_steps=0), "num_steps is 0"),
        (lambda: SamplerConfig(num_steps=1, guidance_scale=-0.5), "guidance_scale is -0.5"),
        (lambda: SamplerConfig(num_steps=1, guidance_scale=math.nan), "guidance_scale is nan"),
        (lambda: Confidence(noise_temperature=-1.0), "noise_temperature is -1.0"),
        (lambda: CalibratedConfidence(noise_temperature=math.inf), "noise_temperature is inf"),
        (lambda: SamplerConfig(num_steps=1, block_length=0), "block_length is 0"),
        (lambda: Temperature(value=1.0, last=-1.0), "temperature is -1.0"),
        (lambda: MinP(value=1.5), "min_p is 1.5"),
        (
            lambda: Threshold(probability=0.0),
            "Threshold.probability is 0.0: give a number above 0, at most 1",
        ),
        (lambda: EntropyBound(nats=math.nan), "EntropyBound.nats is nan"),
        (lambda: FactorRule(factor=-1.0), "FactorRule.factor is -1.0"),
        (lambda: FrechetBound(risk=0.0), "FrechetBound.risk is 0.0"),
        (lambda: StableAndSure(nats=0.0), "StableAndSure.nats is 0.0"),
        (lambda: ReMDMCap(cap=1.5), "ReMDMCap.cap is 1.5"),
        (lambda: ReMDMLoop(start=0.1, stop=0.5), "ReMDMLoop has start 0.1, stop 0.5"),
        (lambda: PathPlanning(strength=-1.0), "PathPlanning.strength is -1.0"),
        (lambda: TokenEditing(probability=2.0), "TokenEditing.probability is 2.0"),
        (lambda: IntervalGuidance(start=0.5, stop=0.5), "IntervalGuidance goes from 0.5 to 0.5"),
        (lambda: Tabulated(times_of_steps=()), r"Tabulated has times for \[\] steps"),
        (lambda: Tabulated(times_of_steps=((1.0, 0.5, 0.5, 0.0),)), "must fall strictly from 1 to 0"),
    ],
)
def test_bad_values_are_named(make: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("task", DEFAULTS)
def test_config_round_trip(task: str) -> None:
    config = DEFAULTS[task]
    assert from_dict(SamplerConfig, to_dict(config)) == config


def test_adjusted_replaces_what_is_given() -> None:
    config = SamplerConfig(num_steps=4, filters=(TopK(value=3), Temperature(value=1.0)))
    assert config.adjust() == config
    adjusted = config.adjust(num_steps=5, temperature=0.5, top_p=0.9, guidance_scale=2.0)
    assert adjusted.filters == (Temperature(value=0.5), TopK(value=3), TopP(value=0.9))
    assert (adjusted.num_steps, adjusted.guidance_scale) == (5, 2.0)


def test_guidance_ramps() -> None:
    revealed = (0.0, 0.5, 1.0)
    assert [LinearGuidance().scale(3.0, share) for share in revealed] == [1.0, 2.0, 3.0]
    interval = IntervalGuidance(start=0.2, stop=0.8, ramp=LinearGuidance())
    assert [interval.scale(3.0, share) for share in (0.1, 0.5, 0.8)] == [1.0, 2.0, 1.0]


def test_a_tabulated_grid_interpolates() -> None:
    grid = Tabulated(times_of_steps=((1.0, 0.3, 0.0), (1.0, 0.8, 0.6, 0.2, 0.0)))
    assert grid.times(2).tolist() == [1.0, 0.3, 0.0] and grid.times(4)[1] == 0.8
    assert grid.times(3).tolist() == pytest.approx([1.0, 0.8 - 0.2 / 3, 0.6 - 0.8 / 3, 0.0])
    assert grid.times(8)[1::2].tolist() == pytest.approx([0.9, 0.7, 0.4, 0.1])


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0, 1))
def test_reverse_probabilities_are_those_of_the_process(first: float, second: float, cap: float) -> None:
    """What counts and correctors compute equals `diffusion.reverse`."""
    t, s = max(first, second), min(first, second)
    times = torch.tensor([t, s, cap], dtype=torch.float64)
    limit = remask_limit(Linear(), s=times[1], t=times[0])
    assert ReMDMRescale(scale=1.0).sigma(t, s) == pytest.approx(float(limit))
    sigma = ReMDMCap(cap=cap).sigma(t, s)
    reveal, remask = remask_probabilities(Linear(), s=times[1], t=times[0], sigma=times[2])
    assert sigma == pytest.approx(float(remask))
    number = 4000
    canvas = line(number)
    count = Ancestral().number(canvas, number, 0, Step(number=0, t=t, s=s, sigma=sigma))
    assert abs(count / number - float(reveal)) < 0.04


def line(num_slots: int) -> Canvas:
    slot = np.arange(num_slots)
    space = CodeSpace(name="made", num_codebooks=1, codebook_size=2, has_end=False)
    return canvas_of(space, slot)


def canvas_of(space: CodeSpace, slot: np.ndarray) -> Canvas:
    nowhere = np.zeros(len(slot), dtype=bool)
    return Canvas(space=space, slot=slot, frame=slot, codebook=0 * slot, is_inside=nowhere, seed=0, key=0)


@pytest.mark.parametrize("grid", [(1, 9), (4, 4), (5, 7), (32, 32)])
def test_halton_visits_every_cell_and_spreads(grid: tuple[int, int]) -> None:
    cells = np.arange(grid[0] * grid[1])
    space = CodeSpace(name="made", num_codebooks=1, codebook_size=2, has_end=False, grid=grid)
    canvas = canvas_of(space, cells)
    ranks = Halton().rank(canvas, 0)
    assert sorted(ranks) == list(range(len(cells)))
    if grid == (32, 32):  # the first quarter has about as many cells in each quadrant
        row, column = np.divmod(cells[ranks < 256], 32)
        quadrant = 2 * (row >= 16) + (column >= 16)
        assert np.bincount(quadrant, minlength=4).tolist() == pytest.approx([64] * 4, abs=3)
