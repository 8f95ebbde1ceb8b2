"""Distances between the distributions of two sets of examples, on given features.

Both distances depend on the features as much as on the examples: compare only distances on the same features,
and report floors and ceilings with them. The kernel distance is unbiased for any number of examples. The
Fréchet distance is biased: it needs `min_frechet_examples` examples, and is corrected for its bias.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from trimask import rng
from trimask.errors import UserError
from trimask.estimate import Estimate, from_standard_error


def frechet_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m _d"]) -> float:
    """Compute |μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½) [L: Heusel et al. 2017], Σ with n - 1.

    The root is not computed: with A, B the centred rows, tr (Σ_a Σ_b)^½ is the sum of the singular values of
    A Bᵀ over √((n - 1)(m - 1)), which is exact also for fewer examples than features. The distance is biased
    upward (see `frechet`).

    Raises:
        UserError: fewer than two examples, or features of different width.
    """
    _check(a, b)
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    mean_a, mean_b = a.mean(0), b.mean(0)
    # Only the inner products of rows matter: replace more rows than features by their triangular factor.
    rows_a, rows_b = (_triangle(x) for x in (a - mean_a, b - mean_b))
    spread = (rows_a**2).sum() / (len(a) - 1) + (rows_b**2).sum() / (len(b) - 1)
    root = np.linalg.svd(rows_a @ rows_b.T, compute_uv=False).sum()
    return float(
        ((mean_a - mean_b) ** 2).sum() + spread - 2 * root / np.sqrt((len(a) - 1.0) * (len(b) - 1.0))
    )


def min_frechet_examples(width: int) -> int:
    """Return the number of examples that each set needs for a Fréchet distance on `width` features.

    Halves of smaller sets have covariances of lower rank, and their distance depends mainly on the number of
    examples.
    """
    return 2 * (width + 1)


def frechet(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "m _d"],
    *,
    seed: int = 0,
    num_resamples: int = 50,
    num_halvings: int = 8,
    most_products: int = 4_000_000,
) -> Estimate:
    """Estimate the Fréchet distance without its first-order bias, with bootstrap standard errors.

    The bias of `frechet_distance` is about c/n, and that of halves of both sets is twice as large: twice the
    distance minus the mean distance of halves is free of it, an extrapolation to infinitely many examples
    [L: Chong & Forsyth 2020]. The estimate may be negative. Percentiles of the bootstrap would be biased
    upward, since resampled sets have fewer different examples.

    Args:
        num_resamples: bootstrap samples of both sets.
        num_halvings: random splits into halves.
        most_products: up to this number of pairs of examples, resamples use precomputed inner products.

    Raises:
        UserError: fewer than `least_for_frechet` examples, or features of different width.
    """
    _check(a, b, least=min_frechet_examples(a.shape[1]))
    draw = rng.generator(seed, "frechet")
    middle = np.concatenate([a, b]).mean(0, dtype=np.float64)
    a, b = a - middle, b - middle
    is_small = len(a) * len(b) <= most_products
    own_a, own_b, cross = (a @ a.T, b @ b.T, a @ b.T) if is_small else (a, b, a)

    def distance(i: np.ndarray, j: np.ndarray) -> float:
        if is_small:
            return _from_products(own_a[np.ix_(i, i)], own_b[np.ix_(j, j)], cross[np.ix_(i, j)])
        return frechet_distance(a[i], b[j])

    halves = []
    for _ in range(num_halvings):
        i, j = draw.permutation(len(a)), draw.permutation(len(b))
        halves += [distance(*each) for each in zip(np.array_split(i, 2), np.array_split(j, 2), strict=True)]
    value = 2 * frechet_distance(a, b) - float(np.mean(halves))
    resampled = [
        distance(draw.integers(0, len(a), len(a)), draw.integers(0, len(b), len(b)))
        for _ in range(num_resamples)
    ]
    error = float(np.std(resampled, ddof=1))
    return from_standard_error(value, error, len(a), freedom=min(len(a), len(b), num_resamples) - 1)


def kernel(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m _d"]) -> Estimate:
    """Estimate the squared maximum mean discrepancy under the kernel (x·y/d + 1)³.

    This is KID [L: Bińkowski et al. 2018] on any features. It is unbiased, and may be negative; standard
    errors are by the jackknife over the examples of both sets.

    Raises:
        UserError: fewer than three examples, or features of different width.
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
    return from_standard_error(float(value), float(np.sqrt(variance)), n, freedom=min(n, m) - 1)


def _from_products(own_a: np.ndarray, own_b: np.ndarray, cross: np.ndarray) -> float:
    """Compute `frechet_distance` from the inner products of the examples."""
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
        raise UserError(f"{len(a)} and {len(b)} examples: a distance of sets needs at least {least} of each")
    if a.shape[1] != b.shape[1]:
        raise UserError(
            f"features of width {a.shape[1]} and {b.shape[1]}: give the same features of both sets"
        )
