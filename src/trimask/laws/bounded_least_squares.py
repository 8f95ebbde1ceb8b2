"""Many small non-linear least-squares problems at once, within bounds: Levenberg and Marquardt's method."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

Model = Callable[
    [Float[np.ndarray, "chosen parameters"], Int[np.ndarray, "chosen"]],
    tuple[Float[np.ndarray, "chosen rows"], Float[np.ndarray, "chosen rows parameters"]],
]
"""Returns the residuals of chosen problems (by number) at their parameters, and their derivatives."""

_MOST_STEPS = 400
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-14, 1e14
_SETTLED = 1e-14  # relative fall of the cost by a step
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
    found = np.clip(start, low, high)
    least = np.empty(len(found))
    chosen = np.arange(len(found))  # those that still move
    theta = found.copy()
    residuals, jacobian = model(theta, chosen)
    cost = (residuals**2).sum(1) / 2
    damping = np.full(len(theta), _FIRST_DAMPING)
    for number in range(_MOST_STEPS):
        step = _step(theta, residuals, jacobian, damping, low, high)
        tried = np.clip(theta + step, low, high)
        new_residuals, new_jacobian = model(tried, chosen)
        new_cost = (new_residuals**2).sum(1) / 2
        is_better = new_cost < cost  # False for a cost that is not a number
        is_done = is_better & (cost - new_cost <= _SETTLED * cost)
        is_done |= ~is_better & (damping >= _MOST_DAMPING)
        is_done |= number == _MOST_STEPS - 1
        theta = np.where(is_better[:, None], tried, theta)
        residuals = np.where(is_better[:, None], new_residuals, residuals)
        jacobian = np.where(is_better[:, None, None], new_jacobian, jacobian)
        cost = np.where(is_better, new_cost, cost)
        damping = np.clip(np.where(is_better, damping / 5, damping * 4), _LEAST_DAMPING, _MOST_DAMPING)
        found[chosen[is_done]], least[chosen[is_done]] = theta[is_done], cost[is_done]
        rest = ~is_done
        chosen, theta, cost, damping = chosen[rest], theta[rest], cost[rest], damping[rest]
        residuals, jacobian = residuals[rest], jacobian[rest]
        if not len(chosen):
            break
    return found, least


def _step(
    theta: Float[np.ndarray, "chosen parameters"],
    residuals: Float[np.ndarray, "chosen rows"],
    jacobian: Float[np.ndarray, "chosen rows parameters"],
    damping: Float[np.ndarray, "chosen"],
    low: Float[np.ndarray, "parameters"],
    high: Float[np.ndarray, "parameters"],
) -> Float[np.ndarray, "chosen parameters"]:
    """Return the damped step of each problem over its free parameters."""
    transposed = np.swapaxes(jacobian, 1, 2)
    gradient = (transposed @ residuals[:, :, None])[:, :, 0]
    is_free = ~(((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0)))
    square = (transposed @ jacobian) * is_free[:, :, None] * is_free[:, None, :]
    places = np.arange(theta.shape[1])
    square[:, places, places] += damping[:, None] * (square[:, places, places] + _DEAD) + ~is_free
    # Scaled to a unit diagonal: parameters of very different effect would make the system singular.
    scale = np.sqrt(square[:, places, places])
    scaled = square / (scale[:, :, None] * scale[:, None, :])
    return -np.linalg.solve(scaled, (gradient * is_free / scale)[:, :, None])[:, :, 0] / scale
