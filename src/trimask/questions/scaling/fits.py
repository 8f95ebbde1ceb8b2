"""The law of each loss, fitted to the results of a grid of sizes and lengths."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from trimask.laws.fitting import Fit, NotIdentified, fit_law
from trimask.laws.scaling import Bounded, Chinchilla, DataConstrained, PowerLaw
from trimask.studies.study import ALL, LOSSES
from trimask.studies.trial import Result

SIZE, DATA, EPOCHS, FLOPS, CEILING = "parameters", "data", "epochs", "flops", "ceiling"
"""Prefixes of a trial's figures: parameters/blocks, data/targets, epochs/emoji, and ceiling/text, the bits
per token of knowing nothing; `flops` is a figure itself.
"""
BLOCKS, TARGETS = f"{SIZE}/blocks", f"{DATA}/targets"
"""The N and D of the fits; the others are shown beside them."""
OTHER_DRAWS = 500
"""For laws beside the plain one, and other ways of counting N."""
_LEAST_ORDERS = 2  # for each parameter: orders of the data are resampled, with fewer of them settings


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """The fits by loss, and for each loss why the runs do not identify its law; a loss without a fit has
    reasons alone.
    """

    fits: dict[str, Fit]
    reasons: dict[str, tuple[str, ...]]


def find_done(results: Sequence[Result]) -> list[Result]:
    """Return the results of runs that have not diverged."""
    return [each for each in results if math.isfinite(each.figure(ALL))]


def fit_losses(results: Sequence[Result], *, num_draws: int) -> Fitted:
    """Fit the law of each loss that all results have."""
    fits: dict[str, Fit] = {}
    reasons: dict[str, tuple[str, ...]] = {}
    for loss in LOSSES:
        if not results or not all(loss in each.figures for each in results):
            continue
        try:
            fits[loss] = fit_loss(results, loss, num_draws=num_draws)
            reasons[loss] = fits[loss].doubts
        except NotIdentified as error:
            reasons[loss] = error.reasons
    return Fitted(fits=fits, reasons=reasons)


def fit_loss(
    results: Sequence[Result],
    loss: str,
    size: str = BLOCKS,
    *,
    unique: Float[np.ndarray, "rows"] | None = None,
    num_draws: int,
) -> Fit:
    """Fit the plain law; with the `unique` share of each run's data, the law of repeated data.

    Raises:
        NotIdentified: too few runs.
    """
    inputs = {
        "n": np.array([each.figure(size) for each in results]),
        "d": np.array([each.figure(TARGETS) for each in results]),
    }
    law: PowerLaw = Chinchilla()
    if unique is not None:
        law, inputs["u"] = DataConstrained(), inputs["d"] * unique
    losses = np.array([each.figure(loss) for each in results])
    orders = group_orders(results)
    units = orders if orders.max() + 1 >= _LEAST_ORDERS * len(law.parameters) else None
    return fit_law(law, inputs, losses, units=units, num_draws=num_draws)


def find_ceiling(run: Result, loss: str, ceilings: Mapping[str, float]) -> float | None:
    """Return the loss of knowing nothing from those of the modalities; that of all tokens by their shares in
    training, as in `run`. None where it is not known.
    """
    if loss != ALL:
        return ceilings.get(loss)
    bits = [each * run.figure(f"{DATA}/{modality}") for modality, each in ceilings.items()]
    total = sum(bits) / run.figure(TARGETS) if bits else math.inf
    return total if math.isfinite(total) else None


def fit_bounded(
    results: Sequence[Result], fitted: Fitted, ceilings: Mapping[str, float], *, num_draws: int
) -> dict[str, Fit]:
    """Fit the law bounded by the loss of knowing nothing, of each loss that has a plain law and a ceiling."""
    found = {}
    for loss, fit in fitted.fits.items():
        ceiling = find_ceiling(results[0], loss, ceilings)
        if ceiling is not None and ceiling > fit.losses.max():
            law, draws = Bounded(ceiling=ceiling), min(num_draws, OTHER_DRAWS)
            found[loss] = fit_law(law, fit.inputs, fit.losses, units=fit.units, num_draws=draws)
    return found


def group_orders(results: Sequence[Result]) -> Int[np.ndarray, "rows"]:
    """Number the results so that those of one length and seed, which see the same data in the same order,
    share a number. Their losses go up and down together at any size: resampled one by one, 95 % intervals
    held the truth of half of the simulated grids [D].
    """
    orders = [(each.factors["sequences"], each.factors["seed"]) for each in results]
    known = {order: number for number, order in enumerate(sorted(set(orders), key=str))}
    return np.array([known[order] for order in orders])


def split_noise(results: Sequence[Result], fit: Fit) -> tuple[float, float] | None:
    """Return the variance of the relative residuals: of each run's own part, and of what all sizes of one
    length and seed have in common. None if there are too few runs to tell.
    """
    orders = group_orders(results)
    counts = np.bincount(orders)
    if counts.min() < 2 or len(counts) < 3:
        return None
    means = np.bincount(orders, fit.residuals) / counts
    own = float(((fit.residuals - means[orders]) ** 2).sum() / (len(orders) - len(counts)))
    return own, max(float(means.var()) - own / float(counts.mean()), 0.0)
