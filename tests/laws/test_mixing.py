"""Mixing laws on planted surfaces: parameters, predictions and best shares are known."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares

from trimask.errors import UserError
from trimask.laws.best_mixture import Goal, Limits, choose_mixture, divergence
from trimask.laws.bounded_least_squares import minimize_squares
from trimask.laws.catalog import resolve_law
from trimask.laws.fitting import Fit, fit_law
from trimask.laws.mixing import Additive, Exponential, fit_mixing
from trimask.laws.mixing_law import Linear, Mean, MixingLaw, leave_one_out

PARTS = ("text", "image", "speech")
# Near the corners, along the sides, between corners and middle, the middle.
MIXTURES = np.array(
    [
        *{
            row
            for start in ((0.9, 0.05, 0.05), (0.64, 0.34, 0.02), (0.5, 0.25, 0.25), (1 / 3, 1 / 3, 1 / 3))
            for row in itertools.permutations(start)
        }
    ]
)
MIXTURES = MIXTURES[np.lexsort(MIXTURES.T)]
ELSEWHERE = np.array([(0.48, 0.40, 0.12), (0.12, 0.48, 0.40), (0.40, 0.12, 0.48), (0.2, 0.2, 0.6)])
NOISE = 0.003

EXPONENTIAL, ADDITIVE = Exponential(parts=PARTS), Additive(parts=PARTS)
PLANTED = [
    (EXPONENTIAL, [4.0, 0.6, -2.3, 0.4]),
    (EXPONENTIAL, [2.0, 1.5, 0.3, 1.2]),
    (EXPONENTIAL, [6.0, -1.5, 0.3, -0.2]),
    (ADDITIVE, [2.0, 0.3, 0.05, 0.1, 0.3, 0.5, 0.9]),
    (ADDITIVE, [5.0, 0.6, 0.02, 0.01, 0.1, 1.5, 0.5]),
]


def columns(rows: np.ndarray, parts: tuple[str, ...] = PARTS) -> dict[str, np.ndarray]:
    return {part: rows[:, i] for i, part in enumerate(parts)}


def surface(law: MixingLaw, planted: list[float], rows: np.ndarray = MIXTURES) -> np.ndarray:
    return law.predict(columns(rows, law.parts), np.array([planted]))[0]


def with_noise(losses: np.ndarray, seed: int) -> np.ndarray:
    return losses * (1 + NOISE * np.random.default_rng(seed).standard_normal(len(losses)))


def test_a_planted_loss_is_the_formula():
    h = np.array([[0.2, 0.3, 0.5]])
    assert surface(EXPONENTIAL, [4.0, 0.6, -2.3, 0.4], h)[0] == pytest.approx(
        4.0 + np.exp(0.6 * 0.2 - 2.3 * 0.3 + 0.4 * 0.5), rel=1e-14
    )
    assert surface(ADDITIVE, [2.0, 0.3, 0.05, 0.1, 0.3, 0.5, 0.9], h)[0] == pytest.approx(
        2.0 + 1 / (0.3 * 0.2**0.3 + 0.05 * 0.3**0.5 + 0.1 * 0.5**0.9), rel=1e-14
    )


@pytest.mark.parametrize(("law", "planted"), PLANTED)
def test_planted_laws_are_recovered_without_noise(law: MixingLaw, planted: list[float]):
    fit = fit_mixing(law, columns(MIXTURES), surface(law, planted), num_draws=0)
    np.testing.assert_allclose(fit.estimate, planted, rtol=1e-6)
    assert fit.doubts == ()
    assert np.abs(leave_one_out(law, columns(MIXTURES), surface(law, planted))).max() < 1e-6


def test_five_parts():
    parts = ("a", "b", "c", "d", "e")
    law = Exponential(parts=parts)
    rows = np.random.default_rng(0).dirichlet(np.ones(5), 20) * 0.9 + 0.02
    planted = [3.0, 0.5, -0.8, 0.1, 0.9, -0.3]
    fit = fit_mixing(law, columns(rows, parts), surface(law, planted, rows), num_draws=0)
    np.testing.assert_allclose(fit.estimate, planted, rtol=1e-6)
    powers = [2.0, *[0.2, 0.1, 0.05, 0.1, 0.3], *[0.3, 0.9, 0.5, 1.2, 0.2]]
    additive = Additive(parts=parts)
    fit = fit_mixing(additive, columns(rows, parts), surface(additive, powers, rows), num_draws=0)
    np.testing.assert_allclose(fit.estimate, powers, rtol=1e-6)


@pytest.mark.parametrize(("law", "planted"), [PLANTED[0], PLANTED[3]])
def test_intervals_hold_what_was_planted(law: MixingLaw, planted: list[float]):
    """Of the losses at four mixtures elsewhere in 20 noisy studies, nominally 95 %: 85 % is two standard
    errors below if studies alone are independent.
    """
    inside = []
    for seed in range(20):
        fit = fit_mixing(
            law, columns(MIXTURES), with_noise(surface(law, planted), seed), num_draws=200, seed=seed
        )
        true = surface(law, planted, ELSEWHERE)
        inside += [e.low <= v <= e.high for e, v in zip(fit.project(columns(ELSEWHERE)), true, strict=True)]
    assert np.mean(inside) > 0.85


def test_seeds_of_a_mixture_are_drawn_together():
    """Copies of a run are no evidence: intervals must not shrink by them."""
    losses = with_noise(surface(*PLANTED[0]), 0)
    once = fit_mixing(EXPONENTIAL, columns(MIXTURES), losses, num_draws=300)
    rows = np.repeat(MIXTURES, 4, 0)
    often = fit_mixing(EXPONENTIAL, columns(rows), np.repeat(losses, 4), num_draws=300)
    np.testing.assert_allclose(often.estimate, once.estimate, rtol=2e-3)  # the ridge is weaker
    for one, four in zip(once.project(columns(ELSEWHERE)), often.project(columns(ELSEWHERE)), strict=True):
        assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.05)


def test_fits_of_several_losses_draw_the_same_mixtures():
    losses = with_noise(surface(*PLANTED[0]), 0)
    one, two = (
        fit_mixing(EXPONENTIAL, columns(MIXTURES), each, num_draws=5) for each in (losses, 2 * losses)
    )
    draws = [EXPONENTIAL.predict(columns(ELSEWHERE), fit.draws) for fit in (one, two)]
    np.testing.assert_allclose(2 * draws[0], draws[1], rtol=1e-5)


@pytest.mark.parametrize(("right", "planted", "wrong"), [(*PLANTED[3], EXPONENTIAL), (*PLANTED[2], ADDITIVE)])
def test_the_wrong_law_is_told_by_what_is_left_out(right: MixingLaw, planted: list[float], wrong: MixingLaw):
    """Each law on the other's surface, without noise: one is exact, the other misses."""
    losses = surface(right, planted)
    errors = {
        law.formula: float(np.abs(leave_one_out(law, columns(MIXTURES), losses)).mean())
        for law in (right, wrong, Linear(parts=PARTS), Mean(parts=PARTS))
    }
    exact, missed, linear, mean = errors.values()
    assert exact < 1e-7 < 1e-3 < missed < linear < mean


@pytest.mark.parametrize("law", [EXPONENTIAL, ADDITIVE, Linear(parts=PARTS), Mean(parts=PARTS)])
def test_leaving_out_is_fitting_without(law: MixingLaw):
    rows = np.concatenate([MIXTURES, MIXTURES[:4]])  # four mixtures with two seeds
    losses = with_noise(surface(ADDITIVE, PLANTED[3][1], rows), 1)
    found = leave_one_out(law, columns(rows), losses)
    for number, mixture in enumerate(np.unique(rows, axis=0)):
        is_own = (rows == mixture).all(1)
        kept, ones = columns(rows[~is_own]), np.ones((1, int((~is_own).sum())))
        alone = law.solve(kept, losses[~is_own], ones)
        predicted = law.predict(columns(mixture[None]), alone)[0, 0]
        assert found[number] == pytest.approx(predicted / losses[is_own].mean() - 1, abs=1e-6)


def test_linear_and_mean_are_least_squares():
    losses = with_noise(surface(*PLANTED[3]), 2)
    weights = np.random.default_rng(0).uniform(0.5, 2, (3, len(losses)))
    found = Linear(parts=PARTS).solve(columns(MIXTURES), losses, weights)
    means = Mean(parts=PARTS).solve(columns(MIXTURES), losses, weights)
    for draw, row in enumerate(weights):
        roots = np.sqrt(row) / losses
        slow = np.linalg.lstsq(roots[:, None] * MIXTURES, roots * losses)[0]
        np.testing.assert_allclose(found[draw], slow, rtol=1e-10)
        slow = np.linalg.lstsq(roots[:, None], roots * losses)[0]
        np.testing.assert_allclose(means[draw], slow, rtol=1e-10)


def test_the_ridge_keeps_what_the_runs_do_not_tell():
    """On a linear surface c and the slopes are not told apart; noise must not drive t to its bounds, and
    predictions stay right.
    """
    losses = with_noise(MIXTURES @ np.array([5.0, 5.2, 5.1]), 3)
    fit = fit_mixing(EXPONENTIAL, columns(MIXTURES), losses, num_draws=100)
    assert np.ptp(fit.estimate[1:]) < 10
    np.testing.assert_allclose(
        EXPONENTIAL.predict(columns(ELSEWHERE), fit.estimate[None])[0],
        ELSEWHERE @ np.array([5.0, 5.2, 5.1]),
        rtol=0.005,
    )


def test_shares_that_do_not_matter_are_told():
    losses = with_noise(np.full(len(MIXTURES), 5.0), 4)
    (doubt,) = fit_law(EXPONENTIAL, columns(MIXTURES), losses, num_draws=0).doubts
    assert "the shares do not tell the loss" in doubt


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (MIXTURES[:11], "11 different mixtures of 3 parts: give at least 12"),
        (np.repeat(MIXTURES[:6], 3, 0), "6 different mixtures"),
        (
            np.concatenate([MIXTURES, [[1.0, 0.0, 0.0]]]),
            "row 14: the share of image is 0, and the laws break",
        ),
        (np.concatenate([MIXTURES, [[0.5, 0.3, 0.1]]]), "row 14: the shares add up to 0.9: divide each"),
        (np.concatenate([MIXTURES, [[0.33, 0.33, 0.33]]]), "row 14: the shares add up to 0.99"),
        (MIXTURES[:1], "1 different mixture of 3 parts"),
    ],
)
@pytest.mark.parametrize("law", [EXPONENTIAL, ADDITIVE])
def test_tables_that_cannot_be_fitted(law: MixingLaw, rows: np.ndarray, match: str):
    with pytest.raises(UserError, match=match):
        fit_mixing(law, columns(rows), np.full(len(rows), 5.0))


def test_shares_of_three_digits_are_taken():
    """Rounded, they may add up to 0.999 or 1.001: thirds do, which every table has."""
    rows = np.round(np.concatenate([MIXTURES, [[1 / 3, 1 / 3, 1 / 3]]]), 3)
    losses = surface(EXPONENTIAL, [3.0, 1.2, 0.5, 0.1], rows)
    assert rows[-1].sum() < 1
    fit = fit_law(EXPONENTIAL, columns(rows), losses, num_draws=0)
    np.testing.assert_allclose(fit.estimate, [3.0, 1.2, 0.5, 0.1], atol=1e-3)


def test_a_loss_that_is_the_same_everywhere_tells_nothing_of_shares():
    fit = fit_law(EXPONENTIAL, columns(MIXTURES), np.full(len(MIXTURES), 3.0), num_draws=0)
    (doubt,) = fit.doubts
    assert "the shares do not tell the loss" in doubt


def test_more_rows_than_can_be_left_out_are_refused():
    rows = np.tile(MIXTURES, (200, 1))
    with pytest.raises(UserError, match="a mixing law is fitted without each mixture in turn"):
        fit_law(EXPONENTIAL, columns(rows), np.full(len(rows), 3.0), num_draws=0)


@pytest.mark.parametrize("law", [EXPONENTIAL, ADDITIVE])
def test_mixtures_on_a_line_do_not_identify_a_plane(law: MixingLaw):
    """Two of three parts always have equal shares: what each of them does is not in the table."""
    t = np.linspace(0.1, 0.8, 14)
    rows = np.stack([t, (1 - t) / 2, (1 - t) / 2], 1)
    losses = with_noise(surface(EXPONENTIAL, [3.0, 1.2, 0.5, 0.1], rows), seed=0)
    fit = fit_law(law, columns(rows), losses, num_draws=0)
    assert any("vary in 1 direction, and shares of 3 parts in 2" in doubt for doubt in fit.doubts), fit.doubts


def test_the_laws_by_name():
    assert resolve_law("mixing", ["a", "b"], {}) == Exponential(parts=("a", "b"))
    assert resolve_law("additive_mixing", ["a", "b"], {}) == Additive(parts=("a", "b"))
    with pytest.raises(UserError, match="no option --parts"):
        resolve_law("mixing", ["a"], {"parts": "1"})


def test_bounded_least_squares_beside_scipy():
    """Curves of two exponentials, from starts on both sides of bounds that some optima lie at."""
    x = np.linspace(0, 3, 20)
    truth = np.array([[2.0, 0.5], [1.0, 3.0], [-1.0, 1.5]])
    low, high = np.array([-0.5, 0.1]), np.array([1.8, 2.5])
    noise = 0.05 * np.random.default_rng(0).standard_normal((3, 20))
    measured = truth[:, :1] * np.exp(-truth[:, 1:] * x) + noise

    def model(theta: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fall = np.exp(-theta[:, 1:] * x)
        return theta[:, :1] * fall - measured[chosen], np.stack([fall, -theta[:, :1] * x * fall], 2)

    found, cost = minimize_squares(model, np.array([[0.0, 1.0]] * 3), low, high)
    for number in range(3):

        def residuals(theta: np.ndarray, number: int = number) -> np.ndarray:
            return theta[0] * np.exp(-theta[1] * x) - measured[number]

        slow = least_squares(residuals, [0.5, 1.0], bounds=(low, high), xtol=1e-14, ftol=1e-14, gtol=1e-14)
        assert cost[number] == pytest.approx(slow.cost, rel=1e-6)
        np.testing.assert_allclose(found[number], slow.x, rtol=1e-3, atol=1e-4)


def exact_fit(law: MixingLaw, planted: list[float]) -> Fit:
    return fit_mixing(law, columns(MIXTURES), surface(law, planted), num_draws=0)


def limits(
    trust: float = 10.0,
    caps: dict[str, float] | None = None,
    default: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3),
) -> Limits:
    return Limits(
        default=dict(zip(PARTS, default, strict=True)),
        trust=trust,
        least=dict.fromkeys(PARTS, 0.02),
        caps=caps or {},
    )


def test_a_planted_optimum_is_found():
    """With L_k = c + A exp(−b h_k), the goal Σ w_k L_k(h) / L_k(h₀) has its minimum where
    w_k exp(−b h_k) / L_k(h₀) is the same for all k: at h*, if w_k = L_k(h₀) exp(b h*_k).
    """
    planted, b = np.array([0.5, 0.2, 0.3]), 1.7
    laws = [[4.0, *(0.4 - b * (part == own) for own in range(3))] for part in range(3)]
    fits = {part: exact_fit(EXPONENTIAL, law) for part, law in zip(PARTS, laws, strict=True)}
    middle = np.full((1, 3), 1 / 3)
    priorities = {
        part: float(surface(EXPONENTIAL, law, middle)[0] * np.exp(b * h))
        for part, law, h in zip(PARTS, laws, planted, strict=True)
    }
    goal = Goal(fits=fits, priorities=priorities, limits=limits())
    np.testing.assert_allclose(goal.find_best(), planted, atol=1e-5)


GRID = (
    np.array([(i, j, 400 - i - j) for i in range(1, 400) for j in range(1, 400 - i)], dtype=np.float64) / 400
)


@pytest.mark.parametrize("trust", [0.02, 0.2, 10.0])
@pytest.mark.parametrize("caps", [{}, {"image": 0.3}, {"image": 0.3, "text": 0.36}])
@pytest.mark.parametrize(
    "laws",
    [
        [
            (EXPONENTIAL, [4.0, -0.2, 1.0, 1.1]),
            (EXPONENTIAL, [4, 0.9, -0.5, 0.8]),
            (EXPONENTIAL, [4, 1, 1.1, -0.3]),
        ],
        # With γ above 1: not convex.
        [PLANTED[3], (ADDITIVE, [5.0, 0.1, 0.5, 0.1, 0.5, 1.8, 1.5]), (EXPONENTIAL, [2.0, 1.5, 0.3, 1.2])],
    ],
)
def test_the_best_mixture_is_that_of_a_dense_grid(
    laws: list[tuple[MixingLaw, list[float]]], caps: dict[str, float], trust: float
):
    fits = {part: exact_fit(*law) for part, law in zip(PARTS, laws, strict=True)}
    goal = Goal(fits=fits, priorities={"text": 3.0, "image": 1.0, "speech": 1.0}, limits=limits(trust, caps))
    best = goal.find_best()
    assert goal.limits.allows(best[None], slack=1e-6)[0]
    inside = GRID[goal.limits.allows(GRID)]
    values = goal.value(inside)
    # The grid's best is about a step of 1/400 away; further where the goal is flat.
    found = float(goal.value(best[None])[0])
    assert found <= values.min() + 1e-9
    assert found > values.min() - 2e-3
    assert np.abs(inside[values.argmin()] - best).max() < 0.02


def test_an_interval_of_the_gain_holds_the_gain():
    laws = [[4.0, -0.2, 1.0, 1.1], [4.0, 0.9, -0.5, 0.8], [4.0, 1.0, 1.1, -0.3]]
    exact = Goal(
        fits={part: exact_fit(EXPONENTIAL, law) for part, law in zip(PARTS, laws, strict=True)},
        priorities={"text": 3.0, "image": 1.0, "speech": 1.0},
        limits=limits(0.2),
    )
    fits = {
        part: fit_mixing(
            EXPONENTIAL, columns(MIXTURES), with_noise(surface(EXPONENTIAL, law), number), num_draws=60
        )
        for number, (part, law) in enumerate(zip(PARTS, laws, strict=True))
    }
    best = choose_mixture(Goal(fits=fits, priorities=exact.priorities, limits=exact.limits))
    shares = np.array([[share.value for share in best.shares.values()]])
    assert best.gain.low <= float(1 - exact.value(shares)[0]) <= best.gain.high
    assert 0 < best.gain.value <= float(1 - exact.value(exact.find_best()[None])[0]) + 0.005
    assert best.optimism >= 0


def test_where_nothing_is_to_be_gained_the_gain_is_within_noise():
    """The shares do not matter: the best of noise is promised, and not believed."""
    fits = {
        part: fit_mixing(
            EXPONENTIAL, columns(MIXTURES), with_noise(np.full(len(MIXTURES), 5.0), 10 + number), num_draws=20
        )
        for number, part in enumerate(PARTS)
    }
    best = choose_mixture(Goal(fits=fits, priorities=dict.fromkeys(PARTS, 1.0), limits=limits(0.2)))
    assert best.gain.low <= 0
    assert best.optimism > 0


def test_divergence_is_of_the_shares_from_the_default():
    assert divergence(np.array([[0.5, 0.5]]), np.array([0.5, 0.5]))[0] == pytest.approx(0, abs=1e-15)
    assert divergence(np.array([[0.9, 0.1]]), np.array([0.5, 0.5]))[0] == pytest.approx(
        0.9 * np.log(1.8) + 0.1 * np.log(0.2)
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"default": {"text": 0.5, "image": 0.2}}, "must be above 0 and add up to 1"),
        ({"default": {"text": 1.0, "image": 0.0}}, "must be above 0 and add up to 1"),
        ({"trust": 0.0}, "trust 0"),
        ({"caps": {"video": 0.5}}, "caps names video"),
        ({"caps": {"image": 0.01}}, "image: its least share 0.02 is above its cap 0.01"),
        ({"caps": dict.fromkeys(PARTS, 0.3)}, "no shares between them add up to 1"),
    ],
)
def test_limits_that_cannot_be(change: dict[str, Any], match: str):
    good: dict[str, Any] = {
        "default": dict.fromkeys(PARTS, 1 / 3),
        "trust": 0.2,
        "least": {"image": 0.02},
        "caps": {},
    }
    with pytest.raises(UserError, match=match):
        Limits(**{**good, **change})


def test_goals_that_cannot_be():
    fits = {"text": exact_fit(*PLANTED[0])}
    for priorities, match in (
        ({"image": 1.0}, "priorities name image"),
        ({"text": 0.0}, "give none below 0"),
    ):
        with pytest.raises(UserError, match=match):
            Goal(fits=fits, priorities=priorities, limits=limits())
    far = Goal(fits=fits, priorities={"text": 1.0}, limits=limits(0.001, {"image": 0.1}))
    with pytest.raises(UserError, match=r"no shares are within the caps and within 0\.001 nats"):
        far.find_best()
