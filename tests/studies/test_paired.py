"""Differences of arms, paired by seed."""

import math

import pytest

from trimask.estimate import Estimate
from trimask.studies.paired import describe_intervals, paired_differences, verdict
from trimask.studies.trial import Result


def test_seed_effects_cancel() -> None:
    seeds = {0: 0.0, 1: 5.0, 2: -3.0}
    losses = {
        "base": {seed: 8 + effect for seed, effect in seeds.items()},
        "lower": {seed: 7.5 + effect + 0.01 * seed for seed, effect in seeds.items()},
    }
    found = paired_differences(losses, "base")
    assert set(found) == {"lower"}
    assert found["lower"].value == pytest.approx(-0.49)
    assert verdict(found["lower"]) is True
    assert verdict(paired_differences(losses, "lower")["base"]) is False


def test_one_seed_tells_nothing_and_a_diverged_arm_is_worse() -> None:
    one = paired_differences({"base": {0: 8.0}, "other": {0: 7.0}}, "base")["other"]
    assert one.value == -1 and verdict(one) is None
    losses = {"base": {0: 8.0, 1: 8.1}, "other": {0: math.inf, 1: 8.0}}
    assert verdict(paired_differences(losses, "base")["other"]) is False
    assert paired_differences(losses, "other") == {}
    assert paired_differences({"other": {0: 1.0}}, "base") == {}


def test_an_arm_without_seeds_of_the_reference_is_left_out() -> None:
    losses = {"base": {0: 8.0, 1: 8.1}, "other": {2: 7.0}, "half": {1: 8.0, 3: 1.0}}
    found = paired_differences(losses, "base")
    assert set(found) == {"half"} and found["half"].value == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-2.0, -1.0, True), (1.0, 2.0, False), (-1.0, 1.0, None), (-math.inf, math.inf, None)],
)
def test_verdicts(low: float, high: float, expected: bool | None) -> None:
    assert verdict(Estimate(value=0.0, low=low, high=high)) is expected


def test_a_report_says_that_one_seed_has_no_interval() -> None:
    results = [
        Result(factors={"arm": arm, "seed": seed}, fingerprint="", seconds=1.0, figures={})
        for seed in (0, 1)
        for arm in ("a", "b")
    ]
    assert "decide nothing" in describe_intervals(results[:2])
    assert describe_intervals(results) == "Intervals are of differences paired by seed."
