"""Every choice of the design space is tested: none is missing in the lists, and each keeps its promises."""

import importlib
import math
import pkgutil
from abc import ABC
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, final

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import trimask
from design_space import (
    ALIGNMENTS,
    BATCH_RULES,
    DESIGN_SPACE,
    FILTERS,
    LR_SCHEDULES,
    PARAMETRIZATIONS,
    RAMPS,
    REDUCTIONS,
)
from trimask.config import from_dict, to_dict
from trimask.model.parametrization import Parametrization
from trimask.sampling.filters import Filter
from trimask.sampling.guidance import GuidanceRamp, IntervalGuidance
from trimask.training.logical_batch import BatchChange, BatchRule
from trimask.training.lr_schedule import LearningRateSchedule
from trimask.training.optimizers import AdamWConfig
from trimask.training.reduction import Reduction
from trimask.vocabulary.alignment import TextAlignment, Unaligned

ROOMS = ("diffusion", "model", "sampling", "tokenizers", "training", "vocabulary")
VALUES = [(interface, value) for interface, values in DESIGN_SPACE.items() for value in values]


def subclasses(cls: type) -> Iterator[type]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def choices(interface: type) -> set[type]:
    """The dataclasses of trimask that may stand where `interface` is asked for."""
    return {
        cls
        for cls in subclasses(interface)
        if is_dataclass(cls) and "__final__" in cls.__dict__ and cls.__module__.startswith("trimask.")
    }


def interfaces() -> set[type]:
    """The abstract classes of the mathematics of which there are dataclasses to choose from."""
    for room in ROOMS:
        for module in pkgutil.walk_packages([f"{trimask.__path__[0]}/{room}"], f"trimask.{room}."):
            importlib.import_module(module.name)
    of_ours = (
        cls for cls in subclasses(ABC) if cls.__module__.split(".")[:2] in [["trimask", r] for r in ROOMS]
    )
    return {cls for cls in of_ours if ABC in cls.__bases__ and choices(cls)}


def test_no_interface_is_missing() -> None:
    assert interfaces() == set(DESIGN_SPACE)


@pytest.mark.parametrize("interface", DESIGN_SPACE, ids=lambda interface: interface.__name__)
def test_no_choice_is_missing(interface: type) -> None:
    assert {type(value) for value in DESIGN_SPACE[interface]} == choices(interface)


@pytest.mark.parametrize(("interface", "value"), VALUES, ids=repr)
def test_each_is_stored_and_read_by_its_name(interface: type, value: Any) -> None:
    @dataclass(frozen=True)
    class Holder:
        choice: Any

    Holder.__annotations__["choice"] = interface
    stored = to_dict(Holder(choice=value))
    assert stored["choice"]["type"] == type(value).__name__
    assert from_dict(Holder, stored).choice == value
    assert {field.name for field in fields(value)} <= stored["choice"].keys()
    assert isinstance(hash(value), int)


@pytest.mark.parametrize("alignment", ALIGNMENTS, ids=repr)
@given(num_tokens=st.integers(1, 60), num_frames=st.integers(1, 200))
def test_words_stand_in_reading_order(alignment: TextAlignment, num_tokens: int, num_frames: int) -> None:
    frames = alignment.frames(num_tokens, num_frames)
    if isinstance(alignment, Unaligned):
        assert frames is None
        return
    assert frames is not None and frames.shape == (num_tokens,)
    assert (np.diff(frames) > 0).all()


@pytest.mark.parametrize("ramp", RAMPS, ids=repr)
@given(scale=st.floats(0, 20), revealed=st.floats(0, 1))
def test_guidance_lies_between_none_and_its_full_scale(
    ramp: GuidanceRamp, scale: float, revealed: float
) -> None:
    low, high = min(1.0, scale), max(1.0, scale)
    assert low - 1e-9 <= ramp.scale(scale, revealed) <= high + 1e-9
    assert ramp.scale(1.0, revealed) == 1  # exactly no guidance


@pytest.mark.parametrize("ramp", [each for each in RAMPS if not isinstance(each, IntervalGuidance)], ids=repr)
@given(scale=st.floats(0, 20), revealed=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_guidance_without_an_interval_grows_to_its_full_scale(
    ramp: GuidanceRamp, scale: float, revealed: tuple[float, float]
) -> None:
    before, after = (abs(ramp.scale(scale, share) - 1) for share in sorted(revealed))
    assert after >= before - 1e-9
    assert ramp.scale(scale, 1.0) == pytest.approx(scale)


@pytest.mark.parametrize("chosen", FILTERS, ids=repr)
@given(
    logits=st.lists(st.floats(-20, 20), min_size=2, max_size=8, unique=True),
    masked=st.floats(0, 1),
)
def test_filters_keep_the_likeliest_and_the_order(chosen: Filter, logits: list[float], masked: float) -> None:
    before = torch.tensor([logits], dtype=torch.float64)
    after = chosen(before, torch.tensor([masked], dtype=torch.float64))
    assert after.shape == before.shape and not after.isnan().any()
    assert after[0, before[0].argmax()] == after[0].max() > -math.inf
    ranked = after[0, before[0].argsort()]
    assert (ranked[1:] >= ranked[:-1]).all()


CHANGE = BatchChange(base_batch=16, base_horizon=16_000, logical_batch=16, batch=64, horizon=160_000)
STATED = AdamWConfig(learning_rate=3e-3)


@pytest.mark.parametrize("rule", BATCH_RULES, ids=repr)
def test_a_rule_changes_nothing_where_nothing_changes(rule: BatchRule) -> None:
    same = BatchChange(base_batch=16, base_horizon=16_000, logical_batch=16, batch=16, horizon=16_000)
    assert rule.scale(STATED, same) == STATED
    moved = rule.scale(STATED, CHANGE)
    assert 0 < moved.learning_rate < math.inf and 0 < moved.beta1 < 1 and 0 < moved.beta2 < 1
    assert all(sentence.strip() for sentence in rule.cautions(CHANGE))


@pytest.mark.parametrize("schedule", LR_SCHEDULES, ids=repr)
@given(progress=st.lists(st.floats(-1, 2), min_size=1, max_size=8))
def test_the_learning_rate_never_exceeds_what_was_stated(
    schedule: LearningRateSchedule, progress: list[float]
) -> None:
    for each in progress:
        assert 0 <= schedule.factor(each) <= 1
        assert schedule.factor(each) == schedule.factor(min(max(each, 0.0), 1.0))


@pytest.mark.parametrize("rule", BATCH_RULES, ids=repr)
def test_a_rule_explains_the_values_that_it_gives(rule: BatchRule) -> None:
    moved = rule.scale(STATED, CHANGE)
    explained = {each.name: each for each in rule.explain(STATED, CHANGE)}
    for name in ("learning_rate", "beta1", "beta2", "eps", "weight_decay"):
        value, stated = getattr(moved, name), getattr(STATED, name)
        assert explained[name].value == value
        assert explained[name].rule.startswith(f"{stated:g} ")
        assert ("unchanged" in explained[name].rule) == (value == stated)
    assert all(each.rule and each.source for each in explained.values())
    assert moved.clip_norm == STATED.clip_norm  # not among the words: docs/method.md says that it stays


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS, ids=repr)
def test_a_parametrization_explains_what_it_goes_by(parametrization: Parametrization) -> None:
    explained = {each.name: each.value for each in parametrization.explain(width=128, depth=6, head_dim=64)}
    assert explained.get("residual multiplier", 1.0) == parametrization.residual_multiplier(6)
    assert parametrization.source


@pytest.mark.parametrize("schedule", LR_SCHEDULES, ids=repr)
def test_phases_are_parts_of_the_horizon(schedule: LearningRateSchedule) -> None:
    phases = schedule.phases()
    assert all(0 <= fraction <= 1 for fraction in phases.values()) and sum(phases.values()) <= 1
    assert schedule.factor(phases["warm-up"]) == 1


@pytest.mark.parametrize("schedule", LR_SCHEDULES, ids=repr)
def test_the_stated_learning_rate_is_reached(schedule: LearningRateSchedule) -> None:
    assert max(schedule.factor(n / 100) for n in range(101)) == pytest.approx(1)


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=repr)
@given(targets=st.tuples(*[st.floats(0.1, 1e4)] * 3), scale=st.floats(0.1, 10))
def test_a_loss_of_longer_sequences_weighs_as_much(
    reduction: Reduction, targets: tuple[float, float, float], scale: float
) -> None:
    """Where every token costs one nat, the loss is 1, however many there are."""
    text, image, speech = (count * scale for count in targets)
    divisors = reduction.divisors((text, image, speech))
    assert sum(n / d for n, d in zip((text, image, speech), divisors, strict=True)) == pytest.approx(1)
    without = reduction.divisors((text, 0.0, speech))
    assert text / without[0] + speech / without[2] == pytest.approx(1)


def test_a_class_that_is_in_no_list_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    @final
    @dataclass(frozen=True)
    class Forgotten(TextAlignment):
        def frames(self, num_tokens: int, num_frames: int) -> np.ndarray:
            return np.zeros(num_tokens)

    monkeypatch.setattr(Forgotten, "__module__", "trimask.vocabulary.alignment")
    assert Forgotten in choices(TextAlignment) - {type(value) for value in ALIGNMENTS}
