"""Schedules: what alpha, its derivative, its inverse and the weight promise each other."""

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from design_space import kinks
from trimask.diffusion.schedule import (
    MINIMUM_MASK_RATIO,
    Cosine,
    Geometric,
    Linear,
    LogLinear,
    Polynomial,
    Schedule,
    Tabulated,
    per_modality,
)
from trimask.errors import UserError


def table(seed: int) -> Tabulated:
    """A table of up to six inner edges, whose densities differ by up to a thousand."""
    draw = np.random.default_rng(seed)
    inner = np.sort(draw.uniform(1e-3, 0.999, draw.integers(0, 7)))
    densities = np.exp(draw.uniform(-3.5, 3.5, len(inner) + 1))
    return Tabulated(edges=(0.0, *inner.tolist(), 1.0), densities=tuple(densities.tolist()))


# Made before hypothesis runs: beartype checks an item of each tuple at random, which a strategy may not.
TABLES = [table(seed) for seed in range(64)]
schedules = st.one_of(
    st.just(Linear()),
    st.just(Cosine()),
    st.builds(Polynomial, exponent=st.floats(0.3, 5.0)),
    st.builds(Geometric, sigma_min=st.floats(1e-4, 1e-2), sigma_max=st.floats(0.5, 20.0)),
    st.builds(LogLinear, eps=st.floats(1e-4, 0.3)),
    st.sampled_from(TABLES),
)
times = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8)
dtypes = st.sampled_from([torch.float32, torch.float64])


def unclipped(schedule: Schedule, t: torch.Tensor) -> torch.Tensor:
    return schedule.mask_ratio(t) > 1.001 * MINIMUM_MASK_RATIO


@given(schedules, times, dtypes)
def test_alpha_falls_from_one_to_zero(schedule: Schedule, values: list[float], dtype: torch.dtype) -> None:
    ends = schedule.alpha(torch.tensor([0.0, 1.0], dtype=dtype))
    assert ends[0] == 1
    assert abs(ends[1]) <= 4 * torch.finfo(dtype).eps
    alpha = schedule.alpha(torch.tensor(sorted(values), dtype=dtype))
    assert alpha.dtype == dtype and alpha.shape == (len(values),)
    assert ((alpha >= 0) & (alpha <= 1)).all()
    assert (alpha.diff() <= 4 * torch.finfo(dtype).eps).all()


@given(schedules, times)
def test_alpha_falls_strictly_where_it_is_not_clipped(schedule: Schedule, values: list[float]) -> None:
    first = torch.tensor(values, dtype=torch.float64) * 0.999
    second = first + 1e-3
    moved = unclipped(schedule, first)
    # A wide geometric schedule is flat to rounding at its end.
    assert (schedule.alpha(second) <= schedule.alpha(first))[moved].all()
    assert (schedule.alpha_prime(first)[moved] <= 0).all()


@given(schedules, times)
def test_alpha_prime_is_the_derivative(schedule: Schedule, values: list[float]) -> None:
    t = torch.tensor(values, dtype=torch.float64).clamp(1e-9, 1 - 1e-9).requires_grad_()
    (derivative,) = torch.autograd.grad(schedule.alpha(t).sum(), t)
    t = t.detach()
    kink = (t[:, None] - torch.tensor(kinks(schedule), dtype=torch.float64)).abs().lt(1e-9).any(1)
    # Within rounding of the clip's edge, either side's derivative is right.
    at_edge = (schedule.mask_ratio(t) / MINIMUM_MASK_RATIO - 1).abs() < 1e-9
    plateau = derivative == 0
    compared = ~kink & ~(at_edge & ~plateau)
    torch.testing.assert_close(schedule.alpha_prime(t)[compared], derivative[compared], rtol=1e-9, atol=1e-12)


@given(schedules, times)
def test_inverse_recovers_time(schedule: Schedule, values: list[float]) -> None:
    t = torch.tensor(values, dtype=torch.float64)
    alpha = schedule.alpha(t)
    # The inverse is ill-conditioned where alpha is flat (both ends of some schedules): compare alpha
    # there, t elsewhere.
    back = schedule.inverse(alpha)
    assert ((back >= 0) & (back <= 1)).all()
    torch.testing.assert_close(schedule.alpha(back), alpha, rtol=0, atol=1e-14)
    steep = unclipped(schedule, t) & (schedule.alpha_prime(t) < -1e-4)
    torch.testing.assert_close(back[steep], t[steep], rtol=0, atol=1e-10)


@given(schedules, times, dtypes)
def test_loss_weight_is_minus_alpha_prime_over_mask_ratio(
    schedule: Schedule, values: list[float], dtype: torch.dtype
) -> None:
    t = torch.tensor(values, dtype=dtype)
    weight = schedule.loss_weight(t)
    assert weight.dtype == dtype and torch.isfinite(weight).all() and (weight >= 0).all()
    inside = unclipped(schedule, t)
    expected = -schedule.alpha_prime(t) / schedule.mask_ratio(t)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(weight[inside], expected[inside], rtol=tolerance, atol=1e-12)


@given(schedules)
def test_weight_of_the_clipped_stretch_is_one_reverse_step(schedule: Schedule) -> None:
    t_min = float(schedule.inverse(torch.tensor(1 - MINIMUM_MASK_RATIO, dtype=torch.float64)))
    t = torch.tensor([0.0, 0.3, 0.9], dtype=torch.float64) * t_min
    torch.testing.assert_close(schedule.loss_weight(t) * t_min, torch.ones_like(t), rtol=1e-6, atol=0)
    assert (schedule.mask_ratio(t[1:]) == MINIMUM_MASK_RATIO).all() and schedule.mask_ratio(t)[0] == 0


def test_published_formulas() -> None:
    t = torch.linspace(0.03, 0.99, 97, dtype=torch.float64)  # above every clip
    torch.testing.assert_close(Linear().loss_weight(t), 1 / t)
    torch.testing.assert_close(Polynomial(exponent=3.0).loss_weight(t), 3 / t)
    torch.testing.assert_close(Cosine().alpha(t), 1 - torch.cos(math.pi / 2 * (1 - t)))
    torch.testing.assert_close(Cosine().loss_weight(t), math.pi / 2 * torch.tan(math.pi / 2 * (1 - t)))
    torch.testing.assert_close(LogLinear(eps=1e-3).alpha(t), 1 - (1 - 1e-3) * t)
    torch.testing.assert_close(LogLinear(eps=1e-3).loss_weight(t), 1 / t)
    sigma = 1e-3 ** (1 - t) * 20.0**t
    # Rescaled, so equal to the published one only up to the published one's own gaps at the ends.
    torch.testing.assert_close(Geometric().alpha(t), torch.exp(-sigma), rtol=0, atol=1e-3)
    sigma_prime = sigma * math.log(20.0 / 1e-3)
    torch.testing.assert_close(Geometric().loss_weight(t), sigma_prime / torch.expm1(sigma - 1e-3))


@settings(max_examples=20)
@given(st.sampled_from([(), (1,), (2, 3), (0,)]), schedules)
def test_any_shape(shape: tuple[int, ...], schedule: Schedule) -> None:
    t = torch.full(shape, 0.5, dtype=torch.float64)
    for value in (schedule.alpha(t), schedule.alpha_prime(t), schedule.loss_weight(t), schedule.inverse(t)):
        assert value.shape == shape


def test_per_modality_picks_each_position_its_own_schedule() -> None:
    modality = torch.tensor([[0, 1, 2, -1], [2, 2, 5, 0]])
    t = torch.tensor([0.3, 0.8], dtype=torch.float64)
    choice = [Linear(), Cosine(), Polynomial(exponent=2.0)]
    alpha, weight = per_modality(choice, modality, t[:, None])
    for row in range(2):
        for column in range(4):
            index = int(modality[row, column])
            known = index in (0, 1, 2)
            assert alpha[row, column] == (choice[index].alpha(t[row]) if known else 1)
            assert weight[row, column] == (choice[index].loss_weight(t[row]) if known else 0)


def test_a_table_has_the_ratios_of_its_density() -> None:
    """Against the integral of the density, interval by interval; a flat table is linear."""
    edges, densities = (0.0, 0.1, 0.4, 1.0), (6.0, 2.0, 1.0)
    schedule = Tabulated(edges=edges, densities=densities)
    shares = np.array([0.6, 0.6, 0.6]) / 1.8
    for m in (0.02, 0.1, 0.25, 0.7, 1.0):
        below = sum(
            share * min(max((m - low) / (high - low), 0.0), 1.0)
            for share, low, high in zip(shares, edges, edges[1:], strict=False)
        )
        t = torch.tensor([below], dtype=torch.float64)
        assert float(schedule.mask_ratio(t)) == pytest.approx(m, abs=1e-14)
    density = torch.tensor([6 / 1.8, 2 / 1.8, 1 / 1.8], dtype=torch.float64)
    inside = torch.tensor([0.05, 0.2, 0.9], dtype=torch.float64)
    t = schedule.inverse(1 - inside)
    torch.testing.assert_close(schedule.loss_weight(t), 1 / (inside * density))
    flat, t = Tabulated(edges=(0.0, 0.3, 1.0), densities=(5.0, 5.0)), torch.linspace(0, 1, 99).double()
    torch.testing.assert_close(flat.alpha(t), Linear().alpha(t), rtol=0, atol=1e-15)
    torch.testing.assert_close(flat.loss_weight(t), Linear().loss_weight(t))


@pytest.mark.parametrize(
    ("edges", "densities", "message"),
    [
        ((0.0, 0.5), (1.0,), "from 0 to 1"),
        ((0.0, 0.6, 0.4, 1.0), (1.0, 1.0, 1.0), "rising"),
        ((0.0, 1.0), (1.0, 2.0), "2 densities for 2 edges"),
        ((0.0, 0.5, 1.0), (1.0, 0.0), "never drawn"),
        ((0.0, 0.5, 1.0), (1.0, math.nan), "positive"),
    ],
)
def test_bad_tables_are_rejected(
    edges: tuple[float, ...], densities: tuple[float, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Tabulated(edges=edges, densities=densities)


@pytest.mark.parametrize("exponent", [0.0, -1.0, math.inf, math.nan])
def test_polynomial_rejects(exponent: float) -> None:
    with pytest.raises(ValueError, match="exponent"):
        Polynomial(exponent=exponent)


def test_bad_ranges_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"sigma_min 2.0"):
        Geometric(sigma_min=2.0, sigma_max=1.0)
    with pytest.raises(ValueError, match="eps"):
        LogLinear(eps=0.0)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "returned None for a tensor of shape"),
        (torch.ones(2), r"returned a tensor of shape \(2,\)"),
    ],
)
def test_what_a_users_schedule_returns_is_checked(result: Any, message: str) -> None:
    @final
    @dataclass(frozen=True)
    class Odd(Schedule):
        def _unclipped_mask_ratio(self, t: torch.Tensor) -> Any:
            return result

        def _slope(self, t: torch.Tensor) -> Any:
            return result

        def _time(self, mask_ratio: torch.Tensor) -> Any:
            return result

    t = torch.rand(3, dtype=torch.float64)
    for method, inner in (
        (Odd().mask_ratio, "_unclipped_mask_ratio"),
        (Odd().inverse, "_time"),
        (Odd().alpha_prime, "_slope"),
        (Odd().loss_weight, "_time"),
    ):
        with pytest.raises(UserError, match=rf"{inner} of the schedule .*Odd\(\) {message}"):
            method(t)
