"""Caption agreement: retrieve captions of pictures by a linear map from image features to caption vectors.

The map is fitted on real pictures of the training split. Its score on other real pictures is the ceiling for
generated ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from trimask.errors import UserError
from trimask.evaluation.image import Agreement, agreement_of, ranks

_PENALTIES = tuple(10.0**e for e in range(-3, 6))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LinearMap:
    """The map `(features - centre) / scale @ weights + bias`, with the chosen ridge `penalty`."""

    centre: Float[np.ndarray, "d"]
    scale: Float[np.ndarray, "d"]
    weights: Float[np.ndarray, "d k"]
    bias: Float[np.ndarray, "k"]
    penalty: float

    def __call__(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        return (features - self.centre) / self.scale @ self.weights + self.bias


def fit_linear_map(
    features: Float[np.ndarray, "n d"],
    vectors: Float[np.ndarray, "n k"],
    penalties: Sequence[float] = _PENALTIES,
) -> LinearMap:
    """Fit ridge regression on standardized features, with the penalty of the least leave-one-out error.

    With U S Vᵀ the features and H = U S²/(S² + λ) Uᵀ, the leave-one-out residual of example i is exactly
    (y - H y)_i / (1 - H_ii - 1/n).

    Raises:
        UserError: fewer than three examples, or unequal numbers of features and vectors.
    """
    if len(features) != len(vectors) or len(features) < 3:
        raise UserError(
            f"{len(features)} features and {len(vectors)} vectors: give one of each, at least 3 pairs"
        )
    features, vectors = features.astype(np.float64), vectors.astype(np.float64)
    centre, scale, bias = features.mean(0), features.std(0), vectors.mean(0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    u, s, vt = np.linalg.svd((features - centre) / scale, full_matrices=False)
    projected = u.T @ (vectors - bias)
    errors = []
    for penalty in penalties:
        shrink = s**2 / (s**2 + penalty)
        residual = vectors - bias - (u * shrink) @ projected
        room = 1 - (u**2 * shrink).sum(1) - 1 / len(features)
        errors.append(((residual / np.maximum(room, 1e-6)[:, None]) ** 2).sum())
    penalty = penalties[int(np.argmin(errors))]
    weights = vt.T @ ((s / (s**2 + penalty))[:, None] * projected)
    return LinearMap(centre=centre, scale=scale, weights=weights, bias=bias, penalty=penalty)


def retrieval(
    predicted: Float[np.ndarray, "n k"],
    gallery: Float[np.ndarray, "m k"],
    own: Int[np.ndarray, "n"] | Sequence[int],
) -> Agreement:
    """Measure how often gallery[own[i]] has the highest cosine with predicted[i], and its mean rank.

    The gallery's mean is subtracted first, since all captions share a large common component.

    Raises:
        UserError: a gallery of fewer than two captions.
    """
    if len(gallery) < 2:
        raise UserError(f"a gallery of {len(gallery)} captions is too small: give at least 2")
    middle = gallery.mean(0)
    return agreement_of(ranks(_unit(predicted - middle), _unit(gallery - middle), own), len(gallery))


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
