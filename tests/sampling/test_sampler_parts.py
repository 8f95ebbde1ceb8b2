"""Draws, filters, grids, guidance and length: each part by itself."""

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from design_space import GRIDS
from trimask.config import from_dict, to_dict
from trimask.sampling.categorical import draw
from trimask.sampling.config import SamplerConfig
from trimask.sampling.filters import Temperature, TopK, TopP, apply_filters
from trimask.sampling.generate import DEFAULTS
from trimask.sampling.grid import Cosine, Shifted, TimeGrid, Uniform
from trimask.sampling.guidance import LinearGuidance
from trimask.sampling.length import EmptySpanWarning, LengthPolicy, SpanTooShortWarning, warn_of_length
from trimask.sampling.order import Confidence, LeftToRightBlocks


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
    filtered = TopP(value=min(limit, 1.0))(p.log()[None])[0]
    got = set(filtered.isfinite().nonzero().flatten().tolist())
    assert got == kept or abs(sum(float(p[c]) for c in kept & got) - limit) < 1e-9


def test_filters_compose_in_order() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    assert torch.equal(apply_filters((), logits), logits)
    both = apply_filters((Temperature(value=0.5), TopK(value=2)), logits)
    assert both.tolist() == [[-math.inf, -math.inf, 4.0, 6.0]]
    assert Temperature(value=0.0)(logits).tolist() == [[-math.inf, -math.inf, -math.inf, 0.0]]
    assert TopK(value=1)(torch.zeros(1, 3)).isfinite().sum() == 1
    assert TopK(value=9)(logits).isfinite().all()


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
        (lambda: LeftToRightBlocks(block_length=0, inner=Confidence()), "block_length is 0"),
        (lambda: LengthPolicy(frames_per_character=0.0), "frames_per_character is 0.0"),
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


def test_linear_guidance_grows_from_none() -> None:
    revealed = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert LinearGuidance().scale(3.0, revealed).tolist() == [1.0, 2.0, 3.0]


def test_length_policy() -> None:
    policy = LengthPolicy(frames_per_character=2.0, margin=0.5, silence_frames=4, extra_characters=3)
    assert policy.estimate_speech_frames(10) == 36
    assert policy.estimate_transcript_length(20) == 15
    assert policy.at(25) == policy
    # Twice the frames for the same sentence, and the same sentence for twice the frames.
    assert policy.at(50.0).estimate_speech_frames(10) == 72
    assert policy.at(50.0).estimate_transcript_length(40) == 15


def test_length_warnings() -> None:
    with pytest.warns(SpanTooShortWarning, match="span of 7 tokens.*raise span_length"):
        warn_of_length(
            "text", span_length=7, is_complete=False, is_empty=False, remedy="raise span_length", stacklevel=1
        )
    with pytest.warns(EmptySpanWarning, match="speech is empty"):
        warn_of_length("speech", span_length=7, is_complete=True, is_empty=True, remedy="", stacklevel=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_length("text", span_length=7, is_complete=True, is_empty=False, remedy="", stacklevel=1)
