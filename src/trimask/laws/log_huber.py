"""The usual fit of a scaling law, as a check of ours: Huber's loss of log L with a log-sum-exp inside."""

import numpy as np
from jaxtyping import Float
from scipy import optimize
from scipy.special import logsumexp, softmax

from trimask.laws.fitting import Fit
from trimask.laws.scaling import Chinchilla, share_of_size

DELTA = 1e-3


def refit(fit: Fit, *, delta: float = DELTA) -> Float[np.ndarray, "parameters"]:
    """Minimize Σ Huber(log L̂ − log L) of a `Chinchilla` law over log E, log A, log B, alpha and beta by
    L-BFGS, from `fit`; return E, A, B, alpha, beta.

    The sum, not the mean: with means L-BFGS stops early (Besiroglu et al. 2024, of Hoffmann et al. 2022).
    """
    assert isinstance(fit.law, Chinchilla), fit.law
    log_n, log_d, log_loss = np.log(fit.inputs["n"]), np.log(fit.inputs["d"]), np.log(fit.losses)
    middle_n, middle_d = log_n.mean(), log_d.mean()
    x = np.stack([log_n - middle_n, log_d - middle_d])
    terms = np.log(np.maximum(fit.estimate[:3], 1e-12))
    alpha, beta = fit.estimate[3:]
    start = np.array([terms[0], terms[1] - alpha * middle_n, terms[2] - beta * middle_d, alpha, beta])

    def value_and_gradient(point: Float[np.ndarray, "5"]) -> tuple[float, Float[np.ndarray, "5"]]:
        e, a, b, alpha, beta = point
        parts = np.stack([np.full(len(log_loss), e), a - alpha * x[0], b - beta * x[1]])
        errors = logsumexp(parts, axis=0) - log_loss
        size = np.abs(errors)
        value = np.where(size <= delta, errors**2 / 2, delta * (size - delta / 2)).sum()
        shares = softmax(parts, axis=0) * np.clip(errors, -delta, delta)
        slopes = [*shares.sum(1), -(shares[1] * x[0]).sum(), -(shares[2] * x[1]).sum()]
        # In units of δ²: L-BFGS stops at absolute sizes of the gradient.
        return float(value) / delta**2, np.array(slopes) / delta**2

    options = {"maxiter": 20_000, "maxfun": 100_000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30}
    point = start
    for _ in range(5):  # from where it stopped, without its memory of curvature
        found = optimize.minimize(value_and_gradient, point, jac=True, method="L-BFGS-B", options=options)
        point = found.x
    e, a, b, alpha, beta = point
    return np.array([np.exp(e), np.exp(a + alpha * middle_n), np.exp(b + beta * middle_d), alpha, beta])


def differ(fit: Fit, other: Float[np.ndarray, "parameters"]) -> tuple[str, ...]:
    """Return the names of the parameters, and `a`, that `other` puts outside of the intervals of `fit`."""
    names = fit.law.parameters
    named = {name: other[None, i] for i, name in enumerate(names)}
    outside = [
        name for name, each in fit.parameters.items() if not each.low <= float(named[name][0]) <= each.high
    ]
    share = fit.derive(share_of_size)
    if not share.low <= float(share_of_size(named)[0]) <= share.high:
        outside.append("a")
    return tuple(outside)
