"""Many small non-linear least-squares problems at once, within bounds: Levenberg and Marquardt's method."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Model = Callable[
    [Float[np.ndarray, "problems parameters"]],
    tuple[Float[np.ndarray, "problems rows"], Float[np.ndarray, "problems rows parameters"]],
]
"""Returns the residuals of each problem at its parameters, and their derivatives."""

_MOST_STEPS = 400
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-14, 1e14
_SETTLED = 1e-15  # relative fall of the cost by a step
_DEAD = 1e-30  # added to squared derivatives: a parameter without effect stays where it is


def minimize_squares(
    model: Model,
    start: Float[np.ndarray, "problems parameters"],
    low: Float[np.ndarray, "parameters"],
    high: Float[np.ndarray, "parameters"],
) -> tuple[Float[np.ndarray, "problems parameters"], Float[np.ndarray, "problems"]]:
    """Minimize half the sum of squared residuals of each problem; return parameters and minima.

    Steps solve (JᵀJ + λ diag JᵀJ) δ = −Jᵀr over the parameters that are free: not at a bound that the
    gradient pushes them against [L: Marquardt 1963; projection onto the bounds]. A step is taken if it lowers
    the cost, so a problem ends no worse than it starts. Problems do not affect each other.
    """
    theta = np.clip(start, low, high)
    residuals, jacobian = model(theta)
    cost = (residuals**2).sum(1) / 2
    damping = np.full(len(theta), _FIRST_DAMPING)
    is_open = np.ones(len(theta), dtype=bool)
    for _ in range(_MOST_STEPS):
        gradient = np.einsum("krp,kr->kp", jacobian, residuals)
        is_free = ~(((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0)))
        square = np.einsum("krp,krq->kpq", jacobian, jacobian) * is_free[:, :, None] * is_free[:, None, :]
        diagonal = np.einsum("kpp->kp", square) + _DEAD
        square += np.einsum("kp,pq->kpq", damping[:, None] * diagonal + ~is_free, np.eye(theta.shape[1]))
        # Scaled to a unit diagonal: parameters of very different effect would make the system singular.
        scale = np.sqrt(np.einsum("kpp->kp", square))
        scaled = square / (scale[:, :, None] * scale[:, None, :])
        step = -np.linalg.solve(scaled, (gradient * is_free / scale)[:, :, None])[:, :, 0] / scale
        tried = np.clip(theta + step, low, high)
        new_residuals, new_jacobian = model(tried)
        new_cost = (new_residuals**2).sum(1) / 2
        is_better = is_open & (new_cost < cost)  # False for a cost that is not a number
        is_done = is_better & (cost - new_cost <= _SETTLED * cost)
        is_done |= ~is_better & (damping >= _MOST_DAMPING)
        theta = np.where(is_better[:, None], tried, theta)
        residuals = np.where(is_better[:, None], new_residuals, residuals)
        jacobian = np.where(is_better[:, None, None], new_jacobian, jacobian)
        cost = np.where(is_better, new_cost, cost)
        damping = np.clip(np.where(is_better, damping / 5, damping * 4), _LEAST_DAMPING, _MOST_DAMPING)
        is_open &= ~is_done
        if not is_open.any():
            break
    return theta, cost
