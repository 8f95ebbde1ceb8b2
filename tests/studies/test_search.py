import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimask.studies.search import bracket_optimum, select_around_best


def run(loss: Callable[[float], float], factor: float) -> dict[float, float]:
    """Runs what is asked for until nothing more is."""
    done: dict[float, float] = {}
    while missing := set(bracket_optimum(done, factor=factor)) - set(done):
        done |= {point: loss(point) for point in missing}
    return done


@given(lowest=st.floats(-5, 5), factor=st.sampled_from([2.0, 4.0]))
def test_a_single_valley_is_bracketed_with_few_points(lowest: float, factor: float):
    done = run(lambda point: abs(math.log2(point) - lowest), factor)
    best = min(done, key=lambda point: done[point])
    assert min(done) < best < max(done)
    assert abs(math.log2(best) - lowest) <= math.log2(factor) / 2 + 1e-9
    assert len(done) <= 3 + abs(lowest) / math.log2(factor) + 1
    lower, middle, upper = select_around_best(done)
    assert (lower, middle, upper) == (best / factor, best, best * factor)


def test_divergence_is_worse_than_anything():
    done = run(lambda point: math.inf if point > 0.3 else abs(math.log2(point) + 3), 2.0)
    assert min(done, key=lambda point: done[point]) == 0.125
    assert select_around_best(done) == (0.0625, 0.125, 0.25)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_loss_that_always_falls_ends(sign: int):
    done = run(lambda point: sign * math.log2(point), 2.0)
    assert len(done) == 10
    assert select_around_best(done) == ()


def test_what_ran_is_asked_for_again():
    assert set(bracket_optimum({1.0: 0.1, 2.0: 0.3}, factor=2.0)) == {0.5, 1.0, 2.0}
    assert select_around_best({}) == ()
