"""Distances of sets against closed forms, another library's matrix root and their definitions."""

import numpy as np
import pytest
import scipy.linalg
from scipy import stats

from trimask.evaluation.distances import frechet, frechet_distance, kernel, min_frechet_examples


def _set(n: int, d: int, seed: int, *, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (n, d))


def _whitened(n: int, d: int, seed: int) -> np.ndarray:
    """Rows whose sample mean is 0 and whose sample covariance is the identity, exactly."""
    x = _set(n, d, seed)
    x -= x.mean(0)
    return np.linalg.qr(x)[0] * np.sqrt(n - 1)


def test_closed_form_for_gaussians() -> None:
    # |μ|² + Σ (σ_a - σ_b)² for covariances that share their axes.
    a, b = _whitened(60, 4, 0), _whitened(50, 4, 1)
    sigma, mu = np.array([1.0, 2.0, 0.5, 3.0]), np.array([0.0, 1.0, -2.0, 0.5])
    expected = (mu**2).sum() + ((sigma - 1) ** 2).sum()
    assert frechet_distance(a * sigma + mu, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(40, 30, 5), (6, 9, 20), (30, 8, 12)])
def test_root_of_the_covariances_product(n: int, m: int, d: int) -> None:
    a, b = _set(n, d, 0), _set(m, d, 1, shift=0.3, scale=2.0)
    product = np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)
    # Tiny negative eigenvalues of a singular product give the root an imaginary part.
    root = np.trace(np.real(scipy.linalg.sqrtm(product.astype(complex))))
    spread = np.trace(np.cov(a, rowvar=False)) + np.trace(np.cov(b, rowvar=False))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + spread - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)


def test_equal_sets_are_no_distance_apart() -> None:
    a = _set(12, 30, 0)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-9)


def test_resampling_from_products_is_resampling_of_rows() -> None:
    a, b = _set(12, 5, 0), _set(15, 5, 1, shift=0.5)
    few = frechet(a, b, seed=3, num_resamples=30)
    assert few.low < few.value < few.high
    rows = frechet(a, b, seed=3, num_resamples=30, most_products=0)
    assert (rows.value, rows.low, rows.high) == pytest.approx((few.value, few.low, few.high), rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(20, 4), (60, 20)])
def test_few_examples_do_not_make_the_frechet_distance_larger(n: int, d: int) -> None:
    truth = d * (0.3**2 + 0.5**2)
    pairs = [(_set(n, d, 2 * i, shift=0.3, scale=1.5), _set(n, d, 2 * i + 1)) for i in range(40)]
    plain = np.array([frechet_distance(a, b) for a, b in pairs])
    found = [frechet(a, b, seed=i, num_resamples=20) for i, (a, b) in enumerate(pairs)]
    values = np.array([each.value for each in found])
    assert plain.mean() > 1.4 * truth, "what is corrected"
    assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(len(pairs))
    assert sum(each.low <= truth <= each.high for each in found) >= 37
    same = [frechet(_set(n, d, 2 * i), _set(n, d, 2 * i + 1), num_resamples=2).value for i in range(40)]
    assert abs(np.mean(same)) < 0.05 * plain.mean()


def test_too_few_examples_have_no_frechet_distance() -> None:
    assert min_frechet_examples(5) == 12
    with pytest.raises(ValueError, match="at least 12 of each"):
        frechet(_set(11, 5, 0), _set(40, 5, 1))


def test_kernel_distance_by_its_definition() -> None:
    a, b = _set(7, 4, 0), _set(5, 4, 1, shift=0.5)

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / 4 + 1) ** 3

    def mmd(a: np.ndarray, b: np.ndarray) -> float:
        n, m = len(a), len(b)
        own_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        own_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
        return own_a + own_b - 2 * sum(k(x, y) for x in a for y in b) / (n * m)

    found = kernel(a, b)
    assert found.value == pytest.approx(mmd(a, b), rel=1e-12)
    left = [
        np.array([mmd(np.delete(a, i, 0), b) for i in range(7)]),
        np.array([mmd(a, np.delete(b, i, 0)) for i in range(5)]),
    ]
    variance = sum((len(x) - 1) / len(x) * ((x - x.mean()) ** 2).sum() for x in left)
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 4) * np.sqrt(variance), rel=1e-9)


def test_kernel_distance_of_equal_distributions_covers_zero() -> None:
    found = [kernel(_set(60, 8, 2 * i), _set(60, 8, 2 * i + 1)) for i in range(20)]
    assert sum(each.low > 0 or each.high < 0 for each in found) <= 3  # 20 intervals of about 95 %
    assert kernel(_set(60, 8, 0), _set(60, 8, 1, shift=1.0)).low > 0


def test_wrong_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(_set(1, 3, 0), _set(4, 3, 1))
    with pytest.raises(ValueError, match="width 3 and 4"):
        kernel(_set(5, 3, 0), _set(5, 4, 1))
