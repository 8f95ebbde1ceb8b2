"""Caption agreement on planted data, and the ridge against its left-out definition."""

import numpy as np
import pytest

from trimask.evaluation.retrieval import fit_linear_map, retrieval


def _planted(n: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Features that a linear map turns into vectors, but for noise."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(n, 6))
    features = vectors @ draw.normal(size=(6, 40)) + noise * draw.normal(size=(n, 40)) + 5
    return features, vectors


def test_planted_pairs_are_found_and_shuffled_ones_are_chance() -> None:
    features, vectors = _planted(160, 0.1)
    fitted = fit_linear_map(features[:80], vectors[:80])
    held_out = retrieval(fitted(features[80:]), vectors[80:], range(80))
    assert held_out.top1.value > 0.95 and held_out.rank_fraction.value < 0.01
    shuffled = retrieval(fitted(features[80:]), vectors[80:], [(i + 1) % 80 for i in range(80)])
    assert shuffled.top1.value < 0.05 and shuffled.rank_fraction.value == pytest.approx(0.5, abs=0.1)


def test_noise_is_chance() -> None:
    features, vectors = _planted(160, 0.1)
    fitted = fit_linear_map(features[:80], vectors[:80])
    noise = np.random.default_rng(1).normal(5, 1, (80, 40))
    found = retrieval(fitted(noise), vectors[80:], range(80))
    assert found.top1.low < 1 / 80 < found.top1.high


def test_left_out_errors_are_those_of_fitting_without() -> None:
    features, vectors = _planted(12, 1.0)
    penalties = (0.1, 10.0, 1000.0)

    def left_out(penalty: float) -> float:
        # Standardized once over all, as the shortcut does; the centre is fitted anew.
        x = (features - features.mean(0)) / features.std(0)
        total = 0.0
        for i in range(len(x)):
            rest = np.delete(np.arange(len(x)), i)
            centre, bias = x[rest].mean(0), vectors[rest].mean(0)
            a = x[rest] - centre
            weights = a.T @ np.linalg.solve(a @ a.T + penalty * np.eye(len(rest)), vectors[rest] - bias)
            total += (((x[i] - centre) @ weights + bias - vectors[i]) ** 2).sum()
        return total

    chosen = fit_linear_map(features, vectors, penalties).penalty
    assert chosen == min(penalties, key=left_out)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 pairs"):
        fit_linear_map(np.zeros((2, 4)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="at least 2"):
        retrieval(np.zeros((1, 3)), np.zeros((1, 3)), [0])
