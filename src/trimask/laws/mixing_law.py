"""What a mixing law is, how a curved one is fitted, and the laws that it must beat."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float

from trimask.errors import UserError
from trimask.estimate import mean
from trimask.laws.bounded_least_squares import minimize_squares
from trimask.laws.fitting import Fit, Inputs, Law, group_equal

SPREAD = 3.0
"""Standard deviation that the ridge expects of what it holds together."""
_ROUNDED = 5e-4  # by how much a share of three digits may be off
_LEAST_SPREAD = 1e-3  # of shares
_MOST_ROWS = 2000
_ROUNDING = 1e-9  # of relative errors
_MOST_POLISHED = 48
_NO_RIDGE = 1e-14  # only against parameters without effect


class MixingLaw(Law):
    """A law of the shares of named parts."""

    __slots__ = ()

    parts: tuple[str, ...]
    """What the shares are of: tasks, modalities or sources."""

    @classmethod
    def options(cls) -> tuple[str, ...]:
        return tuple(name for name in super().options() if name != "parts")

    @classmethod
    def for_columns(cls, names: Sequence[str], **options: float) -> "Law":
        return cls(parts=tuple(names), **options)  # pyright: ignore[reportCallIssue]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.parts

    @property
    def fewest_mixtures(self) -> int:
        """Different mixtures that a fit needs: 3 for each of the parts and one more [L: Olmix]."""
        return 3 * (len(self.parts) + 1)

    def check_inputs(self, inputs: Inputs) -> None:
        shares = stack_shares(inputs, self.parts)
        for number in np.flatnonzero(~add_up(shares)):
            raise UserError(
                f"row {number + 1}: the shares add up to {shares[number].sum():g}: divide each by that, so "
                "that they add up to 1, and keep three digits or more"
            )
        for row, column in np.argwhere(shares <= 0):
            raise UserError(
                f"row {row + 1}: the share of {self.parts[column]} is {shares[row, column]:g}, and the laws "
                "break at 0: leave the row out, and compare runs without a part directly"
            )

    def check(self, inputs: Inputs, losses: Float[np.ndarray, "rows"]) -> None:
        if len(losses) > _MOST_ROWS:
            raise UserError(
                f"{len(losses):,} rows: a mixing law is fitted without each mixture in turn, which takes at "
                f"most {_MOST_ROWS:,}: leave checkpoints out, one row a run"
            )
        found = len(np.unique(stack_shares(inputs, self.parts), axis=0))
        if found < self.fewest_mixtures:
            raise UserError(
                f"{found} different mixture{'s' * (found != 1)} of {len(self.parts)} parts: give at least "
                f"{self.fewest_mixtures}, well spread, three for each part and three more"
            )

    def find_doubts(self, fit: Fit) -> tuple[str, ...]:
        shares = stack_shares(fit.inputs, self.parts)
        spread = np.linalg.svd(shares - shares.mean(0), compute_uv=False) / np.sqrt(len(shares))
        varied, needed = int((spread > _LEAST_SPREAD).sum()), len(self.parts) - 1
        if varied < needed:
            return (
                f"the mixtures vary in {varied} direction{'s' * (varied != 1)}, and shares of "
                f"{len(self.parts)} parts in {needed}: what some parts do cannot be told apart; add mixtures "
                "in which each share varies by itself",
            )
        own, plain = (
            np.abs(leave_one_out(law, fit.inputs, fit.losses)) for law in (self, Mean(parts=self.parts))
        )
        if mean(plain - own).low > _ROUNDING:
            return ()
        return (
            f"where a mixture is left out, the law errs by {100 * own.mean():.2g} %, and one loss for all "
            f"mixtures by {100 * plain.mean():.2g} %: the shares do not tell the loss; run more seeds, or "
            "mixtures further apart",
        )

    def solve(
        self,
        inputs: Inputs,
        losses: Float[np.ndarray, "rows"],
        weights: Float[np.ndarray, "draws rows"],
        start: Float[np.ndarray, "draws parameters"] | None = None,
    ) -> Float[np.ndarray, "draws parameters"]:
        return self.solve_each(inputs, np.broadcast_to(losses, weights.shape), weights, start)

    @abstractmethod
    def solve_each(
        self,
        inputs: Inputs,
        losses: Float[np.ndarray, "draws rows"],
        weights: Float[np.ndarray, "draws rows"],
        start: Float[np.ndarray, "draws parameters"] | None = None,
    ) -> Float[np.ndarray, "draws parameters"]:
        """Solve as `solve`, with losses of its own for each draw."""


class CurvedLaw(MixingLaw):
    """A law that is fitted by Levenberg and Marquardt's method from many starts."""

    __slots__ = ()

    @abstractmethod
    def curve(
        self, shares: Float[np.ndarray, "rows parts"], theta: Float[np.ndarray, "draws parameters"]
    ) -> tuple[Float[np.ndarray, "draws rows"], Float[np.ndarray, "draws rows parameters"]]:
        """Return the loss at the searched parameters, and its derivatives."""

    @abstractmethod
    def starts(
        self,
        shares: Float[np.ndarray, "rows parts"],
        losses: Float[np.ndarray, "rows"],
        weights: Float[np.ndarray, "rows"],
    ) -> Iterator[Float[np.ndarray, "parameters"]]:
        """Yield searched parameters to start from."""

    @abstractmethod
    def bounds(self, most: float) -> tuple[Float[np.ndarray, "parameters"], Float[np.ndarray, "parameters"]]:
        """Return the bounds of the searched parameters; `most` is the largest loss."""

    def penalty(self) -> Float[np.ndarray, "rows parameters"]:
        """Return what the ridge multiplies the searched parameters by: its rows are further residuals."""
        return np.zeros((0, len(self.parameters)))

    def from_search(
        self, theta: Float[np.ndarray, "draws parameters"]
    ) -> Float[np.ndarray, "draws parameters"]:
        """Convert searched parameters to those of the formula."""
        return theta

    def to_search(
        self, found: Float[np.ndarray, "draws parameters"]
    ) -> Float[np.ndarray, "draws parameters"]:
        """Invert `from_search`."""
        return found

    def predict(
        self, inputs: Inputs, parameters: Float[np.ndarray, "draws parameters"]
    ) -> Float[np.ndarray, "draws rows"]:
        return self.curve(stack_shares(inputs, self.parts), self.to_search(parameters))[0]

    def solve_each(
        self,
        inputs: Inputs,
        losses: Float[np.ndarray, "draws rows"],
        weights: Float[np.ndarray, "draws rows"],
        start: Float[np.ndarray, "draws parameters"] | None = None,
    ) -> Float[np.ndarray, "draws parameters"]:
        shares = stack_shares(inputs, self.parts)
        if start is None:
            first = self._search(shares, losses.mean(0), weights.mean(0))
            theta = np.repeat(first[None], len(weights), 0)
        else:
            theta = self.to_search(start)
        theta, cost = self._polish(shares, losses, weights, theta, np.full(len(weights), _NO_RIDGE))
        if not len(self.penalty()):
            return self.from_search(theta)
        # The ridge is a normal prior, so it weighs as much as the noise: nothing where the law is exact.
        freedom = np.maximum(weights.sum(1) - len(self.parameters), 1.0)
        ridge = np.maximum(2 * cost / freedom / SPREAD**2, _NO_RIDGE)
        return self.from_search(self._polish(shares, losses, weights, theta, ridge)[0])

    def _search(
        self,
        shares: Float[np.ndarray, "rows parts"],
        losses: Float[np.ndarray, "rows"],
        weights: Float[np.ndarray, "rows"],
    ) -> Float[np.ndarray, "parameters"]:
        """Return the best of the minima found from all starts."""
        theta = np.stack(list(self.starts(shares, losses, weights)))
        error = ((self.curve(shares, theta)[0] / losses - 1) ** 2) @ weights
        theta = theta[np.argsort(error, kind="stable")[:_MOST_POLISHED]]
        same = (len(theta), len(losses))
        theta, cost = self._polish(
            shares,
            np.broadcast_to(losses, same),
            np.broadcast_to(weights, same),
            theta,
            np.full(len(theta), _NO_RIDGE),
        )
        return theta[np.argmin(cost)]

    def _polish(
        self,
        shares: Float[np.ndarray, "rows parts"],
        losses: Float[np.ndarray, "draws rows"],
        weights: Float[np.ndarray, "draws rows"],
        theta: Float[np.ndarray, "draws parameters"],
        ridge: Float[np.ndarray, "draws"],
    ) -> tuple[Float[np.ndarray, "draws parameters"], Float[np.ndarray, "draws"]]:
        roots, prior = np.sqrt(weights), self.penalty()
        prior = np.sqrt(ridge)[:, None, None] * prior

        def model(tried: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            values, slopes = self.curve(shares, tried)
            residuals = roots[chosen] * (values / losses[chosen] - 1)
            slopes = slopes * (roots[chosen] / losses[chosen])[:, :, None]
            pull = np.einsum("krp,kp->kr", prior[chosen], tried)
            return np.concatenate([residuals, pull], 1), np.concatenate([slopes, prior[chosen]], 1)

        return minimize_squares(model, theta, *self.bounds(float(losses.max())))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Linear(MixingLaw):
    """Σ_j b_j h_j."""

    parts: tuple[str, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(f"b_{part}" for part in self.parts)

    @property
    def formula(self) -> str:
        return "Σ b_j h_j"

    @property
    def procedure(self) -> tuple[str, ...]:
        return ("linear least squares of the relative error",)

    def predict(
        self, inputs: Inputs, parameters: Float[np.ndarray, "draws parameters"]
    ) -> Float[np.ndarray, "draws rows"]:
        return parameters @ stack_shares(inputs, self.parts).T

    def solve_each(
        self,
        inputs: Inputs,
        losses: Float[np.ndarray, "draws rows"],
        weights: Float[np.ndarray, "draws rows"],
        start: Float[np.ndarray, "draws parameters"] | None = None,
    ) -> Float[np.ndarray, "draws parameters"]:
        roots = np.sqrt(weights)
        design = (roots / losses)[:, :, None] * stack_shares(inputs, self.parts)
        return np.einsum("kpr,kr->kp", np.linalg.pinv(design), roots)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Mean(MixingLaw):
    """The same loss for every mixture."""

    parts: tuple[str, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("mean",)

    @property
    def formula(self) -> str:
        return "mean"

    @property
    def procedure(self) -> tuple[str, ...]:
        return ("least squares of the relative error",)

    def predict(
        self, inputs: Inputs, parameters: Float[np.ndarray, "draws parameters"]
    ) -> Float[np.ndarray, "draws rows"]:
        return np.repeat(parameters, len(stack_shares(inputs, self.parts)), 1)

    def solve_each(
        self,
        inputs: Inputs,
        losses: Float[np.ndarray, "draws rows"],
        weights: Float[np.ndarray, "draws rows"],
        start: Float[np.ndarray, "draws parameters"] | None = None,
    ) -> Float[np.ndarray, "draws parameters"]:
        return ((weights / losses).sum(1) / (weights / losses**2).sum(1))[:, None]


def leave_one_out(
    law: MixingLaw, shares: Inputs, losses: Float[np.ndarray, "rows"]
) -> Float[np.ndarray, "mixtures"]:
    """Return the relative error at each mixture of the law fitted without it: predicted over the mean
    measured loss, minus 1, in the order of `group_equal`.
    """
    units = group_equal({part: shares[part] for part in law.parts})
    number = int(units.max()) + 1
    weights = (units[None] != np.arange(number)[:, None]).astype(np.float64)
    found = law.solve(shares, losses, weights)
    predicted = law.predict(shares, found)
    first = [int(np.flatnonzero(units == unit)[0]) for unit in range(number)]
    means = np.array([losses[units == unit].mean() for unit in range(number)])
    return predicted[np.arange(number), first] / means - 1


def add_up(shares: Float[np.ndarray, "rows parts"]) -> Bool[np.ndarray, "rows"]:
    """Return whether the shares of each row add up to 1, but for three digits: 0.333 and so on are thirds."""
    # The last term: 0.333 + 0.333 + 0.333 is a rounding error further from 1 than 0.001.
    return np.abs(shares.sum(1) - 1) <= _ROUNDED * shares.shape[1] + 1e-9


def stack_shares(inputs: Inputs, parts: Sequence[str]) -> Float[np.ndarray, "rows parts"]:
    """Return the columns of `parts` side by side."""
    return np.stack([np.asarray(inputs[part], dtype=np.float64) for part in parts], 1)
