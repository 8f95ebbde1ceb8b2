"""Mixing laws: the loss of a modality as a function of the shares of the training mixture.

Shares are of what is held fixed between the runs, such as target tokens, and add up to 1. One law is fitted
for each loss. A user's own law is a subclass of `MixingLaw` or `CurvedLaw` (mixing_law.py).
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls

from trimask.laws.fitting import DRAWS, Fit, fit_law
from trimask.laws.mixing_law import SPREAD, CurvedLaw, MixingLaw

_FLOORS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.995)  # starts of the floor, as parts of the least loss
_POWERS = (0.1, 0.35, 0.8, 1.5)  # starts of γ
_MOST_STARTS = 256
_LEAST_POWER, _MOST_POWER = 0.02, 2.0
_LARGEST = 60.0  # of logarithms


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Exponential(CurvedLaw):
    """c + exp(Σ_j t_j h_j) [L: Ye et al., ICLR 2025]. A factor in front would be one parameter too many:
    since the shares add up to 1, t takes it up.
    """

    parts: tuple[str, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("c", *(f"t_{part}" for part in self.parts))

    @property
    def formula(self) -> str:
        return "c + exp(Σ t_j h_j)"

    @property
    def procedure(self) -> tuple[str, ...]:
        return (
            "least squares of the relative error by Levenberg and Marquardt's method with c ≥ 0, from the "
            f"log-linear fits at c = {', '.join(f'{part:g}' for part in _FLOORS)} of the least loss",
            f"a ridge on the differences of t: a normal prior of standard deviation {SPREAD:g}, beside the "
            "fit's own noise",
        )

    def curve(
        self, shares: Float[np.ndarray, "rows parts"], theta: Float[np.ndarray, "draws parameters"]
    ) -> tuple[Float[np.ndarray, "draws rows"], Float[np.ndarray, "draws rows parameters"]]:
        power = np.exp(np.minimum(theta[:, 1:] @ shares.T, _LARGEST))
        slopes = np.concatenate([np.ones_like(power)[:, :, None], power[:, :, None] * shares], 2)
        return theta[:, :1] + power, slopes

    def starts(
        self,
        shares: Float[np.ndarray, "rows parts"],
        losses: Float[np.ndarray, "rows"],
        weights: Float[np.ndarray, "rows"],
    ) -> Iterator[Float[np.ndarray, "parameters"]]:
        roots = np.sqrt(weights)
        for part in _FLOORS:
            floor = part * losses.min()
            t = np.linalg.lstsq(roots[:, None] * shares, roots * np.log(losses - floor))[0]
            yield np.concatenate([[floor], t])

    def bounds(self, most: float) -> tuple[Float[np.ndarray, "parameters"], Float[np.ndarray, "parameters"]]:
        number = len(self.parts)
        return np.array([0.0, *[-_LARGEST] * number]), np.array([most, *[_LARGEST] * number])

    def penalty(self) -> Float[np.ndarray, "rows parameters"]:
        number = len(self.parts)
        return np.concatenate([np.zeros((number, 1)), np.eye(number) - 1 / number], 1)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Additive(CurvedLaw):
    """E + 1 / Σ_j C_j h_j^γ_j [L: Shukor et al., arXiv 2507.09404], 0.02 ≤ γ ≤ 2."""

    parts: tuple[str, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("E", *(f"C_{part}" for part in self.parts), *(f"γ_{part}" for part in self.parts))

    @property
    def formula(self) -> str:
        return "E + 1 / Σ C_j h_j^γ_j"

    @property
    def procedure(self) -> tuple[str, ...]:
        return (
            "least squares of the relative error by Levenberg and Marquardt's method with E ≥ 0 and "
            f"γ in [{_LEAST_POWER:g}, {_MOST_POWER:g}], from non-negative least squares of C at "
            f"E = {', '.join(f'{part:g}' for part in _FLOORS)} of the least loss and γ of "
            f"{', '.join(f'{power:g}' for power in _POWERS)}",
        )

    def curve(
        self, shares: Float[np.ndarray, "rows parts"], theta: Float[np.ndarray, "draws parameters"]
    ) -> tuple[Float[np.ndarray, "draws rows"], Float[np.ndarray, "draws rows parameters"]]:
        number, logs = len(self.parts), np.log(shares)
        log_c, powers = theta[:, 1 : 1 + number], theta[:, 1 + number :]
        terms = np.exp(np.clip(log_c[:, None] + powers[:, None] * logs, -10 * _LARGEST, _LARGEST))
        above = 1 / terms.sum(2, keepdims=True)
        slopes = -(above**2) * terms
        return theta[:, :1] + above[:, :, 0], np.concatenate([np.ones_like(above), slopes, slopes * logs], 2)

    def starts(
        self,
        shares: Float[np.ndarray, "rows parts"],
        losses: Float[np.ndarray, "rows"],
        weights: Float[np.ndarray, "rows"],
    ) -> Iterator[Float[np.ndarray, "parameters"]]:
        logs = np.log(shares)
        for part, powers in itertools.product(_FLOORS, _choose_powers(len(self.parts))):
            floor = part * losses.min()
            # 1 / (L − E) is linear in C; weighted so that its errors count as those of the loss.
            roots = np.sqrt(weights) * (losses - floor) ** 2 / losses
            c = nnls(roots[:, None] * np.exp(powers * logs), roots / (losses - floor))[0]
            c = np.maximum(c, 1e-4 * c.max())  # at 0 the logarithm has no slope
            yield np.concatenate([[floor], np.log(c), powers])

    def bounds(self, most: float) -> tuple[Float[np.ndarray, "parameters"], Float[np.ndarray, "parameters"]]:
        number = len(self.parts)
        low = [0.0, *[-_LARGEST] * number, *[_LEAST_POWER] * number]
        return np.array(low), np.array([most, *[_LARGEST] * number, *[_MOST_POWER] * number])

    def from_search(
        self, theta: Float[np.ndarray, "draws parameters"]
    ) -> Float[np.ndarray, "draws parameters"]:
        number = len(self.parts)
        return np.concatenate([theta[:, :1], np.exp(theta[:, 1 : 1 + number]), theta[:, 1 + number :]], 1)

    def to_search(
        self, found: Float[np.ndarray, "draws parameters"]
    ) -> Float[np.ndarray, "draws parameters"]:
        number = len(self.parts)
        return np.concatenate([found[:, :1], np.log(found[:, 1 : 1 + number]), found[:, 1 + number :]], 1)


def fit_mixing(
    law: MixingLaw,
    shares: Mapping[str, Sequence[float] | np.ndarray],
    losses: Sequence[float] | Float[np.ndarray, "rows"],
    *,
    num_draws: int = DRAWS,
    seed: int = 0,
) -> Fit:
    """Fit a mixing law, with a bootstrap of the mixtures' residuals.

    A dozen mixtures drawn with replacement often cannot determine a law, so the design stays, and each
    mixture draws the residual of a mixture (the mean of its runs', which share what the law misses there),
    widened by the degrees of freedom and to Student's t [L: Davison and Hinkley 1997, chapter 6]. Fits of
    several losses of the same runs with the same `seed` draw the same mixtures, so that functions of several
    can be taken.

    Raises:
        UserError: too few mixtures, a share of 0, shares that do not add up to 1.
    """
    rows = {name: np.asarray(shares[name], dtype=np.float64) for name in law.inputs}
    fit = fit_law(law, rows, np.asarray(losses, dtype=np.float64), num_draws=0)
    if not num_draws:
        return fit
    fitted = law.predict(fit.inputs, fit.estimate[None])[0]
    number, freedom = fit.num_units, max(fit.num_units - len(law.parameters), 1)
    errors = np.bincount(fit.units, fit.losses / fitted - 1) / np.bincount(fit.units)
    errors = (errors - errors.mean()) * np.sqrt(number / freedom)
    generator = np.random.default_rng(seed)
    chosen = errors[generator.integers(number, size=(num_draws, number))]
    chosen = chosen * np.sqrt(freedom / generator.chisquare(freedom, (num_draws, 1)))
    drawn = fitted * (1 + chosen[:, fit.units])
    start = np.repeat(fit.estimate[None], num_draws, 0)
    return replace(fit, draws=law.solve_each(fit.inputs, drawn, np.ones_like(drawn), start))


def _choose_powers(number: int) -> list[Float[np.ndarray, "parts"]]:
    """Return exponents to start from: all combinations, or evenly many of them."""
    whole = len(_POWERS) ** number
    step = max(whole // _MOST_STARTS, 1)
    # An even step would always end in the same exponent.
    places = range(0, whole, step + (step > 1 and step % 2 == 0))
    return [
        np.array([_POWERS[place // len(_POWERS) ** j % len(_POWERS)] for j in range(number)])
        for place in places
    ]
