import dataclasses
from collections.abc import Mapping
from typing import final

import numpy as np
import pytest
from scipy import optimize

from law_surfaces import TRUTH, grid, loss_of, with_noise
from trimask.errors import UserError
from trimask.laws.fitting import Frontier, Huber, Inputs, NotIdentified, Reweighting, fit_law, group_equal
from trimask.laws.projection import Exponent, ProjectedLaw
from trimask.laws.scaling import Chinchilla, share_of_size

INPUTS = grid()
NOISY = with_noise(loss_of(INPUTS), 0.005, seed=3)


def test_equal_arguments_give_equal_draws():
    first, again = (fit_law(Chinchilla(), INPUTS, NOISY, num_draws=100) for _ in range(2))
    np.testing.assert_array_equal(first.draws, again.draws)
    other = fit_law(Chinchilla(), INPUTS, NOISY, num_draws=100, seed=1)
    assert not np.array_equal(first.draws, other.draws)
    np.testing.assert_array_equal(first.estimate, other.estimate)


def test_rows_of_a_run_are_drawn_together():
    """Rows that repeat their run say nothing new: intervals are those of the runs alone."""
    twice = {name: np.concatenate([each, each]) for name, each in INPUTS.items()}
    units = np.tile(np.arange(len(NOISY)), 2)
    once = fit_law(Chinchilla(), INPUTS, NOISY, units=np.arange(25), num_draws=200)
    paired = fit_law(Chinchilla(), twice, np.tile(NOISY, 2), units=units, num_draws=200)
    assert paired.num_units == once.num_units == len(NOISY)
    np.testing.assert_allclose(np.sort(paired.column("alpha")), np.sort(once.column("alpha")), rtol=1e-4)
    # Without names rows of equal inputs are one run.
    np.testing.assert_array_equal(
        fit_law(Chinchilla(), twice, np.tile(NOISY, 2), num_draws=50).draws,
        fit_law(Chinchilla(), twice, np.tile(NOISY, 2), units=group_equal(twice), num_draws=50).draws,
    )
    apart = fit_law(Chinchilla(), twice, np.tile(NOISY, 2), units=np.arange(50), num_draws=200)
    width, narrow = (np.ptp(fit.column("alpha")) for fit in (paired, apart))
    assert narrow < 0.85 * width


def test_names_of_runs_are_any_numbers():
    named = fit_law(Chinchilla(), INPUTS, NOISY, units=100 + 7 * np.arange(25), num_draws=50)
    plain = fit_law(Chinchilla(), INPUTS, NOISY, units=np.arange(25), num_draws=50)
    np.testing.assert_array_equal(named.draws, plain.draws)


@pytest.mark.parametrize("way", [Huber(delta=2e-3), Frontier(factor=10.0)])
def test_reweighting_minimizes_its_own_loss(way: Reweighting):
    """The weights' fixed point against a search that knows the loss itself."""
    losses = NOISY.copy()
    losses[7] *= 1.1  # a run that went wrong
    law = Chinchilla()
    fit = fit_law(law, INPUTS, losses, reweighting=way, num_draws=0)

    def cost(point: np.ndarray) -> float:
        errors = law.predict(INPUTS, np.array([[*np.exp(point[:3]), *point[3:]]]))[0] / losses - 1
        if isinstance(way, Huber):
            size = np.abs(errors)
            parts = np.where(size < way.delta, errors**2 / 2, way.delta * (size - way.delta / 2))
            return float(parts.sum()) * 1e6
        assert isinstance(way, Frontier)
        return float((np.where(errors > 0, way.factor, 1.0) * errors**2).sum()) * 1e6

    own = np.array([*np.log(fit.estimate[:3]), *fit.estimate[3:]])
    options = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-10, "fatol": 1e-10}
    best = optimize.minimize(cost, own, method="Nelder-Mead", options=options)
    assert cost(own) <= best.fun * (1 + 1e-4)


def test_an_outlier_moves_the_robust_fit_less():
    losses = NOISY.copy()
    losses[12] *= 1.2
    plain, robust = (
        fit_law(Chinchilla(), INPUTS, losses, reweighting=way, num_draws=0) for way in (None, Huber())
    )
    truth = loss_of(INPUTS)
    errors = [np.abs(f.law.predict(INPUTS, f.estimate[None])[0] / truth - 1).max() for f in (plain, robust)]
    assert errors[1] < 0.5 * errors[0]


def test_a_projection_holds_the_law_and_a_run_holds_its_noise_too():
    fit = fit_law(Chinchilla(), INPUTS, NOISY)
    point = {"n": np.array([5e6]), "d": np.array([9e6])}
    truth = float(loss_of(point)[0])
    (law,), (run,) = fit.project(point), fit.project(point, is_run=True)
    assert law.low < truth < law.high
    assert run.value == law.value and run.high - run.low > law.high - law.low
    inside = fit.project({"n": np.array([2e5]), "d": np.array([5e5])}, is_run=True)[0]
    assert 0.01 < (inside.high - inside.low) / inside.value < 0.04  # ± 2 of 0.5 %, and the law's own


def test_a_derived_value_is_that_of_the_estimate():
    fit = fit_law(Chinchilla(), INPUTS, loss_of(INPUTS), num_draws=20)
    share = fit.derive(share_of_size)
    assert share.value == pytest.approx(TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"]), abs=1e-6)
    assert share.high - share.low < 1e-6


def test_too_few_runs_are_refused():
    rows = {name: each[:5] for name, each in INPUTS.items()}
    with pytest.raises(NotIdentified, match="5 runs for 5 parameters: run at least 6"):
        fit_law(Chinchilla(), rows, NOISY[:5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": np.full(25, np.nan)}, "n is nan in row 1"),
        ({"d": -INPUTS["d"]}, "d is -70000 in row 1"),
        ({"d": INPUTS["d"][:3]}, r"d has shape \(3,\)"),
        ({"n": 0 * INPUTS["n"]}, "n is 0 in row 1: a power law needs values above 0"),
    ],
)
def test_rows_that_no_law_can_hold(change: dict[str, np.ndarray], message: str):
    with pytest.raises(UserError, match=message):
        fit_law(Chinchilla(), {**INPUTS, **change}, NOISY)


def test_a_loss_of_0_is_refused():
    with pytest.raises(UserError, match="a loss is 0, in row 3"):
        fit_law(Chinchilla(), INPUTS, np.where(np.arange(25) < 2, NOISY, 0))


@final
class Broken(ProjectedLaw):
    """A law whose author divided by 0."""

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("d",)

    @property
    def coefficients(self) -> tuple[str, ...]:
        return ("E", "B")

    @property
    def formula(self) -> str:
        return "L = E + B/D^beta"

    @property
    def exponents(self) -> Mapping[str, Exponent]:
        return {"beta": Exponent(low=0.02, high=1.2)}

    def columns(
        self, inputs: Inputs, exponents: Mapping[str, np.ndarray], losses: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        return np.full((1, len(losses)), np.nan), inputs["d"] ** -exponents["beta"]


def test_a_users_law_that_is_no_number_identifies_nothing():
    with pytest.raises(UserError, match=r"E of L = E .* comes out as nan: the law must be a number"):
        fit_law(Broken(), INPUTS, NOISY, num_draws=0)


def test_doubts_are_raised_as_reasons():
    fit = fit_law(Chinchilla(), {**INPUTS, "n": np.linspace(1e5, 2e5, 25)}, NOISY, num_draws=50)
    with pytest.raises(NotIdentified) as raised:
        fit.require_identified()
    assert raised.value.reasons == fit.doubts
    good = fit_law(Chinchilla(), INPUTS, loss_of(INPUTS), num_draws=50)
    assert good.require_identified() is good
    assert dataclasses.replace(good, draws=good.draws[:0]).parameters["E"].has_interval is False


def test_draws_that_do_not_fit_in_memory_are_refused():
    inputs = grid(sizes=150, lengths=150)
    with pytest.raises(UserError, match="22,500 rows do not fit in memory: draw at most 2,222"):
        fit_law(Chinchilla(), inputs, loss_of(inputs), num_draws=4000)
