"""Named random streams: reproducible, independent of the batch, uniform to the last bit."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trimask import rng

MASK = (1 << 64) - 1
GOLDEN_KEY = -4597053513672630425
GOLDEN_FOLD = [-4479448792557541587, -5805769924059188431, -6232138806257211018]
GOLDEN_UNIFORM = [0.4717381730154444, 0.24612772650906722, 0.6222015987184359]
GOLDEN_GENERATOR = [361281828, 397167688, 171090600]


def slow_mix(x: int) -> int:
    """SplitMix64's finalizer in Python's unbounded integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def slow_uniform(key: int, count: int) -> list[float]:
    return [(slow_mix((key + i * 0x9E3779B97F4A7C15) & MASK) >> 11) * 2.0**-53 for i in range(1, count + 1)]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**62))
def test_equals_the_slow_twin(key: int, index: int) -> None:
    folded = int(rng.fold(key, torch.tensor([index]))[0])
    slow = slow_mix(slow_mix((index * 0x9E3779B97F4A7C15 + key) & MASK) ^ (key & MASK))
    assert folded & MASK == slow
    assert rng.uniform(torch.tensor([key]), 5)[0].tolist() == slow_uniform(key & MASK, 5)


def test_first_number_of_splitmix64() -> None:
    # The published generator, seeded with 1234567, starts with 6457827717110365317.
    assert rng.uniform(torch.tensor([1234567]), 1).item() == (6457827717110365317 >> 11) * 2.0**-53


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 1000))
def test_a_sample_is_the_same_in_any_batch(size: int, batch: int, first: int) -> None:
    key = rng.key(3, "sampling")
    indices = torch.arange(first, first + size)
    whole = rng.uniform(rng.fold(key, indices), 7)
    parts = [rng.uniform(rng.fold(key, part), 7) for part in indices.split(batch)]
    assert torch.equal(whole, torch.cat(parts))
    shuffled = torch.from_numpy(np.random.default_rng(size).permutation(size))
    assert torch.equal(whole[shuffled], rng.uniform(rng.fold(key, indices[shuffled]), 7))


def test_more_numbers_do_not_change_the_first_ones() -> None:
    keys = rng.fold(rng.key(0, "x"), torch.arange(4))
    assert torch.equal(rng.uniform(keys, 100)[:, :10], rng.uniform(keys, 10))


def test_shapes_and_range() -> None:
    keys = rng.fold(rng.key(0, "shape"), torch.arange(6).view(2, 3))
    u = rng.uniform(keys, 5)
    assert u.shape == (2, 3, 5) and u.dtype == torch.float64
    assert (u >= 0).all() and (u < 1).all()
    assert rng.uniform(keys, 0).shape == (2, 3, 0)


def test_streams_of_different_names_differ() -> None:
    names = [
        (),
        ("a",),
        ("b",),
        ("a", "b"),
        ("ab",),
        ("a", 1),
        ("a", "1"),
        (1,),
        ("1",),
        ("a", "b", "c"),
        ("a", "bc"),
    ]
    keys = {rng.key(seed, *name) for seed in (0, 1, -1, 2**70) for name in names}
    assert len(keys) == 4 * len(names)
    assert all(-(2**63) <= key < 2**63 for key in keys)


@pytest.mark.parametrize("layout", ["along one stream", "across samples", "across streams"])
def test_uniform_by_kolmogorov_smirnov_and_chi_square(layout: str) -> None:
    n = 100_000
    if layout == "along one stream":
        u = rng.uniform(torch.tensor(rng.key(0, "ks")), n)
    elif layout == "across samples":
        u = rng.uniform(rng.fold(rng.key(0, "ks"), torch.arange(n)), 1).flatten()
    else:
        u = rng.uniform(torch.tensor([rng.key(0, "ks", i) for i in range(n)]), 1).flatten()
    values = u.numpy()
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert stats.chisquare(np.histogram(values, bins=256, range=(0, 1))[0]).pvalue > 1e-3
    pairs = np.histogram2d(values[:-1:2], values[1::2], bins=16, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3


def test_every_bit_is_a_fair_coin() -> None:
    n = 40_000
    bits = (rng.uniform(rng.fold(rng.key(1, "bits"), torch.arange(n)), 1).flatten() * 2.0**53).to(torch.int64)
    ones = torch.stack([(bits >> position & 1).sum() for position in range(53)]).double()
    z = (ones - n / 2) / (n / 4) ** 0.5
    # 53 standard normals: 4.5 is passed once in some 3000 tries; the key is fixed.
    assert z.abs().max() < 4.5


def test_neighbouring_samples_are_uncorrelated() -> None:
    u = rng.uniform(rng.fold(rng.key(2, "neighbours"), torch.arange(2001)), 50) - 0.5
    correlation = (u[1:] * u[:-1]).mean() * 12
    assert abs(correlation) < 4 / (2000 * 50) ** 0.5


def test_golden_values() -> None:
    # These numbers stand behind every stored result and sample; if they change, all seeds change.
    key = rng.key(0, "golden", 7)
    assert key == GOLDEN_KEY
    assert rng.fold(key, torch.arange(3)).tolist() == GOLDEN_FOLD
    assert rng.uniform(rng.fold(key, torch.arange(1)), 3)[0].tolist() == GOLDEN_UNIFORM
    assert rng.generator(0, "golden").integers(0, 1 << 30, 3).tolist() == GOLDEN_GENERATOR


def test_generators() -> None:
    first, again, other = (rng.generator(5, name).random(8) for name in ("a", "a", "b"))
    assert (first == again).all() and (first != other).any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares the CPU with a GPU")
def test_same_numbers_on_a_gpu() -> None:
    keys = rng.fold(rng.key(0, "device"), torch.arange(1000))
    assert torch.equal(rng.uniform(keys, 20), rng.uniform(keys.cuda(), 20).cpu())


@given(st.integers(1, 300), st.integers(-(2**63), 2**63 - 1))
def test_shuffled_is_a_permutation(length: int, key: int) -> None:
    assert sorted(rng.permute_index(i, length, key) for i in range(length)) == list(range(length))


@pytest.mark.parametrize(
    ("length", "count"),
    [(4, 600), pytest.param(3, 3000, marks=pytest.mark.slow), pytest.param(4, 3000, marks=pytest.mark.slow)],
)
def test_every_order_is_equally_likely(length: int, count: int) -> None:
    orders = Counter(
        tuple(rng.permute_index(i, length, rng.key(0, "orders", k)) for i in range(length))
        for k in range(count)
    )
    assert len(orders) == math.factorial(length)
    assert stats.chisquare(list(orders.values())).pvalue > 1e-4


@pytest.mark.parametrize(
    ("length", "count"),
    [
        (23, 300),
        pytest.param(16, 1000, marks=pytest.mark.slow),
        pytest.param(23, 1000, marks=pytest.mark.slow),
    ],
)
def test_shuffled_puts_every_value_everywhere(length: int, count: int) -> None:
    counts, neighbours = np.zeros((length, length)), np.zeros((length, length))
    for k in range(count):
        order = [rng.permute_index(i, length, rng.key(1, "places", k)) for i in range(length)]
        counts[np.arange(length), order] += 1
        neighbours[order[:-1], order[1:]] += 1
    # Rows and columns have fixed sums, which takes (n - 1)² degrees of freedom.
    expected = count / length
    chi = ((counts - expected) ** 2 / expected).sum()
    assert stats.chi2.sf(chi, (length - 1) ** 2) > 1e-4
    followers = neighbours[~np.eye(length, dtype=bool)]
    # Pairs of neighbours are close to independent: a variance far from Poisson's would show a pattern.
    assert followers.var() / followers.mean() == pytest.approx(1, abs=0.3)


def test_shuffled_needs_no_memory_of_the_order() -> None:
    length = 10**15
    values = [rng.permute_index(i, length, 7) for i in range(200)]
    assert len(set(values)) == 200 and max(values) < length
    assert stats.kstest(np.array(values) / length, "uniform").pvalue > 1e-4
