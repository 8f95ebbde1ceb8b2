"""How the times of a batch are drawn: what each choice promises, at any batch and in any part of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import pytest
import torch
from scipy import stats

from design_space import TIME_DRAWS
from training.test_step import CPU, VOCABULARY, make_corruption, make_sequences
from trimask import rng
from trimask.diffusion.time import low_discrepancy_times
from trimask.errors import UserError
from trimask.training.corruption import Corruption, ObjectiveConfig
from trimask.training.times import Independent, Stratified, TimeDraw
from trimask.vocabulary.batch import make_batch


@pytest.mark.parametrize("draw", TIME_DRAWS, ids=str)
def test_each_time_is_uniform_by_itself(draw: TimeDraw) -> None:
    indices = torch.arange(5)
    third = [float(draw.times(indices, seed=1, stream=(number, 0))[3]) for number in range(400)]
    if isinstance(draw, Independent):  # a time belongs to its sequence
        assert len(set(third)) == 1
        third = draw.times(torch.arange(400), seed=1, stream=(0, 0)).tolist()
    assert stats.kstest(third, "uniform").pvalue > 0.001


def test_stratified_times_are_one_in_each_interval_with_one_offset_per_stream() -> None:
    times = Stratified().times(torch.arange(10, 22), seed=3, stream=(7, 2))
    offset = float(rng.generator(3, "time", 7, 2).random())
    assert torch.equal(times, low_discrepancy_times(12, offset=offset))
    assert sorted((times * 12).floor().tolist()) == list(range(12))
    assert not torch.equal(times, Stratified().times(torch.arange(10, 22), seed=3, stream=(8, 2)))


def test_independent_times_belong_to_their_sequences() -> None:
    both = Independent().times(torch.arange(24), seed=5, stream=(0, 1))
    assert torch.equal(both[6:9], Independent().times(torch.arange(6, 9), seed=5, stream=(3, 2)))
    assert not torch.equal(both, Independent().times(torch.arange(24), seed=6, stream=(0, 1)))
    # Evenly spread times would hit each of the 24 cells once.
    assert (both * 24).floor().unique().numel() < 24


@pytest.mark.parametrize("anti_masking", [False, True])
@pytest.mark.parametrize("logical_batch", [None, 6])
def test_a_batch_of_any_size_has_the_independent_masks_of_its_sequences(
    anti_masking: bool, logical_batch: int | None
) -> None:
    objective = ObjectiveConfig(times=Independent(), anti_masking=anti_masking)
    corruption = Corruption(objective, VOCABULARY, seed=5, device=CPU, logical_batch=logical_batch)
    sequences = make_sequences(24)
    whole = corruption.views(make_batch(sequences, range(24)), 0)
    for start, stop, step in ((0, 5, 0), (5, 6, 11), (6, 24, 2)):
        batch = make_batch(sequences[start:stop], range(start, stop))
        for big, small in zip(whole, corruption.views(batch, step), strict=True):
            width = batch.tokens.shape[1]
            for name in ("masked", "weight", "z_t"):
                there, here = getattr(big, name)[start:stop, :width], getattr(small, name)
                real = batch.sequence >= 0
                assert torch.equal(there[real], here[real]), name


def test_the_pair_covers_every_mask_ratio() -> None:
    """u and 1 − u together are uniform, whichever way times are drawn."""
    sequences = make_sequences(300)
    batch = make_batch(sequences, range(300))
    for draw in TIME_DRAWS:
        u = make_corruption(anti_masking=True, times=draw)._mask_ratios(batch, 0)
        assert (u <= 0.5).all()
        assert stats.kstest(torch.cat([u, 1 - u]).tolist(), "uniform").pvalue > 0.001


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (lambda n: None, "None"),
        (lambda n: torch.zeros(n + 1), r"a tensor of shape \(4,\)"),
        (lambda n: torch.ones(n), r"a tensor of shape \(3,\)"),
        (lambda n: torch.full((n,), torch.nan), r"a tensor of shape \(3,\)"),
    ],
)
def test_what_a_users_class_returns_is_checked(result: Callable[[int], Any], shown: str) -> None:
    @final
    @dataclass(frozen=True)
    class Odd(TimeDraw):
        def _times(self, sample_index: torch.Tensor, *, seed: int, stream: tuple[int, ...]) -> Any:
            return result(len(sample_index))

    with pytest.raises(UserError, match=rf"Odd\(\) returned {shown} for 3 sequences"):
        Odd().times(torch.arange(3), seed=0, stream=(0, 0))
