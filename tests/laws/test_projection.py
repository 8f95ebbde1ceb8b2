from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import pytest
from scipy import optimize

from law_surfaces import TRUTH, grid, loss_of, with_noise
from trimask.errors import UserError
from trimask.laws import projection
from trimask.laws.fitting import Inputs, fit_law
from trimask.laws.projection import Exponent, ProjectedLaw, solve_non_negative
from trimask.laws.scaling import Chinchilla


@pytest.mark.parametrize("num_columns", [1, 2, 3, 4])
def test_non_negative_least_squares_agrees_with_lawson_and_hanson(num_columns: int):
    rng = np.random.default_rng(num_columns)
    x = rng.normal(size=(200, 8, num_columns))
    y = rng.normal(size=(200, 8))
    found, gain = solve_non_negative(np.einsum("prc,prd->pcd", x, x), np.einsum("prc,pr->pc", x, y))
    known = [optimize.nnls(*each) for each in zip(x, y, strict=True)]
    np.testing.assert_allclose(found, [c for c, _ in known], atol=1e-9)
    np.testing.assert_allclose((y**2).sum(1) - gain, [r**2 for _, r in known], rtol=1e-9)
    assert (found == 0).any() and (found > 0).any()


def test_an_exponent_maps_its_range_and_back():
    for each in (Exponent(low=0.02, high=1.2), Exponent(low=0.3, high=300.0, is_log=True)):
        unit = np.linspace(0, 1, 5)
        np.testing.assert_allclose(each.scale(unit)[[0, -1]], [each.low, each.high])
        np.testing.assert_allclose(each.unscale(each.scale(unit)), unit, atol=1e-12)


def test_the_solution_is_the_least_squares_of_all_parameters():
    """A joint search over all five, from the truth, finds nothing better."""
    inputs = grid()
    losses = with_noise(loss_of(inputs), 0.005, seed=1)
    law = Chinchilla()
    (found,) = law.solve(inputs, losses, np.ones((1, len(losses))))

    def errors(point: np.ndarray) -> np.ndarray:
        logs = np.array([*np.exp(point[:3]), *point[3:]])
        return law.predict(inputs, logs[None])[0] / losses - 1

    truth = np.array(list(TRUTH.values()))
    start = [*np.log(truth[:3]), *truth[3:]]
    joint = optimize.least_squares(errors, start, x_scale=[0.1, 1, 1, 0.1, 0.1], xtol=1e-15, ftol=1e-15)
    np.testing.assert_allclose([*np.exp(joint.x[:3]), *joint.x[3:]], found, rtol=1e-4)
    own = ((law.predict(inputs, found[None])[0] / losses - 1) ** 2).sum()
    assert own <= 2 * joint.cost * (1 + 1e-9)


def test_weights_count_rows():
    """A row of weight 3 is three rows, and one of weight 0 is none: alone, or among other draws."""
    inputs = grid()
    losses = with_noise(loss_of(inputs), 0.005, seed=2)
    weights = np.random.default_rng(0).integers(0, 4, len(losses))
    law = Chinchilla()
    repeated = {name: np.repeat(each, weights) for name, each in inputs.items()}
    (known,) = law.solve(repeated, np.repeat(losses, weights), np.ones((1, int(weights.sum()))))
    draws = np.stack([np.ones(len(losses)), weights.astype(float)])
    np.testing.assert_allclose(law.solve(inputs, losses, draws)[1], known, rtol=1e-6)
    np.testing.assert_allclose(law.solve(inputs, losses, draws[1:])[0], known, rtol=1e-6)


def test_a_coefficient_that_the_rows_do_not_want_is_0():
    inputs = grid()
    losses = 3 - 0.1 * np.log(inputs["n"] / 40e3) / 10 + 0 * inputs["d"]
    (found,) = Chinchilla().solve(inputs, losses, np.ones((1, len(losses))))
    assert found[2] == pytest.approx(0.0, abs=1e-9)
    assert (found >= 0).all()


@final
@dataclass(frozen=True)
class Misshapen(ProjectedLaw):
    """A user's law with a mistake: too few rows, or too few columns."""

    is_short: bool

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("d",)

    @property
    def coefficients(self) -> tuple[str, ...]:
        return ("E", "B")

    @property
    def exponents(self) -> Mapping[str, Exponent]:
        return {"beta": Exponent(low=0.02, high=1.2)}

    @property
    def formula(self) -> str:
        return "L = E + B/D^beta"

    def columns(
        self, inputs: Inputs, exponents: Mapping[str, np.ndarray], losses: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        column = inputs["d"] ** -exponents["beta"]
        return (np.ones((1, len(losses) - 1)), column) if self.is_short else (column,)


@pytest.mark.parametrize(
    ("is_short", "match"),
    [
        (True, r"the column of E has shape \(1, 24\): return"),
        (False, "returns 1 columns, and the law has the"),
    ],
)
def test_a_law_whose_columns_do_not_fit_is_told_which(is_short: bool, match: str):
    inputs = {"d": np.geomspace(1e5, 1e8, 25)}
    with pytest.raises(UserError, match=match):
        fit_law(Misshapen(is_short=is_short), inputs, 2 + inputs["d"] ** -0.3, num_draws=0)


def test_the_grid_is_searched_in_parts_that_fit_in_memory(monkeypatch: pytest.MonkeyPatch):
    """Whole, the grid of 4,096 points at 20,000 rows would be 6 GB; the parts find the same point."""
    inputs = grid()
    losses = with_noise(loss_of(inputs), 0.01, seed=0)
    weights = np.random.default_rng(0).multinomial(25, np.full(25, 1 / 25), 7).astype(np.float64)
    whole = [Chinchilla().solve(inputs, losses, each) for each in (weights[:1], weights)]
    cells = 9 * 25 * 100
    monkeypatch.setattr(projection, "_MOST_CELLS", cells)
    seen: list[int] = []
    columns = Chinchilla.columns

    def spy(
        self: Chinchilla, inputs: Inputs, exponents: Mapping[str, np.ndarray], losses: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        seen.append(exponents["alpha"].size)
        return columns(self, inputs, exponents, losses)

    monkeypatch.setattr(Chinchilla, "columns", spy)
    parts = [Chinchilla().solve(inputs, losses, each) for each in (weights[:1], weights)]
    assert max(seen) == 100
    for found, known in zip(parts, whole, strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-9)
