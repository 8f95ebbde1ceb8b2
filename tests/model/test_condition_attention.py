"""Conditions that attend to themselves alone: what depends on what, and that nothing is lost by freezing."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.slow_passes import (
    CONFIG,
    FULL,
    PREFIX,
    SlowPasses,
    batch_of,
    denoiser_with,
    in_prefix,
    kernel_on_cpu,
    tokens_of,
)
from trimask.config import from_dict, override, to_dict
from trimask.model.attention import AttentionBackend, Documents, attend
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.flops import forward_flops
from trimask.model.segments import ConditionAttention, Segments
from trimask.model.weights import check_fit
from trimask.training.corruption import Corruption, ObjectiveConfig
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import build_sequence
from trimask.vocabulary.task import Task
from vocabulary.test_sequence_batch import V, codes_of

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without")

MIXED = batch_of([(0, 3), (0, 5), (1, 2), (2, 4), (3, 3), (3, 3), (4, 3), (5, 1), (7, 2)])
IN_PREFIX = torch.tensor(in_prefix(MIXED))


def rows_apart(h: Tensor, weight: Tensor, bias: None = None) -> Tensor:
    """A linear layer whose rounding does not depend on how many rows there are."""
    return torch.cat([row[None] @ weight.T for row in h])


@pytest.mark.parametrize("backend", AttentionBackend)
@settings(max_examples=6)
@given(documents=st.lists(st.tuples(st.integers(0, 7), st.integers(1, 4)), min_size=1, max_size=5))
@torch.inference_mode()
def test_states_are_those_of_the_slow_twin(
    backend: AttentionBackend, documents: list[tuple[int, int]]
) -> None:
    batch = batch_of(documents)
    denoiser, tokens = denoiser_with(PREFIX, backend), tokens_of(batch, 1)
    with kernel_on_cpu():
        found = denoiser(tokens, batch)
    torch.testing.assert_close(found, SlowPasses(denoiser, batch)(tokens, range(batch.num_positions)))


@torch.inference_mode()
def test_a_prefix_does_not_depend_on_targets_to_the_bit() -> None:
    for attention in ConditionAttention:
        denoiser = denoiser_with(attention).float()
        caches, hidden = [denoiser.empty_cache(MIXED) for _ in range(2)], []
        for seed, cache in enumerate(caches):
            hidden.append(denoiser(tokens_of(MIXED, seed), MIXED, cache=cache))
        for one, other in ((caches[0].keys, caches[1].keys), (caches[0].values, caches[1].values)):
            same = (one == other).flatten(2).all(2).all(0)
            assert not same[~IN_PREFIX].all()
            assert same[IN_PREFIX].all() == (attention is PREFIX)
        same = (hidden[0] == hidden[1]).all(1)
        assert bool(same[IN_PREFIX].all()) == (attention is PREFIX) and not same[~IN_PREFIX].any()


@torch.inference_mode()
def test_a_frozen_prefix_changes_no_bit() -> None:
    """Of what attention and norms compute; products of matrices may round differently with fewer rows."""
    denoiser = denoiser_with(PREFIX).float()
    targets = MIXED.positions_after_prefix()
    with patch("torch.nn.functional.linear", rows_apart):
        cache = denoiser.empty_cache(MIXED)
        for seed in range(3):
            tokens = tokens_of(MIXED, seed)
            found = denoiser(tokens, MIXED, cache=cache, active=targets if seed else None)
            expected = denoiser(tokens, MIXED)
            assert torch.equal(found if seed else found[targets], expected[targets])
    cache = denoiser.empty_cache(MIXED)
    denoiser(tokens_of(MIXED, 0), MIXED, cache=cache)
    tokens = tokens_of(MIXED, 1)
    found = denoiser(tokens, MIXED, cache=cache, active=targets)
    torch.testing.assert_close(found, denoiser(tokens, MIXED)[targets], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_what_has_no_condition_is_as_with_full_attention_to_the_bit() -> None:
    tokens = tokens_of(MIXED, 0)
    full, prefix = (denoiser_with(each).float()(tokens, MIXED) for each in ConditionAttention)
    for number, (start, stop) in enumerate(MIXED.cu_positions.unfold(0, 2, 1).tolist()):
        assert torch.equal(full[start:stop], prefix[start:stop]) == (int(MIXED.prefix_length[number]) == 0)
    assert (MIXED.prefix_length == 0).sum() == 4


@torch.inference_mode()
def test_a_dropped_condition_is_a_prefix_all_the_same() -> None:
    """As in training: its slots are masked, and its keys still do not depend on the targets."""
    corruption = Corruption(ObjectiveConfig(condition_dropout=0.99), V, seed=0, device=torch.device("cpu"))
    assert corruption.is_dropped(MIXED).all()
    denoiser = denoiser_with(PREFIX).float()
    mask_id = torch.from_numpy(V.mask_of_range)[MIXED.range_index]
    found = []
    for step in range(2):
        z_t = corruption.views(MIXED, step)[0].z_t
        assert (z_t == mask_id)[MIXED.is_condition].all()
        found.append(denoiser(z_t, MIXED)[IN_PREFIX])
    assert torch.equal(found[0], found[1])


@torch.inference_mode()
def test_rows_and_other_documents_do_not_matter() -> None:
    denoiser, tokens = denoiser_with(PREFIX), tokens_of(MIXED, 0)
    hidden = denoiser(tokens, MIXED)
    for row in range(len(MIXED.tokens)):
        part = MIXED.rows(slice(row, row + 1))
        places = MIXED.position[row : row + 1][MIXED.sequence[row : row + 1] >= 0].unique()
        torch.testing.assert_close(denoiser(tokens[row : row + 1], part), hidden[places])


TWO = Task(name="two", spans=(("text", "image", "speech"),), condition=("text", "image"))
AROUND = Task(name="around", spans=(("image", "speech", "text"),), condition=("image", "text"))
AFTER = Task(name="after", spans=(("speech", "text"),), condition=("text",))
OWN = Vocabulary(spaces=V.spaces, layouts=V.layouts, tasks=(TWO, AROUND, AFTER))


def own_batch() -> Batch:
    """Of tasks of one's own: two conditions; one before the target and one after it; none before it."""
    sequences = [
        build_sequence(OWN, task.name, {m: codes_of(m, seed) for m in task.spans[0]})
        for seed, task in enumerate(OWN.tasks)
    ]
    return make_batch(sequences, range(3))


@torch.inference_mode()
def test_a_prefix_is_of_the_conditions_before_the_first_target() -> None:
    batch = own_batch()
    image_and_text, image = 1 + (2 + 6 * 2) + (2 + 4), 1 + (2 + 6 * 2)
    assert batch.prefix_length.tolist() == [image_and_text, image, 0]
    denoiser = Denoiser(replace(CONFIG, condition_attention=PREFIX), OWN)
    denoiser.initialize(0)
    changed = torch.where(batch.maskable, (batch.tokens + 1) % OWN.size, batch.tokens)
    one, other = denoiser(batch.tokens, batch), denoiser(changed, batch)
    for start, prefix in zip(batch.cu_positions.tolist(), batch.prefix_length.tolist(), strict=False):
        assert torch.equal(one[start : start + prefix], other[start : start + prefix])
    # A later condition sees the target before it.
    last = batch.cu_positions[2:] - 2
    assert (one[last] != other[last]).any(1).all()


def test_gradients_are_those_of_dense_attention() -> None:
    """Of one masked softmax over everything."""
    boundaries, prefixes = torch.tensor([0, 5, 10, 13, 21]), torch.tensor([2, 2, 0, 7])
    draw = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(21, 2, 8, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(3)
    ]
    document = torch.arange(4).repeat_interleave(boundaries.diff())
    is_prefix = torch.arange(21) - boundaries[document] < prefixes[document]
    sees = (document[:, None] == document) & ~(is_prefix[:, None] & ~is_prefix)
    scores = torch.einsum("qhd,khd->hqk", leaves[0], leaves[1]) / 8**0.5
    dense = torch.einsum("hqk,khd->qhd", scores.masked_fill(~sees, -torch.inf).softmax(-1), leaves[2])
    weight = torch.randn(21, 2, 8, generator=draw, dtype=torch.float64)
    expected = torch.autograd.grad((dense * weight).sum(), leaves)
    for backend in (AttentionBackend.LOOP, AttentionBackend.VARLEN):
        documents = Documents.of(boundaries, backend, leaves[0].device, prefixes=prefixes)
        with kernel_on_cpu():
            attended = attend(leaves[0], leaves[1], leaves[2], documents)
        torch.testing.assert_close(attended, dense)
        for a, b in zip(torch.autograd.grad((attended * weight).sum(), leaves), expected, strict=True):
            torch.testing.assert_close(a, b)


@given(data=st.data())
def test_segments_name_the_keys_of_each_query(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    prefixes = [data.draw(st.integers(0, length)) for length in lengths]
    places = [(n, i) for n, length in enumerate(lengths) for i in range(length)]
    is_active = data.draw(st.lists(st.booleans(), min_size=len(places), max_size=len(places)))
    active = [p for p, chosen in enumerate(is_active) if chosen]
    boundaries = torch.tensor([0, *lengths]).cumsum(0)
    expected = []
    for p in active:
        number, i = places[p]
        end = prefixes[number] if i < prefixes[number] else lengths[number]
        expected.append([int(boundaries[number]) + j for j in range(end)])
    segments = Segments.of(
        boundaries, prefixes=torch.tensor(prefixes), active=torch.tensor(active, dtype=torch.int64)
    )
    ranges = zip(*(each.tolist() for each in segments.key_ranges()), strict=True)
    assert [list(range(*each)) for each in ranges] == expected
    of_queries, of_keys, keys = segments.packed()
    keys = torch.arange(len(places)) if keys is None else keys
    assert int(of_keys[-1]) == len(keys)
    found = []
    for number, count in enumerate(of_queries.diff().tolist()):
        found += [keys[of_keys[number] : of_keys[number + 1]].tolist()] * count
    assert found == expected
    runs, start = segments.runs(), 0
    assert sum(run.count for run in runs) == len(lengths)
    found = []
    for run in runs:
        for _ in range(run.count):
            found += [list(range(start, start + run.prefix))] * run.num_active_in_prefix
            found += [list(range(start, start + run.length))] * (run.num_active - run.num_active_in_prefix)
            start += run.length
    assert found == expected


def test_flops_leave_out_what_a_prefix_does_not_see() -> None:
    def flops(attention: ConditionAttention, prefix: int, num_documents: int = 1) -> int:
        return forward_flops(
            replace(CONFIG, condition_attention=attention),
            num_positions=10 * num_documents,
            document_length=10,
            num_predicted=3,
            range_size=5,
            prefix_length=prefix,
        )

    whole = flops(FULL, 0)
    assert flops(FULL, 4) == flops(PREFIX, 0) == whole
    # In two blocks 4 queries miss 6 keys each, at 2 products of width 16.
    assert whole - flops(PREFIX, 4) == 2 * 2 * 2 * 16 * 4 * 6
    assert flops(FULL, 0, 3) - flops(PREFIX, 4, 3) == 3 * (whole - flops(PREFIX, 4))


def test_weights_of_full_attention_can_learn_the_other() -> None:
    check_fit(denoiser_with(FULL), replace(CONFIG, condition_attention=PREFIX), V)


def test_the_choice_is_stored_and_older_models_attend_fully() -> None:
    stored = to_dict(replace(CONFIG, condition_attention=PREFIX))
    assert stored["condition_attention"] == "prefix"
    assert from_dict(DenoiserConfig, stored).condition_attention is PREFIX
    del stored["condition_attention"]
    assert from_dict(DenoiserConfig, stored) == CONFIG
    assert override(CONFIG, {"condition_attention": "prefix"}).condition_attention is PREFIX
    assert CONFIG.resized(width=32).condition_attention is FULL
    assert replace(CONFIG, condition_attention=PREFIX).resized(depth=3).condition_attention is PREFIX
