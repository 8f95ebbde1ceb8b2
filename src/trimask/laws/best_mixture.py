"""The best shares under mixing laws: stated priorities, a trust region, and caps on repetition."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from trimask.errors import UserError
from trimask.estimate import Estimate
from trimask.laws.fitting import Fit

MOST_DRAWS = 200
"""Of the best shares, for their interval: each is a search."""
_TINY = 1e-12
_SUM = 1e-6


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Where the best mixture is looked for.

    Attributes:
        default: shares that the trust region is around, and that gains are measured from.
        trust: largest Kullback-Leibler divergence of the shares from the default's, in nats: laws of few runs
            are not to be trusted far from the middle of them.
        least: least share of each part, such as the least that was measured.
        caps: largest share of a part, if not 1: such as the one that repeats its data too often.
    """

    default: Mapping[str, float]
    trust: float
    least: Mapping[str, float]
    caps: Mapping[str, float]

    def __post_init__(self) -> None:
        if abs(sum(self.default.values()) - 1) > _SUM or min(self.default.values()) <= 0:
            raise UserError(f"the default shares {dict(self.default)} must be above 0 and add up to 1")
        if not self.trust > 0:
            raise UserError(f"trust {self.trust:g}: the divergence must be above 0")
        for what, given in (("least", self.least), ("caps", self.caps)):
            if unknown := sorted(given.keys() - self.default.keys()):
                raise UserError(f"{what} names {', '.join(unknown)}: the parts are {', '.join(self.default)}")
        low, high = self.bounds
        for part, under, over in zip(self.default, low, high, strict=True):
            if under > over:
                raise UserError(
                    f"{part}: its least share {under:g} is above its cap {over:g}: lower one, raise one"
                )
        if low.sum() > 1 or high.sum() < 1:
            raise UserError(
                f"the least shares add up to {low.sum():g} and the caps to {high.sum():g}: no shares between "
                "them add up to 1; if the caps are too low, train for fewer tokens or allow more epochs"
            )

    @property
    def bounds(self) -> tuple[Float[np.ndarray, "parts"], Float[np.ndarray, "parts"]]:
        """The least and the largest share of each part."""
        low = np.array([self.least.get(part, 0.0) for part in self.default])
        return np.maximum(low, _TINY), np.array([min(self.caps.get(part, 1.0), 1.0) for part in self.default])

    def allows(self, shares: Float[np.ndarray, "rows parts"], *, slack: float = 1e-9) -> np.ndarray:
        """Return which rows are within all limits."""
        low, high = self.bounds
        inside = ((shares >= low - slack) & (shares <= high + slack)).all(1)
        return inside & (divergence(shares, self._default) <= self.trust + slack)

    @property
    def _default(self) -> Float[np.ndarray, "parts"]:
        return np.array(list(self.default.values()))

    def minimize(
        self,
        objective: Callable[[Float[np.ndarray, "parts"]], float],
        start: Float[np.ndarray, "parts"] | None = None,
    ) -> Float[np.ndarray, "parts"]:
        """Return the shares of least `objective` by sequential quadratic programming, from `start`, or from
        the default and points towards each part and each pair: a law is convex as far as its γ are at most 1,
        and may have several minima beyond.

        Raises:
            UserError: no shares are within all limits.
        """
        low, high = self.bounds
        default = self._default
        best, least = None, np.inf
        for first in self._starts() if start is None else [start]:
            found = minimize(
                objective,
                first,
                method="SLSQP",
                bounds=list(zip(low, high, strict=True)),
                constraints=(
                    {"type": "eq", "fun": lambda h: h.sum() - 1},
                    {"type": "ineq", "fun": lambda h: self.trust - float(divergence(h[None], default)[0])},
                ),
                options={"ftol": 1e-13, "maxiter": 300},
            )
            shares = np.clip(found.x, low, high)
            shares = shares / shares.sum()
            if self.allows(shares[None], slack=1e-6)[0] and (value := objective(shares)) < least:
                best, least = shares, value
        if best is None:
            raise UserError(
                f"no shares are within the caps and within {self.trust:g} nats of the default: raise trust, "
                "allow more epochs, or choose a default within the caps"
            )
        return best

    def _starts(self) -> list[Float[np.ndarray, "parts"]]:
        default, number = self._default, len(self.default)
        corners = [
            np.isin(np.arange(number), chosen) / len(chosen)
            for size in (1, 2)
            for chosen in itertools.combinations(range(number), size)
            if size < number
        ]
        low, high = self.bounds
        return [np.clip(default + 0.3 * (corner - default), low, high) for corner in (default, *corners)]


def divergence(
    shares: Float[np.ndarray, "rows parts"], default: Float[np.ndarray, "parts"]
) -> Float[np.ndarray, "rows"]:
    """Return the Kullback-Leibler divergence of each row from the default, Σ h log(h / h₀), in nats."""
    safe = np.maximum(shares, _TINY)
    return (safe * np.log(safe / default)).sum(1)


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Goal:
    """A weighted mean of relative losses, Σ_k w_k L_k(h) / L_k(default), with Σ w = 1.

    Bits per token of different tokenizers have no common unit; the relative change has none, so one percent
    of any loss counts as much as the priorities say.

    Attributes:
        fits: of each loss by name; their draws belong together.
        priorities: of each loss, relative to the others'.
    """

    fits: Mapping[str, Fit]
    priorities: Mapping[str, float]
    limits: Limits

    def __post_init__(self) -> None:
        if self.fits.keys() != self.priorities.keys():
            raise UserError(
                f"priorities name {', '.join(self.priorities)}: the losses are {', '.join(self.fits)}"
            )
        if min(self.priorities.values()) < 0 or not sum(self.priorities.values()) > 0:
            raise UserError(f"priorities {dict(self.priorities)}: give none below 0, and one above it")

    def value(
        self, shares: Float[np.ndarray, "rows parts"], draw: int | None = None
    ) -> Float[np.ndarray, "rows"]:
        """Return the goal at each row of shares: of the estimate, or of a draw."""
        rows = np.concatenate([[list(self.limits.default.values())], shares])
        inputs = {part: rows[:, i] for i, part in enumerate(self.limits.default)}
        total = np.zeros(len(shares))
        for name, fit in self.fits.items():
            chosen = fit.estimate if draw is None else fit.draws[draw]
            losses = fit.law.predict(inputs, chosen[None])[0]
            total += self.priorities[name] * losses[1:] / losses[0]
        return total / sum(self.priorities.values())

    def find_best(
        self, draw: int | None = None, start: Float[np.ndarray, "parts"] | None = None
    ) -> Float[np.ndarray, "parts"]:
        """Return the shares that minimize it, of the estimate or of a draw; `start` as for `Limits`."""
        return self.limits.minimize(lambda shares: float(self.value(shares[None], draw)[0]), start)


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Best:
    """The best shares under a goal, and what the laws promise there.

    Attributes:
        shares: with the interval of the best shares over the draws, by part.
        gain: 1 less the goal at these shares, less the optimism of choosing: how much more a draw of the laws
            promises at its own best shares than the estimate does there, on average.
        optimism: what was taken off.
        changes: of each loss from the default's, relative, at these shares.
    """

    shares: Mapping[str, Estimate]
    gain: Estimate
    optimism: float
    changes: Mapping[str, Estimate]


def choose_mixture(goal: Goal) -> Best:
    """Find the best shares, with intervals from the draws of the fits.

    Raises:
        UserError: no shares are within all limits.
    """
    best = goal.find_best()
    number = min(MOST_DRAWS, *(len(fit.draws) for fit in goal.fits.values()))
    found = np.array([goal.find_best(draw, best) for draw in range(number)]).reshape(number, len(best))
    promised = [1 - goal.value(shares[None], draw)[0] for draw, shares in enumerate(found)]
    optimism = max(float(np.mean(promised - (1 - goal.value(found)))), 0.0) if number else 0.0
    gains = np.array([1 - goal.value(best[None], draw)[0] for draw in range(number)])
    rows = np.stack([np.array(list(goal.limits.default.values())), best])
    inputs = {part: rows[:, i] for i, part in enumerate(goal.limits.default)}
    changes = {}
    for name, fit in goal.fits.items():
        before, after = fit.law.predict(inputs, np.concatenate([fit.estimate[None], fit.draws])).T
        relative = after / before - 1
        changes[name] = _percentiles(float(relative[0]), relative[1:])
    return Best(
        shares={
            part: _percentiles(float(best[i]), found[:, i]) for i, part in enumerate(goal.limits.default)
        },
        gain=_percentiles(float(1 - goal.value(best[None])[0]) - optimism, gains - optimism),
        optimism=optimism,
        changes=changes,
    )


def _percentiles(value: float, draws: Float[np.ndarray, "draws"]) -> Estimate:
    if not len(draws):
        return Estimate(value=value, low=-np.inf, high=np.inf)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value=value, low=float(low), high=float(high))
