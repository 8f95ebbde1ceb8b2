"""What samples are compared by, on sets whose distance is known."""

import numpy as np
import pytest

from trimask.questions.schedules.samples import code_divergence, count_repeats


def codes(*columns: list[int]) -> np.ndarray:
    return np.array(columns).T


def test_divergence_of_known_frequencies() -> None:
    same = [codes([0, 1, 2], [3, 3, 1]), codes([1], [0])]
    assert code_divergence(same, same[::-1], codebook_size=4) == pytest.approx(0.0, abs=1e-12)
    apart = [codes([0, 1], [0, 0])], [codes([2, 3, 2], [1, 1, 1])]
    assert code_divergence(*apart, codebook_size=4) == pytest.approx(1.0)
    # Half of the first codebook's codes agree, all of the second's: JSD of (1, 0) and (½, ½) is 0.3113 bits.
    half = code_divergence([codes([0, 0], [1, 1])], [codes([0, 1], [1, 1])], codebook_size=2)
    assert half == pytest.approx(0.311278 / 2, abs=1e-6)


def test_repeats_are_of_each_codebook_and_never_across_examples() -> None:
    assert count_repeats([codes([5, 5, 1], [1, 2, 2]), codes([1], [2])]) == pytest.approx(0.5)
    assert count_repeats([codes([1], [2]), codes([1], [2])]) == 0.0
