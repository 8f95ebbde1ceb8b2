"""Fit a law to a table of runs: the estimate, its bootstrap by run, and whether the table identifies it.

A law is a class: `Law`, or `ProjectedLaw` (projection.py) for one that is linear but for a few exponents. A
user's own law is a subclass in a file of theirs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from trimask.errors import UserError
from trimask.estimate import Estimate

Inputs = Mapping[str, Float[np.ndarray, "rows"]]
"""The columns that a law is a function of, by name: `n` and `d`, or the shares of a mixture."""

DRAWS = 2000
_LEVEL = 0.95
_MOST_ROUNDS = 60  # of reweighting; each starts where the one before ended
_SETTLED = 1e-7  # change of the relative residuals by a round
_MOST_CELLS = 50_000_000  # draws times rows: 400 MB of weights
_LEAST, _MOST = 1e-100, 1e100  # of values: powers of them must be numbers


class NotIdentified(UserError):
    """The table cannot tell the law's parameters; `reasons` say why and what would help."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(f"not identified: {'; '.join(reasons)}")
        self.reasons = tuple(reasons)


class Law(ABC):
    """The loss as a function of `inputs` and `parameters`, and how it is fitted."""

    __slots__ = ()

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Names of the columns that the loss is a function of."""

    @property
    @abstractmethod
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of their arrays."""

    @property
    @abstractmethod
    def formula(self) -> str:
        """The law in one line."""

    @property
    @abstractmethod
    def procedure(self) -> tuple[str, ...]:
        """How `solve` finds the parameters, in sentences for the report."""

    @abstractmethod
    def predict(
        self, inputs: Inputs, parameters: Float[np.ndarray, "draws parameters"]
    ) -> Float[np.ndarray, "draws rows"]:
        """Return the loss at each row under each draw of the parameters."""

    @abstractmethod
    def solve(
        self,
        inputs: Inputs,
        losses: Float[np.ndarray, "rows"],
        weights: Float[np.ndarray, "draws rows"],
        start: Float[np.ndarray, "draws parameters"] | None = None,
    ) -> Float[np.ndarray, "draws parameters"]:
        """Return the parameters that minimize Σ weight · (relative error of the loss)², for each row of
        weights: an estimate, or all draws of a bootstrap at once. `start`: of an earlier solution nearby.
        """

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Names of the numbers that `for_columns` takes: the fields of the class, by default."""
        return tuple(each.name for each in fields(cls)) if is_dataclass(cls) else ()

    @classmethod
    def for_columns(cls, names: Sequence[str], **options: float) -> "Law":
        """Return the law of a table that has columns `names` besides the loss. A law of any number of
        columns, such as the shares of a mixture, takes theirs from `names`.

        Raises:
            UserError: an option that it needs is missing.
        """
        missing = [each for each in cls.options() if each not in options and _is_required(cls, each)]
        if missing:
            raise UserError(f"{cls.__name__} needs --{missing[0]}: give a number")
        return cls(**options)

    def check_inputs(self, inputs: Inputs) -> None:  # noqa: B027
        """Raise UserError if the law has no loss at inputs such as these, measured or not."""

    def check(self, inputs: Inputs, losses: Float[np.ndarray, "rows"]) -> None:  # noqa: B027
        """Raise UserError if the law cannot be fitted to rows such as these, whose inputs are checked."""

    def find_doubts(self, fit: "Fit") -> tuple[str, ...]:
        """Return why the table does not identify the parameters; nothing if it does."""
        return ()


class Reweighting(ABC):
    """Weights of rows by their own residuals, found by iteration from equal ones."""

    __slots__ = ()

    @abstractmethod
    def weigh(self, residuals: Float[np.ndarray, "draws rows"]) -> Float[np.ndarray, "draws rows"]:
        """Return weights; `residuals` are predicted over measured losses, minus 1."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Huber(Reweighting):
    """Squares below `delta`, absolute values above: outliers pull no further. A `delta` well above the
    residuals is least squares.
    """

    delta: float = 1e-3

    def weigh(self, residuals: Float[np.ndarray, "draws rows"]) -> Float[np.ndarray, "draws rows"]:
        return self.delta / np.maximum(np.abs(residuals), self.delta)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Frontier(Reweighting):
    """Over-estimates count `factor` times: badly tuned runs lie above the frontier, never below it."""

    factor: float = 10.0

    def weigh(self, residuals: Float[np.ndarray, "draws rows"]) -> Float[np.ndarray, "draws rows"]:
        return np.where(residuals > 0, self.factor, 1.0)


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fit:
    """A law fitted to rows.

    Attributes:
        inputs, losses: the rows.
        units: of each row, the number of its run: rows of a run are drawn together.
        estimate: the parameters.
        draws: the same of each bootstrap draw.
    """

    law: Law
    inputs: Inputs
    losses: Float[np.ndarray, "rows"]
    units: Int[np.ndarray, "rows"]
    estimate: Float[np.ndarray, "parameters"]
    draws: Float[np.ndarray, "draws parameters"]

    @property
    def parameters(self) -> dict[str, Estimate]:
        """The parameters by name, with percentile intervals."""
        names = self.law.parameters
        return {
            name: _percentiles(float(self.estimate[i]), self.draws[:, i], self.num_units)
            for i, name in enumerate(names)
        }

    @property
    def num_units(self) -> int:
        return len(np.unique(self.units))

    @property
    def residuals(self) -> Float[np.ndarray, "rows"]:
        """Predicted over measured losses, minus 1."""
        return self.law.predict(self.inputs, self.estimate[None])[0] / self.losses - 1

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the table does not identify the law; empty if it does."""
        return self.law.find_doubts(self)

    def require_identified(self) -> "Fit":
        """Return the fit. Raise NotIdentified, with its doubts, if it has some."""
        doubts = self.doubts
        if doubts:
            raise NotIdentified(doubts)
        return self

    def column(self, name: str) -> Float[np.ndarray, "draws"]:
        """Return the draws of a parameter."""
        return self.draws[:, self.law.parameters.index(name)]

    def derive(
        self, function: Callable[[Mapping[str, Float[np.ndarray, "draws"]]], Float[np.ndarray, "draws"]]
    ) -> Estimate:
        """Return a function of the parameters (by name), with its interval."""
        names = self.law.parameters
        value = function({name: self.estimate[None, i] for i, name in enumerate(names)})
        draws = function({name: self.draws[:, i] for i, name in enumerate(names)})
        return _percentiles(float(value[0]), draws, self.num_units)

    def project(self, inputs: Inputs, *, is_run: bool = False) -> list[Estimate]:
        """Return the loss at each row of `inputs`, measured or not. The interval is of the law; if `is_run`,
        of one more run, whose own noise is drawn from the residuals.

        Raises:
            UserError: the law has no loss there.
        """
        self.law.check_inputs(inputs)
        values = self.law.predict(inputs, self.estimate[None])[0]
        draws = self.law.predict(inputs, self.draws)
        if is_run:
            freedom = max(len(self.losses) - len(self.estimate), 1)
            noise = self.residuals * np.sqrt(len(self.losses) / freedom)
            draws = draws / (1 + np.random.default_rng(0).choice(noise, draws.shape))
        return [
            _percentiles(float(value), draw, self.num_units)
            for value, draw in zip(values, draws.T, strict=True)
        ]


def fit_law(
    law: Law,
    inputs: Inputs,
    losses: Float[np.ndarray, "rows"],
    *,
    units: Int[np.ndarray, "rows"] | None = None,
    reweighting: Reweighting | None = None,
    num_draws: int = DRAWS,
    seed: int = 0,
) -> Fit:
    """Fit `law`, and draw its bootstrap.

    Args:
        units: the run of each row, as any numbers. By default rows of equal inputs are one: seeds of a
            setting share what the law misses there, so they are drawn together.
        reweighting: weights by residuals, in each draw too.
        num_draws: resamples of the units; 0 for the estimate alone.

    Raises:
        UserError: columns of different lengths, values that are negative or not within 1e-100 and 1e100, or
        rows that the law cannot hold. NotIdentified: fewer runs than parameters and one.
    """
    rows = {name: np.asarray(inputs[name], dtype=np.float64) for name in law.inputs}
    losses = np.asarray(losses, dtype=np.float64)
    _check(rows, losses)
    law.check_inputs(rows)
    law.check(rows, losses)
    if num_draws * len(losses) > _MOST_CELLS:
        most = _MOST_CELLS // len(losses)
        raise UserError(
            f"{num_draws:,} draws of {len(losses):,} rows do not fit in memory: draw at most {most:,}, or "
            "leave checkpoints out, one row a run"
        )
    units = group_equal(rows) if units is None else np.unique(units, return_inverse=True)[1]
    num_units, num_parameters = int(units.max()) + 1, len(law.parameters)
    if num_units <= num_parameters:
        runs = "1 run" if num_units == 1 else f"{num_units} runs"
        raise NotIdentified([f"{runs} for {num_parameters} parameters: run at least {num_parameters + 1}"])
    estimate = _solve(law, rows, losses, np.ones((1, len(losses))), reweighting)
    for name, value in zip(law.parameters, estimate[0], strict=True):
        if not np.isfinite(value):  # of a user's law: ours have none such within the limits above
            raise UserError(
                f"{name} of {law.formula} comes out as {value:g}: the law must be a number at all rows and "
                "at all parameters that it is searched at"
            )
    # A few less than there are: residuals spread less than the noise, by the fitted parameters [D]. With all
    # of them 95 % intervals of 25 runs hold the truth 93 % of the time, with p fewer 98 %.
    size = num_units - num_parameters // 2
    counts = np.random.default_rng(seed).multinomial(size, np.full(num_units, 1 / num_units), num_draws)
    draws = np.empty((0, num_parameters))
    if num_draws:
        draws = _solve(law, rows, losses, counts[:, units].astype(np.float64), reweighting)
    return Fit(law=law, inputs=rows, losses=losses, units=units, estimate=estimate[0], draws=draws)


def group_equal(inputs: Inputs) -> Int[np.ndarray, "rows"]:
    """Number the rows so that those of equal inputs share a number."""
    return np.unique(np.stack(list(inputs.values()), 1), axis=0, return_inverse=True)[1].reshape(-1)


def _is_required(cls: type, name: str) -> bool:
    (field,) = (each for each in fields(cls) if each.name == name)
    return field.default is MISSING and field.default_factory is MISSING


def _solve(
    law: Law,
    inputs: Inputs,
    losses: Float[np.ndarray, "rows"],
    weights: Float[np.ndarray, "draws rows"],
    reweighting: Reweighting | None,
) -> Float[np.ndarray, "draws parameters"]:
    found = law.solve(inputs, losses, weights)
    if reweighting is None:
        return found
    before = law.predict(inputs, found) / losses - 1
    moving = np.arange(len(found))
    for _ in range(_MOST_ROUNDS):
        factors = reweighting.weigh(before[moving])
        found[moving] = law.solve(inputs, losses, weights[moving] * factors, found[moving])
        residuals = law.predict(inputs, found[moving]) / losses - 1
        is_moving = np.abs(residuals - before[moving]).max(1) > _SETTLED
        before[moving] = residuals
        moving = moving[is_moving]
        if not len(moving):
            break
    return found


def _percentiles(value: float, draws: Float[np.ndarray, "draws"], n: int) -> Estimate:
    if not len(draws):
        return Estimate(value=value, low=-np.inf, high=np.inf, n=n)
    # Of the draws themselves, without means of two: a draw may be infinite.
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], method="nearest")
    return Estimate(value=value, low=float(low), high=float(high), n=n)


def _check(inputs: Inputs, losses: Float[np.ndarray, "rows"]) -> None:
    for name, values in {**inputs, "loss": losses}.items():
        if values.shape != losses.shape or losses.ndim != 1 or not len(losses):
            raise UserError(
                f"{name} has shape {values.shape}, and the losses {losses.shape}: give one value a row"
            )
        bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if len(bad):
            raise UserError(
                f"{name} is {values[bad[0]]:g} in row {bad[0] + 1}: it must be finite and not negative"
            )
        bad = np.flatnonzero((values > 0) & ((values < _LEAST) | (values > _MOST)))
        if len(bad):
            raise UserError(
                f"{name} is {values[bad[0]]:g} in row {bad[0] + 1}, and powers of that are no numbers: "
                f"choose a unit that keeps it within {_LEAST:g} and {_MOST:g}"
            )
    for number in np.flatnonzero(losses == 0):
        raise UserError(f"a loss is 0, in row {number + 1}: errors are relative, so losses must be above 0")
