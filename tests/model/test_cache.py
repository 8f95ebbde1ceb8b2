"""Passes over a part of the positions, on keys and values that earlier passes have left."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.slow_passes import (
    FULL,
    PREFIX,
    SlowPasses,
    batch_of,
    denoiser_with,
    document_of,
    kernel_on_cpu,
    tokens_of,
)
from trimask import rng
from trimask.errors import UserError
from trimask.model.attention import AttentionBackend, QKNorm
from trimask.model.cache import KeyValueCache
from trimask.model.segments import ConditionAttention
from trimask.vocabulary.batch import Batch

# FlexAttention's kernels are compiled, for GPUs.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without")

DOCUMENTS = st.lists(st.tuples(st.integers(0, 7), st.integers(1, 4)), min_size=1, max_size=5)
MIXED = batch_of([(0, 3), (0, 5), (1, 2), (2, 4), (3, 3), (4, 3), (5, 1), (7, 2)])


def some_positions(batch: Batch, seed: int) -> Tensor:
    """A third of the positions of all documents but one, in order; at least one position."""
    draw = rng.generator(seed, "active")
    is_chosen = torch.from_numpy(draw.random(batch.num_positions) < 0.3)
    is_elsewhere = torch.tensor(document_of(batch)) != int(draw.integers(batch.num_sequences))
    active = (is_chosen & is_elsewhere).nonzero()[:, 0]
    return active if len(active) else torch.tensor([batch.num_positions - 1])


@pytest.mark.parametrize("qk_norm", QKNorm)
@pytest.mark.parametrize("attention", ConditionAttention)
@pytest.mark.parametrize("backend", AttentionBackend)
@settings(max_examples=6)
@given(documents=DOCUMENTS, seeds=st.lists(st.integers(0, 999), min_size=1, max_size=3))
def test_passes_attend_to_what_was_left(
    qk_norm: QKNorm,
    attention: ConditionAttention,
    backend: AttentionBackend,
    documents: list[tuple[int, int]],
    seeds: list[int],
) -> None:
    batch = batch_of(documents)
    denoiser = denoiser_with(attention, backend, qk_norm)
    slow = SlowPasses(denoiser, batch)
    cache = denoiser.empty_cache(batch)
    with torch.inference_mode(), kernel_on_cpu():
        for number, seed in enumerate(seeds):
            tokens = tokens_of(batch, seed)
            active = some_positions(batch, seed) if number else torch.arange(batch.num_positions)
            expected = slow(tokens, active.tolist())
            at = active[:: 1 + seed % 3]
            found = denoiser(tokens, batch, None if seed % 2 else at, cache=cache, active=active)
            torch.testing.assert_close(found, expected if seed % 2 else expected[:: 1 + seed % 3])
    for found, expected in ((cache.keys, slow.keys), (cache.values, slow.values)):
        stacked = [torch.stack([block[p] for p in range(batch.num_positions)]) for block in expected]
        torch.testing.assert_close(found, torch.stack(stacked))


@pytest.mark.parametrize("attention", ConditionAttention)
@pytest.mark.parametrize("backend", [AttentionBackend.LOOP, AttentionBackend.FLEX])
@given(documents=DOCUMENTS, seed=st.integers(0, 99))
@settings(max_examples=5)
@torch.inference_mode()
def test_a_pass_over_all_positions_is_to_the_bit_that_without_cache(
    attention: ConditionAttention,
    backend: AttentionBackend,
    documents: list[tuple[int, int]],
    seed: int,
) -> None:
    batch = batch_of(documents)
    tokens = tokens_of(batch, seed)
    denoiser = denoiser_with(attention, backend).float()
    cache = denoiser.empty_cache(batch)
    at = some_positions(batch, seed)
    expected, expected_at = denoiser(tokens, batch), denoiser(tokens, batch, at)
    everywhere = torch.arange(batch.num_positions)
    for active in (None, everywhere):
        assert torch.equal(denoiser(tokens, batch, cache=cache, active=active), expected)
        assert torch.equal(denoiser(tokens, batch, at, cache=cache, active=active), expected_at)


@torch.inference_mode()
def test_rows_leave_and_join() -> None:
    """Positions of two documents change places and a third joins: each goes on as in a batch of its own."""
    kinds = [(1, 3), (4, 4), (0, 5)]
    alone = [batch_of([kind]) for kind in kinds]
    denoiser = denoiser_with(FULL)
    tokens = [tokens_of(batch, seed) for seed, batch in enumerate(alone)]
    later = [tokens_of(batch, seed + 10) for seed, batch in enumerate(alone)]
    active = [some_positions(batch, seed) for seed, batch in enumerate(alone)]
    expected = []
    for batch, first, second, chosen in zip(alone, tokens, later, active, strict=True):
        cache = denoiser.empty_cache(batch)
        denoiser(first, batch, cache=cache)
        expected.append(denoiser(second, batch, cache=cache, active=chosen))

    def together(*numbers: int, given: list[Tensor]) -> tuple[Batch, Tensor, Tensor]:
        """A batch of the documents, its tokens, and where each one's positions start."""
        batch = batch_of([kinds[number] for number in numbers])
        rows = [torch.nn.functional.pad(given[n], (0, 80 - given[n].shape[1])) for n in numbers]
        return batch, torch.cat(rows), batch.cu_positions

    # Codes differ by a document's place in the batch, and tokens are given apart.
    batch, first, starts = together(0, 1, given=tokens)
    cache = denoiser.empty_cache(batch)
    denoiser(first, batch, cache=cache)
    middle, stop = starts[1:].tolist()
    swapped = torch.cat([torch.arange(middle, stop), torch.arange(middle)])
    other = denoiser.empty_cache(alone[2])
    denoiser(tokens[2], alone[2], cache=other)
    joined = cache.select(swapped).followed_by(other)
    batch, second, starts = together(1, 0, 2, given=later)
    chosen = torch.cat([active[n] + start for n, start in zip((1, 0, 2), starts[:-1].tolist(), strict=True)])
    found = denoiser(second, batch, cache=joined, active=chosen)
    torch.testing.assert_close(found, torch.cat([expected[1], expected[0], expected[2]]))
    assert joined.is_filled.all()


@torch.inference_mode()
def test_documents_may_begin_one_after_another() -> None:
    """One document is computed while nothing is known of the other."""
    denoiser = denoiser_with(PREFIX)
    batch = batch_of([(1, 3), (4, 4)])
    tokens, cache, middle = tokens_of(batch, 0), denoiser.empty_cache(batch), int(batch.cu_positions[1])
    first, second = torch.arange(middle), torch.arange(middle, batch.num_positions)
    expected = denoiser(tokens, batch)
    with pytest.raises(UserError, match="position 3 was never computed: the first pass over a document"):
        denoiser(tokens, batch, cache=cache, active=torch.tensor([0, 1, 2, 4]))
    assert not cache.is_filled.any()
    torch.testing.assert_close(denoiser(tokens, batch, cache=cache, active=second), expected[second])
    torch.testing.assert_close(denoiser(tokens, batch, cache=cache, active=first), expected[first])
    assert cache.is_filled.all()


@pytest.mark.parametrize(
    ("active", "match"),
    [
        ([], "no position is active"),
        ([3, 2], "must ascend within"),
        ([2, 2], "must ascend within"),
        ([-1, 2], "must ascend within"),
        ([MIXED.num_positions], f"within 0…{MIXED.num_positions - 1}"),
    ],
)
@torch.inference_mode()
def test_what_cannot_be_active_is_named(active: list[int], match: str) -> None:
    denoiser = denoiser_with(FULL)
    cache = denoiser.empty_cache(MIXED)
    denoiser(MIXED.tokens, MIXED, cache=cache)
    with pytest.raises(UserError, match=match):
        denoiser(MIXED.tokens, MIXED, cache=cache, active=torch.tensor(active, dtype=torch.int64))


@torch.inference_mode()
def test_what_is_not_computed_cannot_be_read() -> None:
    denoiser = denoiser_with(FULL)
    cache = denoiser.empty_cache(MIXED)
    denoiser(MIXED.tokens, MIXED, cache=cache)
    with pytest.raises(UserError, match="position 5 is not active"):
        denoiser(MIXED.tokens, MIXED, torch.tensor([2, 5]), cache=cache, active=torch.tensor([2, 4]))
    with pytest.raises(UserError, match="give their cache"):
        denoiser(MIXED.tokens, MIXED, active=torch.tensor([2, 4]))
    other = batch_of([(0, 3)])
    with pytest.raises(UserError, match=f"of {MIXED.num_positions} positions for a batch of 7"):
        denoiser(other.tokens, other, cache=cache)


def test_a_cache_has_no_gradients() -> None:
    denoiser = denoiser_with(FULL)
    with pytest.raises(AssertionError, match="inference mode"):
        denoiser(MIXED.tokens, MIXED, cache=denoiser.empty_cache(MIXED))


def test_a_cache_takes_two_numbers_a_position_width_and_block() -> None:
    denoiser = denoiser_with(FULL)
    cache = denoiser.empty_cache(MIXED)
    assert isinstance(cache, KeyValueCache) and cache.keys.dtype == torch.float64
    assert cache.keys.numel() + cache.values.numel() == 2 * 2 * 16 * MIXED.num_positions
