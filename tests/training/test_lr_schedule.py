import math

import pytest

from trimask.training.lr_schedule import WarmupCosine, WarmupStableDecay, warmup_fraction


def test_warms_up_then_decays_to_the_final_fraction() -> None:
    schedule = WarmupCosine(warmup_fraction=0.2, final_fraction=0.1)
    expected = {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 0.6: 0.55, 1.0: 0.1}
    for progress, factor in expected.items():
        assert schedule.factor(progress) == pytest.approx(factor, abs=1e-12)
    factors = [schedule.factor(i / 100) for i in range(101)]
    assert factors[:21] == sorted(factors[:21])
    assert factors[20:] == sorted(factors[20:], reverse=True)


def test_stays_constant_then_decays_to_the_final_fraction() -> None:
    schedule = WarmupStableDecay(warmup_fraction=0.1, decay_fraction=0.4, final_fraction=0.2)
    expected = {0.0: 0.0, 0.05: 0.5, 0.1: 1.0, 0.6: 1.0, 0.7: 0.6, 1.0: 0.2, 3.0: 0.2}
    for progress, factor in expected.items():
        assert schedule.factor(progress) == pytest.approx(factor, abs=1e-7), progress
    constant = WarmupStableDecay(warmup_fraction=0.0, decay_fraction=0.0)
    assert [constant.factor(p) for p in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


def test_a_longer_horizon_changes_nothing_while_it_is_constant() -> None:
    """Update 500 of 1,000, and of 2,000."""
    schedule = WarmupStableDecay(warmup_fraction=0.01, decay_fraction=0.2)
    assert schedule.factor(500 / 1000) == schedule.factor(500 / 2000) == 1.0


def test_stages_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0.5 and decay_fraction 0.6 add up to more than 1"):
        WarmupStableDecay(warmup_fraction=0.5, decay_fraction=0.6)
    with pytest.raises(ValueError, match="decay_fraction must be in"):
        WarmupStableDecay(warmup_fraction=0.5, decay_fraction=math.nan)


def test_progress_outside_the_run_is_clamped() -> None:
    schedule = WarmupCosine(warmup_fraction=0.0, final_fraction=0.25)
    assert schedule.factor(-1.0) == schedule.factor(0.0) == 1.0
    assert schedule.factor(7.0) == pytest.approx(0.25)


def test_default_warmup_is_a_thousand_steps_at_most_a_quarter() -> None:
    assert warmup_fraction(100_000) == 0.01
    assert warmup_fraction(1_000) == 0.25
    assert warmup_fraction(1e9, warmup=1e7) == 0.01  # in tokens


@pytest.mark.parametrize(
    "values", [{"warmup_fraction": 1.0}, {"warmup_fraction": 0.1, "final_fraction": math.nan}]
)
def test_values_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="fraction must be in"):
        WarmupCosine(**values)
