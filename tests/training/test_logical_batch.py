"""The κ rule against its formulas, its identities, its guard, and a run's values that follow."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimask.config import from_dict, override, to_dict
from trimask.recipes.quickstart import debug
from trimask.training.compute import ComputeConfig
from trimask.training.logical_batch import (
    BatchChange,
    BatchRule,
    KappaRule,
    LinearRule,
    NoRule,
    SquareRootRule,
    Tuned,
    critical_batch,
    rescale,
)
from trimask.training.optimizers import AdamWConfig

STATED = AdamWConfig(learning_rate=3e-3, beta1=0.9, beta2=0.98, eps=1e-8, weight_decay=0.1, clip_norm=0.7)
kappas = st.floats(1 / 64, 64)


def change(batch: int, *, base: int = 16, logical: int = 16, times: float = 1.0) -> BatchChange:
    """A base of 16 sequences and 1,000 steps; `times` its horizon."""
    return BatchChange(
        base_batch=base,
        base_horizon=16_000,
        logical_batch=logical,
        batch=batch,
        horizon=round(16_000 * times),
    )


@pytest.mark.parametrize("gamma", [0.0, 0.44, 1.0])
@pytest.mark.parametrize("times", [0.5, 1, 9])
@pytest.mark.parametrize("batch", [4, 16, 100])
def test_values_follow_the_method(batch: int, times: float, gamma: float) -> None:
    kappa = math.exp(gamma * (math.log(16_000) - math.log(16_000 * times)) + math.log(batch) - math.log(16))
    rule = KappaRule(gamma=gamma)
    found = rule.scale(STATED, change(batch, times=times))
    assert rule.kappa(change(batch, times=times)) == pytest.approx(kappa)
    assert found.learning_rate == pytest.approx(3e-3 * kappa**0.5)
    assert found.beta1 == pytest.approx(math.exp(kappa * math.log(0.9)))
    assert found.beta2 == pytest.approx(math.exp(kappa * math.log(0.98)))
    assert found.eps == pytest.approx(1e-8 * kappa**-0.5)
    assert found.weight_decay == pytest.approx(0.1 * kappa**0.5)
    assert found.clip_norm == 0.7


def test_a_rule_of_ones_own_is_named_or_explains_itself() -> None:
    class Halved(BatchRule):
        def scale(self, optimizer: AdamWConfig, change: BatchChange) -> AdamWConfig:
            return replace(optimizer, learning_rate=optimizer.learning_rate / 2)

        def cautions(self, change: BatchChange) -> tuple[str, ...]:
            return ()

    class Explained(Halved):
        def formula(self, name: str) -> tuple[str, str]:
            return ("/ 2" if name == "learning_rate" else "as it is"), "measured here"

    rate, *_ = Halved().explain(STATED, change(32))
    assert (rate.name, rate.value, rate.rule) == ("learning_rate", 1.5e-3, "0.003 by Halved")
    rate, beta1, *_ = Explained().explain(STATED, change(32))
    assert (rate.rule, rate.source) == ("0.003 / 2", "measured here") and beta1.rule == "0.9 as it is"


def test_with_gamma_one_it_is_complete_d_p() -> None:
    """κ = m_B / m_D."""
    assert KappaRule(gamma=1.0).kappa(change(64, times=8)) == pytest.approx(4 / 8)


def test_a_kappa_of_one_changes_no_bit() -> None:
    assert rescale(STATED, 1.0) == STATED
    assert KappaRule().scale(STATED, change(16)) == STATED


@given(first=kappas, second=kappas)
def test_twice_is_once_with_the_product(first: float, second: float) -> None:
    one, two = rescale(rescale(STATED, first), second), rescale(STATED, first * second)
    for name in ("learning_rate", "eps", "weight_decay", "beta1", "beta2"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), rel=1e-9)


@given(kappa=kappas)
def test_betas_stay_betas_and_have_the_right_slope(kappa: float) -> None:
    found = rescale(STATED, kappa)
    assert 0 < found.beta1 < 1 and 0 < found.beta2 < 1
    small = rescale(replace(STATED, beta1=1 - 1e-6), kappa)
    assert 1 - small.beta1 == pytest.approx(kappa * 1e-6, rel=1e-4)
    # As much decay per token as before: lr · λ per update, κ times as many tokens in one.
    assert found.learning_rate * found.weight_decay == pytest.approx(kappa * 3e-3 * 0.1)


def test_the_logical_batch_drops_out() -> None:
    """From the base to (B̃, D), then from B̃ to B, is from the base to (B, D), whatever B̃."""
    rule = KappaRule()
    for logical in (8, 40):
        stated = rule.scale(STATED, change(logical, logical=logical, times=5))
        onward = BatchChange(
            base_batch=logical, base_horizon=80_000, logical_batch=logical, batch=100, horizon=80_000
        )
        direct = rule.scale(STATED, change(100, logical=logical, times=5))
        two = rule.scale(stated, onward)
        assert two.learning_rate == pytest.approx(direct.learning_rate)
        assert two.beta2 == pytest.approx(direct.beta2)


def test_the_rules_to_compare_with() -> None:
    four_times = change(64, times=10)
    assert SquareRootRule().scale(STATED, four_times) == replace(STATED, learning_rate=6e-3)
    assert LinearRule().scale(STATED, four_times) == replace(STATED, learning_rate=1.2e-2)
    assert NoRule().scale(STATED, four_times) == STATED
    for rule in (SquareRootRule(), LinearRule(), NoRule()):
        assert rule.cautions(four_times) == ()
        assert from_dict(type(debug()), to_dict(replace(debug(), batch_rule=rule))).batch_rule == rule


def test_the_guard_speaks_in_numbers() -> None:
    rule = KappaRule(critical_steps=400, lowest_kappa=0.25, highest_kappa=4.0)
    assert critical_batch(16_000, 400) == 40
    assert rule.cautions(change(40)) == ()
    (past,) = rule.cautions(change(64))
    assert "64 sequences is past the critical one of 40: it leaves 250 updates" in past
    both = rule.cautions(change(80))
    assert len(both) == 2 and "κ = 5 is outside of 0.25 to 4" in both[1]
    (small,) = rule.cautions(change(2))
    assert "κ = 0.125" in small
    # A short run with its own batch has nothing to break.
    assert rule.cautions(change(16, times=0.01)) == (
        "κ = 7.59 is outside of 0.25 to 4, where the rule is "
        "trusted: tune closer to this batch and horizon, or check a short run",
    )


def test_a_run_derives_its_updates_and_values() -> None:
    run = replace(debug(), logical_batch=8, num_steps=20)
    assert (run.horizon, run.update_batch, run.num_updates) == (160, 8, 20)
    assert run.scaled_optimizer == run.optimizer
    physical = replace(run, physical_batch=32)
    assert (physical.horizon, physical.update_batch, physical.num_updates) == (160, 32, 5)
    assert physical.scaled_optimizer == rescale(run.optimizer, 4.0)
    assert replace(run, physical_batch=48).num_updates == 4  # 3⅓, rounded up
    carried = override(
        run,
        {
            "tuned.logical_batch": "4",
            "tuned.num_steps": "10",
            "batch_rule.gamma": "0.5",
            "physical_batch": "16",
            "compute.micro_batch": "4",
        },
    )
    assert carried.compute.micro_batch == 4
    assert carried.scaled_optimizer == rescale(run.optimizer, (40 / 160) ** 0.5 * 16 / 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tuned(logical_batch=8), "logical_batch 8, num_steps None: give both"),
        (lambda: Tuned(logical_batch=8, num_steps=0), "num_steps 0"),
        (lambda: KappaRule(gamma=-1.0), r"gamma -1\.0"),
        (lambda: KappaRule(critical_steps=0), "critical_steps 0"),
        (lambda: KappaRule(highest_kappa=0.5), r"highest_kappa 0\.5"),
        (lambda: replace(debug(), physical_batch=0), "physical_batch 0"),
        (lambda: ComputeConfig(micro_batch=-1), "micro_batch -1"),
    ],
)
def test_errors_name_the_value(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
