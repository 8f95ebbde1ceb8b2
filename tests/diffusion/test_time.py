"""Low-discrepancy times and mask-ratio pairs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimask.diffusion.schedule import MINIMUM_MASK_RATIO
from trimask.diffusion.time import low_discrepancy_times, mask_ratio_pairs

offsets = st.floats(0.0, 1.0, exclude_max=True)


@given(st.integers(1, 64), offsets)
def test_times_are_in_range_and_evenly_spread(count: int, offset: float) -> None:
    t = low_discrepancy_times(count, offset=offset)
    assert t.dtype == torch.float64 and t.shape == (count,)
    assert ((t >= 0) & (t < 1)).all()
    gaps = torch.cat([t.sort().values, t.min()[None] + 1]).diff()
    torch.testing.assert_close(gaps, torch.full_like(gaps, 1 / count), rtol=0, atol=1e-12)


def test_each_time_is_uniform_over_offsets() -> None:
    offsets = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    third = torch.stack([low_discrepancy_times(7, offset=float(u))[3] for u in offsets]).sort().values
    torch.testing.assert_close(third, offsets, rtol=0, atol=1.1e-3)


@given(st.integers(1, 64), offsets)
def test_pairs_add_to_one_and_cover_the_interval_evenly(count: int, offset: float) -> None:
    u, rest = mask_ratio_pairs(low_discrepancy_times(count, offset=offset))
    torch.testing.assert_close(u + rest, torch.ones_like(u), rtol=0, atol=1e-15)
    assert (u >= MINIMUM_MASK_RATIO).all() and (rest <= 1 - MINIMUM_MASK_RATIO).all()
    both = torch.cat([u, rest])
    # One ratio in each of the 2n cells of (0, 1), up to rounding at the cells' edges.
    cells = both.clamp(max=1 - 1e-12).mul(2 * count)
    middle = (cells - cells.round()).abs() > 1e-6
    if middle.all():
        assert len(set(cells.floor().tolist())) == 2 * count


def test_nothing_and_bad_offsets() -> None:
    assert low_discrepancy_times(0, offset=0.5).shape == (0,)
    for offset in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="offset"):
            low_discrepancy_times(3, offset=offset)
