"""The order of runs against the variances that every choice would leave; slopes against their formulas."""

from itertools import combinations

import numpy as np
import pytest

from trimask.laws.design import Goal, find_slopes, order_runs
from trimask.laws.scaling import Chinchilla

N, D = (axis.ravel() for axis in np.meshgrid([1.0, 3.0, 9.0], [1.0, 4.0]))
PARAMETERS = np.array([0.5, 0.3, 0.2, 0.4, 0.3])
TARGET = {"n": np.array([30.0]), "d": np.array([20.0])}


def slopes_of(inputs: dict[str, np.ndarray]) -> np.ndarray:
    return find_slopes(Chinchilla(), inputs, PARAMETERS)


def goal(noise: float, done: tuple[int, ...] = ()) -> Goal:
    rows = slopes_of({"n": N, "d": D}) / noise
    told = rows[list(done)]
    return Goal(precision=np.eye(5) + told.T @ told, rows=rows, target=slopes_of(TARGET)[0])


def variance(goals: list[Goal], chosen: tuple[int, ...]) -> float:
    """Of the predictions, averaged, by inverting all that is known."""
    left = []
    for each in goals:
        rows = each.rows[list(chosen)]
        left.append(each.target @ np.linalg.inv(each.precision + rows.T @ rows) @ each.target)
    return float(np.mean(left))


def test_slopes_are_the_derivatives_of_the_logarithm():
    e, a, b, alpha, beta = PARAMETERS
    by_size, by_data = a * N**-alpha, b * D**-beta
    loss = e + by_size + by_data
    expected = [e + 0 * N, by_size, by_data, -alpha * np.log(N) * by_size, -beta * np.log(D) * by_data]
    np.testing.assert_allclose(slopes_of({"n": N, "d": D}), (np.array(expected) / loss).T, atol=1e-9)


@pytest.mark.parametrize("done", [(), (0, 4)])
def test_each_run_is_the_one_that_lowers_the_variance_most_for_its_cost(done: tuple[int, ...]):
    goals, costs = [goal(0.01, done), goal(0.03, done)], N * D
    order = order_runs(goals, costs)
    assert sorted(order) == list(range(len(N)))
    for number, chosen in enumerate(order):
        before = tuple(order[:number])
        gains = {
            each: (variance(goals, before) - variance(goals, (*before, each))) / costs[each]
            for each in range(len(N))
            if each not in before
        }
        assert gains[chosen] == pytest.approx(max(gains.values()), rel=1e-6)


def test_what_is_chosen_is_near_the_best_of_all_subsets():
    goals = [goal(0.01)]
    order = order_runs(goals, np.ones(len(N)))
    left = [variance(goals, each) for each in combinations(range(len(N)), 3)]
    chosen = variance(goals, tuple(order[:3]))
    assert chosen < 1.3 * min(left) and chosen < 0.5 * float(np.median(left))
