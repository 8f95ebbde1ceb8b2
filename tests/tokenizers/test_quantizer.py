import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from narrow import gradient
from trimask.config import from_dict, to_dict
from trimask.tokenizers.image import ImageTokenizerConfig
from trimask.tokenizers.quantizer import (
    FiniteScalarConfig,
    FiniteScalarQuantizer,
    Quantizer,
    QuantizerConfig,
    ResidualVectorConfig,
    ResidualVectorQuantizer,
    kmeans,
    nearest,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def fitted(config: QuantizerConfig) -> Quantizer:
    quantizer = config.build()
    quantizer.fit(draw(600, quantizer.dim), np.random.default_rng(1))
    return quantizer


FINITE = FiniteScalarConfig(levels=(5, 4, 3), num_codebooks=2)
RESIDUAL = ResidualVectorConfig(dim=6, codebook_size=32, num_codebooks=3)
both = pytest.mark.parametrize("config", [FINITE, RESIDUAL], ids=["finite", "residual"])


@both
def test_shapes_and_ranges(config: QuantizerConfig):
    quantizer = fitted(config)
    vectors = draw(2, 5, 7, quantizer.dim, seed=2)
    codes = quantizer.encode(vectors)
    assert codes.shape == (2, 5, 7, quantizer.num_codebooks)
    assert codes.dtype == torch.int64
    assert 0 <= codes.min() and codes.max() < quantizer.codebook_size
    assert quantizer.decode(codes).shape == vectors.shape


@both
def test_forward_agrees_with_encode_and_decode(config: QuantizerConfig):
    quantizer = fitted(config)
    vectors = draw(40, quantizer.dim, seed=3)
    quantized = quantizer(vectors)
    torch.testing.assert_close(quantized.codes, quantizer.encode(vectors), rtol=0, atol=0)
    torch.testing.assert_close(quantized.values, quantizer.decode(quantized.codes))
    assert quantized.loss.shape == (40,)


@both
def test_encode_depends_on_no_neighbour(config: QuantizerConfig):
    quantizer = fitted(config)
    vectors = draw(50, quantizer.dim, seed=4)
    one_by_one = torch.stack([quantizer.encode(vector) for vector in vectors])
    assert torch.equal(quantizer.encode(vectors), one_by_one)


@both
def test_configuration_round_trip(config: QuantizerConfig):
    whole = ImageTokenizerConfig(quantizer=config)
    assert from_dict(ImageTokenizerConfig, to_dict(whole)) == whole


@both
def test_wrong_codes_are_named(config: QuantizerConfig):
    quantizer = fitted(config)
    size, books = quantizer.codebook_size, quantizer.num_codebooks
    with pytest.raises(ValueError, match=rf"code {size} is out of range.*0 … {size - 1}"):
        quantizer.decode(torch.full((1, books), size))
    with pytest.raises(ValueError, match="code -1 is out of range"):
        quantizer.decode(torch.full((1, books), -1))
    with pytest.raises(ValueError, match=f"codes have {books + 1} codebooks.*has {books}"):
        quantizer.decode(torch.zeros(1, books + 1, dtype=torch.int64))


def test_finite_scalar_encode_inverts_decode_for_every_code():
    quantizer = fitted(FINITE)
    every = torch.arange(quantizer.codebook_size)
    codes = torch.stack([every, every.flip(0)], dim=-1)
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


def test_residual_encode_is_stable_on_its_own_values():
    # The greedy choice need not be the best sum, so decode is inverted exactly only where one codebook is
    # left.
    quantizer = fitted(ResidualVectorConfig(dim=6, codebook_size=32, num_codebooks=1))
    codes = torch.arange(32)[:, None]
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


def test_residual_codebooks_far_apart_in_scale_invert_exactly():
    quantizer = ResidualVectorQuantizer(ResidualVectorConfig(dim=4, codebook_size=8, num_codebooks=3))
    with torch.no_grad():
        for i, codebook in enumerate(quantizer.codebooks):
            codebook.copy_(nn_grid(8, 4) * 10.0**-i)
    codes = torch.tensor(list(itertools.product(range(8), repeat=3)))
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


@pytest.mark.parametrize("size", [5, 64, 128, 320])  # sorted whole, or by blocks of 64
def test_a_beam_keeps_the_best_partial_sums(size: int):
    beam = 3
    quantizer = ResidualVectorConfig(dim=4, codebook_size=size, num_codebooks=3, beam_width=beam).build()
    assert isinstance(quantizer, ResidualVectorQuantizer)
    with torch.no_grad():
        quantizer.codebooks.copy_(draw(3, size, 4, seed=5))
    vectors = draw(20, 4, seed=6)
    for vector, codes in zip(vectors.double(), quantizer.encode(vectors), strict=True):
        partial: list[tuple[float, tuple[int, ...], torch.Tensor]] = [(0.0, (), vector)]
        for book in quantizer.codebooks.detach().double():
            longer = [
                (float((rest - value).square().sum()), (*taken, code), rest - value)
                for _, taken, rest in partial
                for code, value in enumerate(book)
            ]
            partial = sorted(longer, key=lambda sum_: sum_[0])[:beam]
        assert tuple(codes.tolist()) == partial[0][1]


def test_a_beam_of_everything_finds_the_best_sum():
    quantizer = ResidualVectorConfig(dim=3, codebook_size=6, num_codebooks=3, beam_width=36).build()
    greedy = ResidualVectorConfig(dim=3, codebook_size=6, num_codebooks=3).build()
    quantizer.fit(draw(200, 3), np.random.default_rng(1))
    greedy.load_state_dict(quantizer.state_dict())
    vectors = draw(100, 3, seed=7)
    all_codes = torch.tensor(list(itertools.product(range(6), repeat=3)))
    best = torch.cdist(vectors, quantizer.decode(all_codes)).argmin(-1)
    assert torch.equal(quantizer.encode(vectors), all_codes[best])
    assert not torch.equal(greedy.encode(vectors), all_codes[best])


def nn_grid(size: int, dim: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product((-4.0, 4.0), repeat=dim)))[:size]


@given(
    levels=st.lists(st.integers(2, 6), min_size=1, max_size=3),
    num_codebooks=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_finite_scalar_against_nearest_level(levels: list[int], num_codebooks: int, seed: int):
    quantizer = FiniteScalarQuantizer(FiniteScalarConfig(levels=tuple(levels), num_codebooks=num_codebooks))
    vectors = draw(5, quantizer.dim, seed=seed)
    codes, values = quantizer.encode(vectors), quantizer(vectors).values.detach()
    for row in range(5):
        for book in range(num_codebooks):
            code = 0
            for channel, count in enumerate(levels):
                place = book * len(levels) + channel
                grid = torch.linspace(-1, 1, count)
                k = int((grid - vectors[row, place]).abs().argmin())
                code = code * count + k
                assert float(values[row, place]) == pytest.approx(float(grid[k]), abs=1e-6)
            assert int(codes[row, book]) == code


def test_residual_against_nearest_neighbour_search():
    quantizer = fitted(RESIDUAL)
    assert isinstance(quantizer, ResidualVectorQuantizer)
    vectors = draw(20, 6, seed=5)
    codes, values = quantizer.encode(vectors), quantizer(vectors).values.detach()
    for row, vector in enumerate(vectors):
        left, total = vector, torch.zeros(6)
        for book, codebook in enumerate(quantizer.codebooks.detach()):
            chosen = min(
                range(32),
                key=lambda k, left=left, codebook=codebook: float((left - codebook[k]).square().sum()),
            )
            assert int(codes[row, book]) == chosen
            left, total = left - codebook[chosen], total + codebook[chosen]
        torch.testing.assert_close(values[row], total)


def test_finite_scalar_gradient_passes_straight_through_where_not_clipped():
    quantizer = FiniteScalarQuantizer(FINITE)
    vectors = torch.tensor([[0.3, -0.2, 0.9, 1.7, -3.0, 0.1]], requires_grad=True)
    weights = draw(1, 6, seed=6)
    (quantizer(vectors).values * weights).sum().backward()
    inside = (vectors.detach().abs() < 1).float()
    torch.testing.assert_close(vectors.grad, weights * inside)
    vectors.grad = None
    quantizer(vectors).loss.sum().backward()
    pull = gradient(vectors)[0]
    assert pull[3] > 0 and pull[4] < 0, "the loss must pull clipped values back"
    assert not pull[:3].any(), "and leave alone what is not clipped"


def test_residual_gradient_passes_straight_through_and_reaches_the_codes():
    quantizer = fitted(RESIDUAL)
    assert isinstance(quantizer, ResidualVectorQuantizer)
    vectors = draw(1, 6, seed=7).requires_grad_()
    weights = draw(1, 6, seed=8)
    quantized = quantizer(vectors)
    (quantized.values * weights).sum().backward()
    torch.testing.assert_close(vectors.grad, weights)
    pulls = gradient(quantizer.codebooks)
    for book in range(3):
        torch.testing.assert_close(pulls[book, quantized.codes[0, book]], weights[0])
    assert int((pulls.abs().sum(-1) > 0).sum()) == 3


def test_nearest_in_blocks_of_any_length():
    codebook = draw(9, 3, seed=9)
    vectors = draw(8200, 3, seed=10)
    expected = torch.cdist(vectors.double(), codebook.double()).argmin(-1)
    assert torch.equal(nearest(vectors, codebook), expected)
    assert nearest(vectors[:0], codebook).shape == (0,)


def test_kmeans_ends_at_the_means_of_what_is_nearest():
    vectors = draw(400, 3, seed=12)
    found = kmeans(vectors, 5, np.random.default_rng(3), num_iterations=100)
    assigned = nearest(vectors, found)
    means = torch.stack([vectors[assigned == k].mean(0) for k in range(5)])
    torch.testing.assert_close(found, means)
    assert torch.equal(found, kmeans(vectors, 5, np.random.default_rng(3), num_iterations=100))
    with pytest.raises(ValueError, match="400 vectors cannot give 401 centres; give more"):
        kmeans(vectors, 401, np.random.default_rng(3))


def test_kmeans_leaves_no_centre_without_vectors_where_the_start_had_twins():
    # 300 equal vectors: most random starts coincide there, and only restarts reach the six others.
    vectors = torch.cat([torch.zeros(300, 3), 9 * nn_grid(6, 3)])
    found = kmeans(vectors, 7, np.random.default_rng(0))
    assert float((vectors - found[nearest(vectors, found)]).abs().max()) < 1e-5


def test_residual_fit_leaves_less_with_each_codebook():
    quantizer = fitted(RESIDUAL)
    vectors = draw(600, 6)
    codes = quantizer.encode(vectors)
    assert isinstance(quantizer, ResidualVectorQuantizer)
    left, errors = vectors, []
    for book, codebook in enumerate(quantizer.codebooks.detach()):
        left = left - codebook[codes[:, book]]
        errors.append(float(left.square().mean()))
    assert errors[0] < 0.6 and errors[0] > errors[1] > errors[2]


def test_revive_moves_exactly_the_unused_codes_to_where_the_error_is():
    quantizer = fitted(RESIDUAL)
    assert isinstance(quantizer, ResidualVectorQuantizer)
    before = quantizer.codebooks.detach().clone()
    usage = torch.ones(3, 32, dtype=torch.int64)
    usage[0, 4] = usage[0, 9] = usage[2, 1] = 0
    vectors = draw(300, 6, seed=13)
    moved = quantizer.revive(usage, vectors, np.random.default_rng(0))
    assert moved == 3
    changed = (quantizer.codebooks.detach() != before).any(-1)
    assert torch.equal(changed, usage == 0)
    distance = torch.cdist(quantizer.codebooks[0, [4, 9]].detach(), vectors).min(dim=1).values
    assert float(distance.max()) < 1e-3


def test_revive_of_a_fixed_grid_moves_nothing():
    assert (
        fitted(FINITE).revive(torch.zeros(2, 60, dtype=torch.int64), draw(9, 6), np.random.default_rng(0))
        == 0
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FiniteScalarConfig(levels=()), r"levels=\(\): give at least one"),
        (lambda: FiniteScalarConfig(levels=(8, 1)), r"levels=\(8, 1\).*2 or more"),
        (lambda: FiniteScalarConfig(num_codebooks=0), "num_codebooks=0: use 1 or more"),
        (lambda: ResidualVectorConfig(codebook_size=1), "codebook_size=1: use 2 or more"),
        (lambda: ResidualVectorConfig(dim=0), "dim=0: use 1 or more"),
        (lambda: ResidualVectorConfig(beam_width=0), "beam_width=0: use 1 or more"),
    ],
)
def test_impossible_configurations_are_named(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()
