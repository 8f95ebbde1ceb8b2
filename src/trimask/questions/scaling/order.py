"""The order in which a limited budget is spent: what tells most about the run to forecast comes first."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from trimask.laws.design import Goal, find_slopes, order_runs
from trimask.laws.fitting import Fit, Inputs
from trimask.laws.scaling import Chinchilla
from trimask.model.flops import block_parameters
from trimask.questions.scaling.fits import DATA, TARGETS, fit_losses, split_noise
from trimask.studies.study import LOSSES
from trimask.studies.trial import Result, Trial

PRIOR: Mapping[str, float] = MappingProxyType({"E": 0.5, "A": 0.25, "B": 0.25, "alpha": 0.35, "beta": 0.37})
"""The law before there is a fit: exponents in the middle of the published ones; and of the loss at the middle
of the grid, half is E, and a quarter each falls with N and D [D].
"""
_SPREAD = 1.0  # of the logarithm of each parameter, before any run [D]
_NOISE = (0.005**2, 0.005**2)  # variances of relative errors: own, common to an order; before a fit [D]
_LEAST_RUNS = 15  # whose residuals tell the noise
_LEAST_VARIANCE = 1e-8


def rank_runs(
    trials: Sequence[Trial],
    done: Sequence[Result],
    *,
    grid: Sequence[Trial],
    target: Trial,
    estimate_cost: Callable[[Trial], float],
) -> list[Trial]:
    """Return the missing `trials` in the order that lowers the expected variance of the law's prediction for
    `target` most per unit of cost, averaged over the losses. The law is that fitted to `done`, or `PRIOR`
    where a fit is not there yet or is at an end of its ranges; the noise is as in the intervals: partly
    common to the sizes of one length and seed.

    Args:
        grid: all trials of the grid; the parameters are those at its middle.
    """
    by_name = {each.name: each for each in grid}
    run = [by_name[each.name] for each in done]
    factor = done[0].figure(TARGETS) / done[0].figure(f"{DATA}/sequences") if done else 1.0
    middle = {name: float(np.exp(np.log(each).mean())) for name, each in _inputs(grid, factor).items()}
    fits = fit_losses(done, num_draws=0).fits
    orders = list(dict.fromkeys(map(_order, (*grid, *trials))))

    def derive(each: Sequence[Trial], parameters: Float[np.ndarray, "parameters"]) -> np.ndarray:
        scaled = {name: values / middle[name] for name, values in _inputs(each, factor).items()}
        slopes = find_slopes(Chinchilla(), scaled, parameters)
        effects = np.array([[_order(trial) == order for order in orders] for trial in each], dtype=np.float64)
        return np.concatenate([slopes, effects.reshape(len(each), len(orders))], 1)

    goals = []
    for loss in LOSSES:
        fit = fits.get(loss)
        own, common = _find_noise(done, fit)
        parameters = _find_parameters(fit, middle)
        told = derive(run, parameters) / np.sqrt(own)
        before = [_SPREAD**-2] * len(parameters) + [1 / common] * len(orders)
        aim = derive([target], parameters)[0]
        aim[len(parameters) :] = 0.0  # the law, without the noise of one run
        rows = derive(trials, parameters) / np.sqrt(own)
        goals.append(Goal(precision=np.diag(before) + told.T @ told, rows=rows, target=aim))
    costs = np.array([float(estimate_cost(trial)) for trial in trials])
    return [trials[number] for number in order_runs(goals, costs)]


def _inputs(trials: Sequence[Trial], factor: float) -> Inputs:
    """Return n and d of each trial, with `factor` target tokens a sequence."""
    return {
        "n": np.array([float(block_parameters(trial.config.model)) for trial in trials]),
        "d": np.array([factor * trial.config.horizon for trial in trials]),
    }


def _order(trial: Trial) -> tuple[object, object]:
    return trial.factors["sequences"], trial.factors["seed"]


def _find_parameters(fit: Fit | None, middle: Mapping[str, float]) -> Float[np.ndarray, "parameters"]:
    """Return the parameters for inputs over `middle`."""
    law = Chinchilla()
    if fit is None or fit.doubts or not fit.estimate.min() > 0:
        return np.array([PRIOR[name] for name in law.parameters])
    found = dict(zip(law.parameters, fit.estimate.tolist(), strict=True))
    found["A"] *= middle["n"] ** -found["alpha"]
    found["B"] *= middle["d"] ** -found["beta"]
    return np.array([found[name] for name in law.parameters])


def _find_noise(done: Sequence[Result], fit: Fit | None) -> tuple[float, float]:
    found = split_noise(done, fit) if fit is not None and len(done) >= _LEAST_RUNS else None
    own, common = found or _NOISE
    return max(own, _LEAST_VARIANCE), max(common, _LEAST_VARIANCE)
