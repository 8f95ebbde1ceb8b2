"""How far apart two sets of examples are as distributions, on features that the caller names.

Both figures depend on the features as much as on the examples, and the Fréchet distance on how many there
are: compare figures of equal features and equal counts only, and put the floor and the ceiling beside them.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from trimask import rng
from trimask.evaluation.estimate import Estimate, normal


def frechet_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m _d"]) -> float:
    """|μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½), with unbiased covariances [L: Heusel et al. 2017].

    The root is not formed: with A, B the centred rows, tr (Σ_a Σ_b)^½ is the sum of the singular values of
    A Bᵀ over √((n - 1)(m - 1)), exact also where there are fewer examples than features. With few examples
    it is biased upward.

    Raises:
        ValueError: fewer than two examples, or features of different width.
    """
    _check(a, b)
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    mean_a, mean_b = a.mean(0), b.mean(0)
    # Only inner products of rows count: a triangle takes the place of more rows than features.
    rows_a, rows_b = (_triangle(x) for x in (a - mean_a, b - mean_b))
    spread = (rows_a**2).sum() / (len(a) - 1) + (rows_b**2).sum() / (len(b) - 1)
    root = np.linalg.svd(rows_a @ rows_b.T, compute_uv=False).sum()
    return float(
        ((mean_a - mean_b) ** 2).sum() + spread - 2 * root / np.sqrt((len(a) - 1.0) * (len(b) - 1.0))
    )


def frechet(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "m _d"],
    *,
    seed: int = 0,
    num_resamples: int = 50,
    most_products: int = 4_000_000,
) -> Estimate:
    """`frechet_distance` with ± 1.96 bootstrap standard errors over the examples of both sets.

    The bootstrap's own percentiles would lie too high: resampled sets have fewer different examples.
    `most_products`: up to so many pairs of examples, resamples are read off their inner products.
    """
    value = frechet_distance(a, b)
    draw = rng.generator(seed, "frechet")
    middle = np.concatenate([a, b]).mean(0, dtype=np.float64)
    a, b = a - middle, b - middle
    is_small = (len(a) + len(b)) ** 2 <= most_products
    own_a, own_b, cross = (a @ a.T, b @ b.T, a @ b.T) if is_small else (a, b, a)
    resampled = []
    for _ in range(num_resamples):
        i, j = draw.integers(0, len(a), len(a)), draw.integers(0, len(b), len(b))
        if is_small:
            resampled.append(_from_products(own_a[np.ix_(i, i)], own_b[np.ix_(j, j)], cross[np.ix_(i, j)]))
        else:
            resampled.append(frechet_distance(a[i], b[j]))
    return normal(value, float(np.std(resampled, ddof=1)), len(a))


def kernel(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m _d"]) -> Estimate:
    """Squared maximum mean discrepancy under (x·y/d + 1)³, unbiased (it may be negative) [L: KID, Bińkowski
    et al. 2018], with ± 1.96 jackknife standard errors over the examples of both sets.

    Raises:
        ValueError: fewer than three examples, or features of different width.
    """
    _check(a, b, least=3)
    n, m = len(a), len(b)
    own_a, own_b, cross = _cubic(a, a), _cubic(b, b), _cubic(a, b)
    np.fill_diagonal(own_a, 0)
    np.fill_diagonal(own_b, 0)
    sum_a, sum_b, sum_ab = own_a.sum(), own_b.sum(), cross.sum()
    value = sum_a / (n * (n - 1)) + sum_b / (m * (m - 1)) - 2 * sum_ab / (n * m)
    without_a = (
        (sum_a - 2 * own_a.sum(1)) / ((n - 1) * (n - 2))
        + sum_b / (m * (m - 1))
        - 2 * (sum_ab - cross.sum(1)) / ((n - 1) * m)
    )
    without_b = (
        sum_a / (n * (n - 1))
        + (sum_b - 2 * own_b.sum(1)) / ((m - 1) * (m - 2))
        - 2 * (sum_ab - cross.sum(0)) / (n * (m - 1))
    )
    variance = sum(
        (len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum() for left in (without_a, without_b)
    )
    return normal(float(value), float(np.sqrt(variance)), n)


def _from_products(own_a: np.ndarray, own_b: np.ndarray, cross: np.ndarray) -> float:
    """`frechet_distance` from the inner products of the examples."""
    n, m = cross.shape
    means = own_a.mean() + own_b.mean() - 2 * cross.mean()
    spread = (np.trace(own_a) - n * own_a.mean()) / (n - 1) + (np.trace(own_b) - m * own_b.mean()) / (m - 1)
    centred = cross - cross.mean(0) - cross.mean(1, keepdims=True) + cross.mean()
    root = np.linalg.svd(centred, compute_uv=False).sum()
    return float(means + spread - 2 * root / np.sqrt((n - 1.0) * (m - 1.0)))


def _cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (np.asarray(a, dtype=np.float64) @ np.asarray(b, dtype=np.float64).T / a.shape[1] + 1) ** 3


def _triangle(centred: np.ndarray) -> np.ndarray:
    if len(centred) <= centred.shape[1]:
        return centred
    triangle: Any = np.linalg.qr(centred, mode="r")
    return triangle


def _check(a: np.ndarray, b: np.ndarray, *, least: int = 2) -> None:
    if min(len(a), len(b)) < least:
        raise ValueError(f"{len(a)} and {len(b)} examples: a distance of sets needs at least {least} of each")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features of width {a.shape[1]} and {b.shape[1]}: both sets need the same features")
