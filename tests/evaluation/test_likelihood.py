"""The estimated NELBO against what it must be: exact for a uniform model, and enumeration over masks on
a short sequence.
"""

import itertools
import math

import numpy as np
import pytest
import torch

from trimask.evaluation.likelihood import (
    MaskStream,
    bound,
    draw_views,
    sequence_nelbo,
    target_tokens,
    unigram_bits,
)
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.codebooks import Parallel
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence

_VOCABULARY = Vocabulary(
    spaces=(
        CodeSpace(name="text", num_codebooks=1, codebook_size=7, has_end=True),
        CodeSpace(name="image", num_codebooks=2, codebook_size=5, has_end=False, grid=(2, 2)),
        CodeSpace(name="speech", num_codebooks=2, codebook_size=4, has_end=True),
    ),
    layouts={"image": Parallel(), "speech": Parallel()},
)


def _denoiser(*, is_uniform: bool) -> Denoiser:
    denoiser = Denoiser(DenoiserConfig(width=16, depth=1, num_heads=1), _VOCABULARY)
    denoiser.initialize(0)
    if not is_uniform:
        with torch.no_grad():
            weights = np.random.default_rng(1).standard_normal(tuple(denoiser.unembedding.weight.shape))
            denoiser.unembedding.weight.copy_(torch.from_numpy(weights))
    return denoiser.eval()


def _passage(*codes: int) -> Sequence:
    return build_sequence(_VOCABULARY, "text", {"text": np.array(codes)[:, None]})


def _pairs(count: int) -> list[Sequence]:
    draw = np.random.default_rng(0)
    return [
        build_sequence(
            _VOCABULARY,
            "text_to_image",
            {
                "text": draw.integers(0, 7, (1 + i % 4, 1)),
                "image": draw.integers(0, 5, (4, 2)),
            },
        )
        for i in range(count)
    ]


def _exact_nelbo(denoiser: Denoiser, sequence: Sequence) -> float:
    """∫₀¹ (1/m) Σ over masks m^k (1 - m)^(n - k) Σ masked -log p dm, by enumeration: a Beta function each."""
    places = np.flatnonzero(sequence.maskable)
    n = len(places)
    batch = make_batch([sequence], [0])
    total = 0.0
    for size in range(1, n + 1):
        weight = math.gamma(size) * math.gamma(n - size + 1) / math.gamma(n + 1)
        for chosen in itertools.combinations(places.tolist(), size):
            masked = torch.zeros_like(batch.maskable)
            masked[0, list(chosen)] = True
            z = batch.tokens.masked_fill(masked, _VOCABULARY.mask("text"))
            with torch.inference_mode():
                total += weight * float(denoiser.cross_entropy(z, batch, masked).double().sum())
    return total


def test_uniform_denoiser_costs_the_log_of_its_range() -> None:
    found = bound(_denoiser(is_uniform=True), _pairs(5), seed=0, num_masks=2)
    assert found.num_tokens == 5 * 8
    # Masks of fixed size: where all tokens cost the same nothing is left to chance.
    assert found.bits_per_token == pytest.approx(math.log2(5), rel=1e-6)
    assert found.standard_error < 1e-6


@pytest.mark.parametrize("num_masks", [1, 3, 8])
@pytest.mark.parametrize("num_targets", [4, 5, 9])
def test_sizes_are_stratified_and_arcs_follow_each_other(num_targets: int, num_masks: int) -> None:
    views = draw_views(num_targets, num_masks, 0, MaskStream(key=7, num_places=num_targets))
    sizes = [int(view.is_masked.sum()) for view in views]
    assert len(views) == num_masks and sizes == sorted(sizes)
    # One size from each of the equal parts of 1 ... n.
    assert all(
        num_targets * j / num_masks <= size <= num_targets * (j + 1) / num_masks + 1
        for j, size in enumerate(sizes)
    )
    times = np.sum([view.is_masked for view in views], axis=0)
    assert times.max() - times.min() <= 1, "together the masks cover all targets evenly"


def test_each_mask_is_unbiased_alone() -> None:
    # Every target, and every pair of targets, is as often masked as a uniform subset of that size would.
    views = [draw_views(5, 3, 0, MaskStream(key=number, num_places=5)) for number in range(4000)]
    for j in range(3):
        masks = np.array([each[j].is_masked for each in views], dtype=float)
        pairs = masks.T @ masks / len(masks)
        single, double = np.diag(pairs), pairs[~np.eye(5, dtype=bool)]
        assert np.ptp(single) < 0.05 and np.ptp(double) < 0.06  # 4000 draws: a standard error of 0.008
    mean = np.mean([[view.weight * view.is_masked.sum() for view in each] for each in views])
    assert mean == pytest.approx(5 / 3)


def test_few_targets_are_enumerated() -> None:
    denoiser, sequence = _denoiser(is_uniform=False), _passage(2, 5, 0)
    nats = sequence_nelbo(denoiser, [sequence], seed=0, num_masks=7)["text"]
    assert nats[0] == pytest.approx(_exact_nelbo(denoiser, sequence), rel=1e-5)
    assert draw_views(0, 8, 0, MaskStream(key=0, num_places=0)) == []


def test_mean_over_seeds_is_the_enumeration_over_masks() -> None:
    denoiser, sequence = _denoiser(is_uniform=False), _passage(2, 5, 0)
    copies = [sequence] * 3000  # each copy has masks of its own
    nats = sequence_nelbo(denoiser, copies, seed=0, num_masks=4, batch_size=1500)["text"]
    exact = _exact_nelbo(denoiser, sequence)
    error = nats.std() / math.sqrt(len(nats))
    assert error < 0.02 * exact
    assert abs(nats.mean() - exact) < 4 * error


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_result_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    denoiser, sequences = _denoiser(is_uniform=False), _pairs(7)
    expected = sequence_nelbo(denoiser, sequences, seed=3)
    found = sequence_nelbo(denoiser, sequences, seed=3, batch_size=batch_size)
    for modality in _VOCABULARY.modalities:
        np.testing.assert_allclose(found[modality], expected[modality], rtol=1e-5)


def test_only_targets_count() -> None:
    nats = sequence_nelbo(_denoiser(is_uniform=False), _pairs(3), seed=0)
    assert (nats["text"] == 0).all() and (nats["speech"] == 0).all()
    assert (nats["image"] > 0).all()


def test_a_hidden_condition_does_not_matter() -> None:
    denoiser, draw = _denoiser(is_uniform=False), np.random.default_rng(5)
    image = draw.integers(0, 5, (4, 2))
    first, second = (
        build_sequence(_VOCABULARY, "text_to_image", {"text": np.array(text)[:, None], "image": image})
        for text in ([1, 2, 3], [6, 0, 4])
    )

    def nelbo(sequence: Sequence, *, is_unconditional: bool) -> float:
        found = sequence_nelbo(denoiser, [sequence], seed=0, is_unconditional=is_unconditional)
        return float(found["image"][0])

    assert nelbo(first, is_unconditional=True) == nelbo(second, is_unconditional=True)
    assert nelbo(first, is_unconditional=False) != nelbo(second, is_unconditional=False)


def test_standard_error_falls_with_the_root_of_the_examples_and_covers() -> None:
    denoiser = _denoiser(is_uniform=False)
    pairs = _pairs(600)
    many = bound(denoiser, pairs, seed=0)
    few = [bound(denoiser, pairs[i : i + 40], seed=i) for i in range(0, 600, 40)]
    assert few[0].standard_error / many.standard_error == pytest.approx(math.sqrt(15), rel=0.4)
    misses = [abs(each.bits_per_token - many.bits_per_token) > 2 * each.standard_error for each in few]
    assert sum(misses) <= 3  # 15 intervals of about 95 %


def test_unigram_floor_is_the_cross_entropy_of_smoothed_counts() -> None:
    training, held_out = [_passage(0, 0, 0, 1)], [_passage(0, 1, 6)]
    counts = np.array([4, 2, 1, 1, 1, 1, 1, 1])  # one more each; the end token has a place
    expected = -np.log2(counts[[0, 1, 6]] / counts.sum()).mean()
    assert unigram_bits(training, held_out, _VOCABULARY, "text") == pytest.approx(expected)


def test_end_tokens_are_targets() -> None:
    codes = {"text": np.array([[1], [2]])}
    sequence = build_sequence(_VOCABULARY, "text", codes, num_end={"text": 3})
    assert target_tokens(sequence, _VOCABULARY, "text") == 5
