"""Scaling laws: the loss as a function of parameters N and data D, and the optimum at a given compute."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

import numpy as np
from jaxtyping import Float

from trimask.errors import UserError
from trimask.laws.fitting import Fit, Inputs
from trimask.laws.projection import Exponent, ProjectedLaw

EXPONENTS: Mapping[str, Exponent] = MappingProxyType(
    {"alpha": Exponent(low=0.02, high=1.2), "beta": Exponent(low=0.02, high=1.2)}
)
FLOPS_PER_TOKEN = 6.0
"""C = 6 N D: multiply-adds × 2, forwards and twice that backwards."""
_WIDEST = 0.2  # interval of a
_LEAST_SPAN = 8.0
_ROUNDING = 1e-6  # spread of the draws of rows without noise
_MOST_ALIKE = 0.996  # 0.99 on a good grid

Draws = Mapping[str, Float[np.ndarray, "draws"]]


class PowerLaw(ProjectedLaw):
    """A law with a term A/N^alpha and a term B/D^beta: what follows from these two alone."""

    __slots__ = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("n", "d")

    @property
    def coefficients(self) -> tuple[str, ...]:
        return ("E", "A", "B")

    @property
    def exponents(self) -> Mapping[str, Exponent]:
        return EXPONENTS

    def check_inputs(self, inputs: Inputs) -> None:
        for name in self.inputs:
            for number in np.flatnonzero(~(inputs[name] > 0)):
                where = f" in row {number + 1}" if len(inputs[name]) > 1 else ""
                raise UserError(f"{name} is 0{where}: a power law needs values above 0")

    def find_doubts(self, fit: Fit) -> tuple[str, ...]:
        return (*ProjectedLaw.find_doubts(self, fit), *find_doubts(fit))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Chinchilla(PowerLaw):
    """L = E + A/N^alpha + B/D^beta [L: Hoffmann et al. 2022]."""

    @classmethod
    def options(cls) -> tuple[str, ...]:
        return ("ceiling",)

    @classmethod
    def for_columns(cls, names: Sequence[str], **options: float) -> PowerLaw:
        """Return the plain law; `Bounded` with a `ceiling`; `DataConstrained` of a table with a column u."""
        if "u" in names and options:
            raise UserError("the law of repeated data (a column u) has no ceiling: leave one of them out")
        if "u" in names:
            return DataConstrained()
        return Bounded(**options) if options else cls()

    @property
    def formula(self) -> str:
        return "L = E + A/N^alpha + B/D^beta"

    def columns(
        self,
        inputs: Inputs,
        exponents: Mapping[str, Float[np.ndarray, "points 1"]],
        losses: Float[np.ndarray, "rows"],
    ) -> tuple[Float[np.ndarray, "#points rows"], ...]:
        return (
            np.ones((1, len(losses))),
            inputs["n"] ** -exponents["alpha"],
            inputs["d"] ** -exponents["beta"],
        )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Bounded(PowerLaw):
    """L = E + (L0 − E) · h/(1 + h), h = A/N^alpha + B/D^beta: for tiny models, where A/N^alpha alone has no
    ceiling (arXiv 2605.09189) [L].

    It is linear after it is rearranged: L = E + (L0 − L) · h.

    Attributes:
        ceiling: L0, the loss of knowing nothing: for a NELBO, the logarithm of the number of codes.
    """

    ceiling: float

    def __post_init__(self) -> None:
        if not 0 < self.ceiling < math.inf:
            raise UserError(f"ceiling {self.ceiling:g}: give a finite loss above all of the table")

    @property
    def formula(self) -> str:
        return f"L = E + (L0 − E)·h/(1 + h), h = A/N^alpha + B/D^beta, L0 = {self.ceiling:g}"

    def check(self, inputs: Inputs, losses: Float[np.ndarray, "rows"]) -> None:
        if not (losses < self.ceiling).all():
            raise UserError(
                f"a loss is {losses.max():g}, not below the ceiling of {self.ceiling:g}: give a higher one"
            )

    def columns(
        self,
        inputs: Inputs,
        exponents: Mapping[str, Float[np.ndarray, "points 1"]],
        losses: Float[np.ndarray, "rows"],
    ) -> tuple[Float[np.ndarray, "#points rows"], ...]:
        room = self.ceiling - losses
        one, by_size, by_data = Chinchilla().columns(inputs, exponents, losses)
        return one, room * by_size, room * by_data

    def weigh_rows(self, losses: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        # The rearranged residual is (1 + h) times that of L, and 1/(1 + h) = (L0 − L)/(L0 − E).
        return (self.ceiling - losses) / losses

    def predict(
        self, inputs: Inputs, parameters: Float[np.ndarray, "draws parameters"]
    ) -> Float[np.ndarray, "draws rows"]:
        terms = parameters.copy()
        terms[:, 0] = 0.0
        h = Chinchilla().predict(inputs, terms)
        return (parameters[:, :1] + h * self.ceiling) / (1 + h)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class DataConstrained(PowerLaw):
    """L = E + A/N^alpha + B/D'^beta, where D' = U + U·R*·(1 − e^(−R/R*)) is what D is worth with U of it
    unique, R = D/U − 1 [L: Muennighoff et al. 2023]. Without repetition (U ≥ D) the plain law.
    """

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("n", "d", "u")

    @property
    def exponents(self) -> Mapping[str, Exponent]:
        return {**EXPONENTS, "R*": Exponent(low=0.3, high=300.0, is_log=True)}

    @property
    def formula(self) -> str:
        return "L = E + A/N^alpha + B/D'^beta, D' = U + U·R*·(1 − exp(−R/R*)), R = D/U − 1"

    def columns(
        self,
        inputs: Inputs,
        exponents: Mapping[str, Float[np.ndarray, "points 1"]],
        losses: Float[np.ndarray, "rows"],
    ) -> tuple[Float[np.ndarray, "#points rows"], ...]:
        worth = {"n": inputs["n"], "d": count_effective(inputs["d"], inputs["u"], exponents["R*"])}
        return Chinchilla().columns(worth, exponents, losses)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Pinned(ProjectedLaw):
    """`law` with its E known.

    Attributes:
        floor: E.
    """

    law: PowerLaw
    floor: float

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.law.inputs

    @property
    def coefficients(self) -> tuple[str, ...]:
        return self.law.coefficients[1:]

    @property
    def exponents(self) -> Mapping[str, Exponent]:
        return self.law.exponents

    @property
    def formula(self) -> str:
        return f"{self.law.formula}, E = {self.floor:g}"

    @property
    def offset(self) -> float:
        return self.floor

    def columns(
        self,
        inputs: Inputs,
        exponents: Mapping[str, Float[np.ndarray, "points 1"]],
        losses: Float[np.ndarray, "rows"],
    ) -> tuple[Float[np.ndarray, "#points rows"], ...]:
        return self.law.columns(inputs, exponents, losses)[1:]

    def weigh_rows(self, losses: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        return self.law.weigh_rows(losses)

    def predict(
        self, inputs: Inputs, parameters: Float[np.ndarray, "draws parameters"]
    ) -> Float[np.ndarray, "draws rows"]:
        floors = np.full((len(parameters), 1), self.floor)
        return self.law.predict(inputs, np.concatenate([floors, parameters], 1))


def count_effective(
    d: Float[np.ndarray, "rows"], unique: Float[np.ndarray, "rows"], half_life: Float[np.ndarray, "points 1"]
) -> Float[np.ndarray, "points rows"]:
    """Return D', what D is worth when `unique` of it is distinct and repetition wears off at R* =
    `half_life`.
    """
    u = np.minimum(unique, d)
    repeats = d / u - 1
    return u - u * half_life * np.expm1(-repeats / half_life)


def share_of_size(draws: Draws) -> Float[np.ndarray, "draws"]:
    """Return a of N* = G (C/6)^a: β/(α + β)."""
    return draws["beta"] / (draws["alpha"] + draws["beta"])


def share_of_data(draws: Draws) -> Float[np.ndarray, "draws"]:
    """Return b of D* = (C/6)^b / G: α/(α + β)."""
    return draws["alpha"] / (draws["alpha"] + draws["beta"])


def balance(draws: Draws) -> Float[np.ndarray, "draws"]:
    """Return G = (αA/βB)^(1/(α + β)); not a number where the loss falls with neither N nor D."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio = draws["alpha"] * draws["A"] / (draws["beta"] * draws["B"])
        return ratio ** (1 / (draws["alpha"] + draws["beta"]))


def best_size(draws: Draws, flops: float) -> Float[np.ndarray, "draws"]:
    """Return N* at compute C = 6 N D."""
    return balance(draws) * (flops / FLOPS_PER_TOKEN) ** share_of_size(draws)


def best_data_at(draws: Draws, flops: float) -> Float[np.ndarray, "draws"]:
    """Return D* at compute C = 6 N D; infinite where the loss does not fall with N."""
    with np.errstate(divide="ignore"):
        return (flops / FLOPS_PER_TOKEN) ** share_of_data(draws) / balance(draws)


def best_data(draws: Draws, size: float) -> Float[np.ndarray, "draws"]:
    """Return D* for N: where N is N* of its compute, αA/N^α = βB/D^β; infinite or none as above."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = draws["beta"] * draws["B"] / (draws["alpha"] * draws["A"])
    with np.errstate(over="ignore"):
        return (ratio * size ** draws["alpha"]) ** (1 / draws["beta"])


def find_doubts(fit: Fit) -> tuple[str, ...]:
    """Return why a table does not identify a power law, besides exponents at their ends."""
    found = []
    for name in ("n", "d"):
        span = float(fit.inputs[name].max() / fit.inputs[name].min())
        if span < _LEAST_SPAN:
            found.append(f"{name} spans a factor of {span:.3g}: it needs {_LEAST_SPAN:g}, and 32 is good")
    found += [
        f"{name} = 0: the loss does not fall with {of}"
        for name, of in (("A", "n"), ("B", "d"))
        if fit.parameters[name].value == 0
    ]
    if not len(fit.draws):
        return tuple(found)
    if fit.parameters["E"].low <= 0:
        found.append("the interval of E reaches 0: longer and larger runs show where the loss levels off")
    share = fit.derive(share_of_size)
    if not share.high - share.low <= _WIDEST:
        found.append(
            f"the interval of a [{share.low:.2f}, {share.high:.2f}] is wider than {_WIDEST:g}: add runs at "
            "the corners of the grid, or seeds"
        )
    alike = correlate(fit)
    if alike > _MOST_ALIKE:
        found.append(f"A and alpha move together (correlation {alike:.3f}): widen the range of n")
    return tuple(found)


def correlate(fit: Fit) -> float:
    """Return |correlation| of α and the term of N at the geometric mean of the sizes: the A of normalized
    sizes. Of raw sizes it is always near 1, since A is the term at N = 1.
    """
    alpha = fit.column("alpha")
    term = fit.column("A") * np.exp(np.log(fit.inputs["n"]).mean()) ** -alpha
    if not (alpha.std() > _ROUNDING and term.std() > 0):
        return 0.0
    return float(abs(np.corrcoef(alpha, term)[0, 1]))
