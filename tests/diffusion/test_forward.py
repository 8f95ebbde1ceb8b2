"""Forward masking: what may be touched, how much, and the complement."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from trimask import rng
from trimask.diffusion.forward import complement, is_masked, mask_tokens

seeds = st.integers(0, 2**31)
MASKS = torch.tensor([100, 200, 300])


def example(seed: int, *, rows: int = 4, length: int = 32) -> dict[str, torch.Tensor]:
    draws = rng.uniform(rng.fold(rng.key(seed, "masking"), torch.arange(rows)), 4 * length).reshape(
        rows, 4, length
    )
    modality = (draws[:, 0] * 3).long()
    return {
        "x": (draws[:, 1] * 50).long() + modality * 100,
        "maskable": draws[:, 2] < 0.7,
        "mask_id": MASKS[modality] + 50,
        "uniforms": draws[:, 3],
    }


@given(seeds, st.floats(0, 1), st.sampled_from([torch.float32, torch.float64]))
def test_only_maskable_positions_change_and_only_to_their_own_mask(
    seed: int, ratio: float, dtype: torch.dtype
) -> None:
    e = example(seed)
    z = mask_tokens(**e, mask_ratio=torch.full(e["x"].shape, ratio, dtype=dtype))
    changed = z != e["x"]
    assert not (changed & ~e["maskable"]).any()
    assert (z[changed] == e["mask_id"][changed]).all()
    assert torch.equal(changed, is_masked(z, maskable=e["maskable"], mask_id=e["mask_id"]))


@given(seeds)
def test_ratio_zero_masks_nothing_and_one_everything(seed: int) -> None:
    e = example(seed)
    assert torch.equal(mask_tokens(**e, mask_ratio=torch.zeros(e["x"].shape)), e["x"])
    everything = mask_tokens(**e, mask_ratio=torch.ones(e["x"].shape))
    assert torch.equal(everything == e["mask_id"], e["maskable"])


@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_masks_are_nested_in_the_ratio(seed: int, one: float, other: float) -> None:
    e = example(seed)
    low, high = sorted((one, other))
    few = mask_tokens(**e, mask_ratio=torch.full(e["x"].shape, low)) != e["x"]
    many = mask_tokens(**e, mask_ratio=torch.full(e["x"].shape, high)) != e["x"]
    assert not (few & ~many).any()


def test_fraction_masked() -> None:
    # 1e5 draws: five standard deviations are 0.0073.
    e = example(1, rows=100, length=1000)
    e["maskable"] = torch.ones_like(e["maskable"])
    for ratio in (0.1, 0.5, 0.9):
        z = mask_tokens(**e, mask_ratio=torch.full(e["x"].shape, ratio))
        assert abs(float((z != e["x"]).double().mean()) - ratio) < 0.0073


@given(seeds, st.floats(0, 1))
def test_complement_partitions_the_maskable_positions(seed: int, ratio: float) -> None:
    e = example(seed)
    where = {"maskable": e["maskable"], "mask_id": e["mask_id"]}
    z = mask_tokens(**e, mask_ratio=torch.full(e["x"].shape, ratio))
    other = complement(e["x"], z, **where)
    assert torch.equal(is_masked(z, **where) ^ is_masked(other, **where), e["maskable"])
    assert torch.equal(other[~e["maskable"]], e["x"][~e["maskable"]])
    assert torch.equal(complement(e["x"], other, **where), z)


def test_a_dropped_condition_is_not_counted_as_masked() -> None:
    z = torch.tensor([9, 9, 1])
    maskable = torch.tensor([False, True, True])
    assert is_masked(z, maskable=maskable, mask_id=torch.full((3,), 9)).tolist() == [False, True, False]
    assert complement(
        torch.tensor([9, 4, 1]), z, maskable=maskable, mask_id=torch.full((3,), 9)
    ).tolist() == [9, 4, 9]
