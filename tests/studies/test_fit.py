import math

import numpy as np
import pytest
from scipy import stats

from trimask.studies.fit import Optimum, fit_additive, fit_differences, fit_levels, fit_line
from trimask.studies.fit import fit_optimum as optimum_or_none


def fit_optimum(losses: dict[float, dict[int, float]], *, seed: int = 0) -> Optimum:
    found = optimum_or_none(losses, seed=seed)
    assert found is not None
    return found


def parabola(lowest: float, seeds: dict[int, float], points: list[float]) -> dict[float, dict[int, float]]:
    return {
        x: {seed: 3.0 + level + 0.2 * (math.log2(x) - lowest) ** 2 for seed, level in seeds.items()}
        for x in points
    }


@pytest.mark.parametrize("lowest", [-1.3, 0.0, 0.4])
def test_the_lowest_point_of_a_parabola_is_found_exactly(lowest: float):
    found = fit_optimum(parabola(lowest, {0: 0.0, 1: 0.1}, [0.125, 0.25, 0.5, 1.0, 2.0, 4.0]))
    assert found.place.value == pytest.approx(lowest, abs=1e-9)
    assert found.place.low == pytest.approx(lowest, abs=1e-6)  # without noise the interval is a point
    assert found.is_bracketed


def test_seeds_that_few_values_have_do_not_move_the_lowest_point():
    losses = parabola(0.3, {0: 0.0}, [0.25, 0.5, 1.0, 2.0, 4.0])
    for x in (0.5, 1.0, 2.0):
        losses[x] |= parabola(0.3, {1: -0.5, 2: 0.7}, [x])[x]
    assert fit_optimum(losses).place.value == pytest.approx(0.3, abs=1e-9)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        losses = parabola(0.2, {0: 0.0, 1: 0.3, 2: -0.1}, [0.5, 1.0, 2.0])
        noisy = {x: {s: y + 0.02 * random.normal() for s, y in row.items()} for x, row in losses.items()}
        found = fit_optimum(noisy, seed=trial).place
        hits += found.low <= 0.2 <= found.high
    assert 0.90 <= hits / 200 <= 0.99


def test_one_seed_says_nothing_about_the_noise():
    found = fit_optimum(parabola(0.3, {0: 0.0}, [0.5, 1.0, 2.0]))
    assert (found.place.low, found.place.high) == (-math.inf, math.inf)
    assert found.place.value == pytest.approx(0.3)


def test_the_best_at_the_edge_is_not_bracketed():
    found = fit_optimum(parabola(3.0, {0: 0.0}, [0.5, 1.0, 2.0]))
    assert found.place.value == 1.0 and not found.is_bracketed


def test_a_diverged_neighbour_closes_the_bracket():
    losses = parabola(0.0, {0: 0.0}, [0.25, 0.5, 1.0]) | {2.0: {0: math.inf}}
    found = fit_optimum(losses)
    assert found.is_bracketed
    assert (found.place.value, found.loss) == (0.0, pytest.approx(3.0))
    assert optimum_or_none({1.0: {0: math.inf}}) is None


def test_a_search_goes_by_all_seeds():
    losses = parabola(0.0, {0: 0.0, 1: 5.0}, [0.5, 1.0]) | {2.0: {0: 3.1}, 4.0: {0: 3.3, 1: math.inf}}
    found = fit_levels(losses)
    assert found[1.0] < found[2.0] < found[0.5] < found[4.0] == math.inf
    assert fit_levels({}) == {}


def test_additive_is_the_two_way_model():
    random = np.random.default_rng(1)
    table = random.normal(size=(4, 3))
    rows = [{j: float(table[i, j]) for j in range(3)} for i in range(4)]
    means, noise = fit_additive(rows)
    # In a full table the values' means are the rows' means, and the residuals those of two-way analysis.
    np.testing.assert_allclose(means, table.mean(1))
    residual = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    assert noise is not None and noise.freedom == 3 * 2
    np.testing.assert_allclose(np.diag(noise.covariance), (residual**2).sum() / (3 * 2) / 3)


def test_differences_of_two_rows_are_the_paired_t_test():
    random = np.random.default_rng(3)
    first, second = random.normal(size=5), random.normal(size=5) + 1
    rows = [dict(enumerate(first.tolist())), dict(enumerate(second.tolist()))]
    itself, found = fit_differences(rows, base=0)
    expected = stats.ttest_rel(second, first).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (itself.value, itself.low, itself.high) == pytest.approx((0.0, 0.0, 0.0))
    assert fit_differences([{0: 1.0}, {0: 3.0}], base=0)[1].high == math.inf


def test_a_line_is_that_of_the_textbook():
    random = np.random.default_rng(2)
    x, y = random.normal(size=8), random.normal(size=8)
    slope = fit_line(list(x), list(y))
    centred = x - x.mean()
    expected = float((centred * y).sum() / (centred**2).sum())
    residual = y - y.mean() - expected * centred
    error = math.sqrt(float((residual**2).sum()) / 6 / float((centred**2).sum()))
    quantile = float(stats.t.ppf(0.975, 6))
    assert slope.value == pytest.approx(expected)
    assert (slope.high - slope.value, slope.value - slope.low) == pytest.approx((quantile * error,) * 2)
    assert fit_line([0.0, 2.0], [1.0, 5.0]).value == 2.0
    with pytest.raises(ValueError, match="two different x"):
        fit_line([1.0, 1.0], [1.0, 2.0])
