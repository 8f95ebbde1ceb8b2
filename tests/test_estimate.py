"""Intervals: how often they hold the true value, and what they are where little or nothing is known."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from trimask.estimate import (
    Bounds,
    Estimate,
    change_bounds,
    change_of_rate,
    from_standard_error,
    mean,
    mean_bounds,
    proportion,
    proportion_bounds,
    rate,
    rate_bounds,
    ratio,
    ratio_bounds,
)

SIZES = (4, 8, 20, 50)
REPEATS = 4000
COVERAGE = 0.93
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def _coverage(bounds: Bounds, truth: float) -> float:
    low, high = bounds
    return float(((low <= truth) & (truth <= high)).mean())


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        pytest.param(lambda g, s: g.normal(3, 2, s), 3.0, id="normal"),
        pytest.param(lambda g, s: g.gamma(2, 1, s), 2.0, id="skewed"),
        pytest.param(lambda g, s: -g.lognormal(0, 0.5, s), -math.exp(0.125), id="skewed to the left"),
        pytest.param(lambda g, s: g.beta(2, 5, s), 2 / 7, id="between 0 and 1"),
    ],
)
def test_means_are_covered(draw: Draw, truth: float, n: int) -> None:
    values = draw(np.random.default_rng(n), (REPEATS, n))
    assert _coverage(mean_bounds(values), truth) >= COVERAGE


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.95])
def test_shares_are_covered(share: float, n: int) -> None:
    drawn = np.random.default_rng(n).random((REPEATS, n)) < share
    assert _coverage(proportion_bounds(drawn.astype(float)), share) >= COVERAGE
    # Captions are whole, half right or wrong.
    worth = drawn * np.where(np.random.default_rng(0).random(drawn.shape) < 0.8, 1.0, 0.5)
    assert _coverage(mean_bounds(worth, is_share=True), 0.9 * share) >= COVERAGE


def _clips(
    generator: np.random.Generator, n: int, rate: float, evenness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Errors and words of clips, some of which are harder than others."""
    words = generator.integers(6, 20, (REPEATS, n))
    own = generator.beta(rate * evenness, (1 - rate) * evenness, (REPEATS, n))
    return generator.binomial(words, own).astype(float), words.astype(float)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("evenness", [10, 100])
@pytest.mark.parametrize("truth", [0.02, 0.1, 0.3, 0.6, 0.9])
def test_error_rates_are_covered(truth: float, evenness: float, n: int) -> None:
    errors, words = _clips(np.random.default_rng(n), n, truth, evenness)
    assert _coverage(rate_bounds(errors, words), truth) >= COVERAGE


@pytest.mark.parametrize("n", SIZES)
def test_ratios_are_covered(n: int) -> None:
    """Bits per token: lengths differ, and long passages are easier."""
    generator = np.random.default_rng(n)
    tokens = generator.integers(10, 120, (REPEATS, n)).astype(float)
    bits = tokens * (6 + 0.5 * generator.normal(size=tokens.shape)) + 4 * generator.gamma(2, 1, tokens.shape)
    assert _coverage(ratio_bounds(bits, tokens), (6 * 64.5 + 8) / 64.5) >= COVERAGE


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("before", "more"), [(0.05, 0.0), (0.1, 0.03), (0.3, 0.1)])
def test_paired_changes_are_covered(before: float, more: float, n: int) -> None:
    generator = np.random.default_rng(n)
    first, words = _clips(generator, n, before, 10)
    second = first + generator.binomial(words.astype(int), more) - generator.binomial(first.astype(int), 0.1)
    truth = more - 0.1 * before
    assert _coverage(change_bounds(second - first, words), truth) >= COVERAGE
    # Between two means, example by example: judged quality before and after.
    harder = generator.normal(3, 1, (REPEATS, n))
    change = (harder + generator.normal(0.2, 0.3, harder.shape)) - harder
    assert _coverage(mean_bounds(change), 0.2) >= COVERAGE


def test_one_example_has_no_interval() -> None:
    one = np.ones(1)
    for found in (mean([3.0]), proportion([True]), ratio(one, one), rate(one, one), change_of_rate(one, one)):
        assert not found.has_interval and found.n == 1
        assert set(found.as_json()) == {"value", "n"}
    assert not from_standard_error(1.0, 0.1, 1, freedom=0).has_interval
    assert not mean([3.0]).apply_increasing(math.exp).has_interval


def test_students_interval_where_nothing_is_skewed() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    expected = stats.t.interval(0.95, 4, loc=3.0, scale=values.std(ddof=1) / math.sqrt(5))
    found = mean(values)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-6)
    assert from_standard_error(3.0, values.std(ddof=1) / math.sqrt(5), 5, freedom=4).high == pytest.approx(
        expected[1]
    )
    assert mean(values + 1e6).high - 1e6 == pytest.approx(expected[1], rel=1e-6)


def test_skewness_moves_the_interval_towards_the_tail() -> None:
    found = mean([1.0, 1.0, 1.1, 1.2, 5.0])
    assert found.high - found.value > found.value - found.low
    mirrored = mean([-1.0, -1.0, -1.1, -1.2, -5.0])
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


@pytest.mark.parametrize("hits", [0, 1, 17, 40])
def test_exact_interval_of_shares(hits: int) -> None:
    found = proportion([True] * hits + [False] * (40 - hits))
    expected = stats.binomtest(hits, 40).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_equal_examples_do_not_make_a_rate_certain() -> None:
    words = np.array([10.0, 12.0, 9.0, 11.0])
    assert rate(np.zeros(4), words).low == 0 and 0.05 < rate(np.zeros(4), words).high < 0.25
    assert rate(words, words).high == 1 and 0.75 < rate(words, words).low < 0.95
    unchanged = change_of_rate(np.zeros(4), words)
    assert unchanged.low < 0 < unchanged.high and unchanged.high == -unchanged.low
    whole = mean([1.0] * 4, is_share=True)
    assert whole.high == 1 and 0.05 < whole.low < 0.5
    assert mean([2.5] * 4) == Estimate(value=2.5, low=2.5, high=2.5, n=4)


def test_rates_may_pass_1_and_shares_may_not() -> None:
    counts, sizes = np.array([14.0, 9.0, 15.0, 12.0]), np.full(4, 10.0)
    assert rate(counts, sizes).high > 1.25 > rate(counts, sizes).low
    known = np.array([10.0, 9.0, 10.0, 10.0])
    assert rate(known, sizes, most=1.0).high == 1


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean([])
    with pytest.raises(ValueError, match="at least one"):
        proportion([])
