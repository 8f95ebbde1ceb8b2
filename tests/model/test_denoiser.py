"""The denoiser against slow twins: packing, attention, rotation, logits, losses and counts."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from narrow import blocks_of
from trimask import rng
from trimask.config import from_dict, override, to_dict
from trimask.model.attention import AttentionBackend, Documents, QKNorm, attend
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.flops import count_parameters, forward_flops
from trimask.model.head import Normalization
from trimask.model.recompute import Recompute
from trimask.model.rope import rotary_angles, rotate
from trimask.model.weights import check_fit
from trimask.sampling.predictor import DenoiserPredictor
from trimask.vocabulary.batch import Batch, make_batch
from vocabulary.test_sequence_batch import SPANS, V, example

CONFIG = DenoiserConfig(width=32, depth=2, num_heads=2)


def random_denoiser(normalization: Normalization = Normalization.CODEBOOK) -> Denoiser:
    denoiser = Denoiser(replace(CONFIG, normalization=normalization), V)
    denoiser.initialize(0)
    with torch.no_grad():
        draw = rng.generator(0, "unembedding").standard_normal((V.size, CONFIG.width), dtype="float32")
        denoiser.unembedding.weight.copy_(torch.from_numpy(draw) * 0.3)
    return denoiser.eval()


def mixed_batch() -> Batch:
    """Two texts in one row with room left, and a padded row of each other task."""
    texts = [example("text", ("text",), seed=s, num_frames=f) for s, f in ((1, 5), (2, 9))]
    others = [example(task, spans, seed=3 + k) for k, (task, spans) in enumerate(SPANS[1:])]
    sequences = texts + others
    return make_batch(sequences, range(len(sequences)), row_length=80)


def masked_like(batch: Batch) -> tuple[Tensor, Tensor]:
    """Tokens with every third target masked, and where."""
    where = batch.maskable & (torch.arange(batch.tokens.numel()).view_as(batch.tokens) % 3 == 0)
    mask_id = torch.from_numpy(V.mask_of_range)[batch.range_index]
    return torch.where(where, mask_id, batch.tokens), where


@torch.inference_mode()
def test_padding_and_other_documents_change_no_bit() -> None:
    denoiser, batch = random_denoiser(), mixed_batch()
    tokens, _ = masked_like(batch)
    hidden = denoiser(tokens, batch)
    assert (batch.sequence == -1).any() and batch.sequence[0].unique().tolist() == [-1, 0, 1]
    scrambled = torch.where(batch.sequence == -1, 7, tokens)
    assert torch.equal(denoiser(scrambled, batch), hidden)
    for number in range(batch.num_sequences):
        changed = torch.where(batch.sequence == number, (tokens + 1) % V.size, tokens)
        other = denoiser(changed, batch)
        start, stop = batch.cu_positions[number : number + 2].tolist()
        assert torch.equal(other[:start], hidden[:start]) and torch.equal(other[stop:], hidden[stop:])
        assert not torch.equal(other[start:stop], hidden[start:stop])


@torch.inference_mode()
def test_a_document_is_the_same_in_any_batch() -> None:
    denoiser = random_denoiser()
    sequences = [example(task, spans, seed=k) for k, (task, spans) in enumerate(SPANS)]
    batch = make_batch(sequences, range(len(sequences)))
    hidden = denoiser(batch.tokens, batch)
    for number, sequence in enumerate(sequences):
        alone = make_batch([sequence], [number])
        start, stop = batch.cu_positions[number : number + 2].tolist()
        torch.testing.assert_close(denoiser(alone.tokens, alone), hidden[start:stop], rtol=0, atol=2e-6)


@torch.inference_mode()
def test_every_token_of_a_document_is_seen() -> None:
    """Bidirectional: the last slot changes the first position, and the first slot the last position."""
    denoiser = random_denoiser()
    batch = make_batch([example("triple", ("text", "image", "speech"))], [0])
    hidden = denoiser(batch.tokens, batch)
    for slot, position in ((0, -1), (-1, 0)):
        tokens = batch.tokens.clone()
        tokens[0, slot] = V.pad
        assert (denoiser(tokens, batch)[position] - hidden[position]).abs().max() > 1e-4


@torch.inference_mode()
def test_slots_of_a_position_are_summed_embeddings() -> None:
    """Audio is laid out with a delay: frame 1's coarse code shares a position with frame 0's second code."""
    sequence = example("text_to_speech", ("text", "speech"))
    batch = make_batch([sequence], [0])
    denoiser = random_denoiser()
    seen: list[Tensor] = []
    denoiser.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    denoiser(batch.tokens, batch)
    expected = torch.zeros_like(seen[0])
    for slot in range(sequence.num_slots):
        expected[sequence.position[slot]] += denoiser.embedding.weight[sequence.tokens[slot]]
    torch.testing.assert_close(seen[0], expected)
    assert batch.num_positions < sequence.num_slots


@pytest.mark.parametrize("normalization", Normalization)
@torch.inference_mode()
def test_logits_and_losses_against_the_full_vocabulary(normalization: Normalization) -> None:
    """The slow twin forms all logits, hides the ids outside each slot's range, and normalizes; for a loss
    over all codes it hides the special tokens. What is sampled from is normalized over the range either way.
    """
    denoiser, batch = random_denoiser(normalization), mixed_batch()
    tokens, where = masked_like(batch)
    hidden = denoiser(tokens, batch)
    expected = []
    for row, slot in where.nonzero().tolist():
        token_range = V.ranges[int(batch.range_index[row, slot])]
        full = denoiser.unembedding(hidden[batch.position[row, slot]])
        outside = torch.ones(V.size, dtype=torch.bool)
        outside[token_range.start : token_range.stop] = False
        log_p = full.masked_fill(outside, -math.inf).log_softmax(-1)
        outside = torch.arange(V.size) < V.num_special
        of_all = full.masked_fill(outside, -math.inf).log_softmax(-1)
        chosen = log_p if normalization is Normalization.CODEBOOK else of_all
        expected.append(-chosen[batch.tokens[row, slot]])
        got = denoiser.logits(hidden[batch.position[row, slot]][None], token_range.index)[0].log_softmax(-1)
        torch.testing.assert_close(got, log_p[token_range.start : token_range.stop], rtol=1e-5, atol=1e-5)
    losses = denoiser.cross_entropy(tokens, batch, where)
    torch.testing.assert_close(losses, torch.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalization", Normalization)
def test_losses_have_gradients_everywhere_they_should(normalization: Normalization) -> None:
    denoiser, batch = random_denoiser(normalization), mixed_batch()
    tokens, where = masked_like(batch)
    denoiser.cross_entropy(tokens, batch, where).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in denoiser.parameters())
    assert denoiser.unembedding.weight.grad is not None
    assert (denoiser.unembedding.weight.grad[: V.num_special] == 0).all()  # special ids are never predicted


@pytest.mark.parametrize("normalization", Normalization)
def test_weighted_loss_is_the_weighted_sum_of_losses(normalization: Normalization) -> None:
    one, other = random_denoiser(normalization), random_denoiser(normalization)
    batch = mixed_batch()
    tokens, where = masked_like(batch)
    scale = torch.from_numpy(rng.generator(0, "scale").uniform(0.1, 2, int(where.sum())))
    expected = one.cross_entropy(tokens, batch, where)
    (expected * scale.float()).sum().backward()
    loss, losses = other.weighted_loss(tokens, batch, where, scale)
    loss.backward()
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(loss, (expected * scale).sum().float())
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(
            a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_a_weighted_loss_of_nothing_has_gradients_of_zero() -> None:
    """A process whose part of a batch has no target takes part in the reduction of gradients all the same."""
    denoiser, batch = random_denoiser(), mixed_batch()
    nothing = torch.zeros_like(batch.maskable)
    rows: list[int] = []
    denoiser.final_norm.register_forward_pre_hook(lambda module, given: rows.append(len(given[0])))
    loss, losses = denoiser.weighted_loss(batch.tokens, batch, nothing, torch.zeros(0))
    loss.backward()
    assert rows == [1]  # float8 products fail on none
    assert loss.tolist() == 0 and len(losses) == 0
    assert all(p.grad is not None and (p.grad == 0).all() for p in denoiser.parameters())


@pytest.mark.parametrize("recompute", Recompute)
def test_states_of_some_positions_are_those_of_all(recompute: Recompute) -> None:
    one, other, batch = random_denoiser(), random_denoiser(), mixed_batch()
    blocks_of(other)[-1].recompute = recompute
    at = torch.arange(1, batch.num_positions, 3)
    expected, states = one(batch.tokens, batch)[at], other(batch.tokens, batch, at)
    torch.testing.assert_close(states, expected)
    for hidden in (expected, states):
        hidden.square().sum().backward()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@torch.inference_mode()
def test_first_prediction_is_uniform() -> None:
    denoiser = Denoiser(CONFIG, V)
    denoiser.initialize(3)
    batch = mixed_batch()
    tokens, where = masked_like(batch)
    size = torch.tensor([r.size for r in V.ranges], dtype=torch.float64)[batch.range_index[where]]
    torch.testing.assert_close(
        denoiser.cross_entropy(tokens, batch, where).double(), size.log(), rtol=1e-6, atol=0
    )


def test_initialization_is_named_by_its_seed() -> None:
    one, same, other = (Denoiser(CONFIG, V) for _ in range(3))
    one.initialize(5)
    torch.randn(3)  # no global state is read
    same.initialize(5)
    other.initialize(6)
    for (name, a), b, c in zip(one.named_parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        if not name.endswith("norm.weight") and name != "unembedding.weight":
            assert not torch.equal(a, c), name
    # A deeper model starts with the same first blocks.
    deeper = Denoiser(replace(CONFIG, depth=3), V)
    deeper.initialize(5)
    assert torch.equal(
        deeper.get_parameter("blocks.1.attention.qkv.weight"),
        one.get_parameter("blocks.1.attention.qkv.weight"),
    )


@pytest.mark.parametrize("qk_norm", QKNorm)
@pytest.mark.parametrize(("width", "depth", "num_heads"), [(32, 2, 2), (64, 1, 4), (48, 3, 3)])
def test_parameter_count(width: int, depth: int, num_heads: int, qk_norm: QKNorm) -> None:
    config = DenoiserConfig(width=width, depth=depth, num_heads=num_heads, qk_norm=qk_norm)
    denoiser = Denoiser(config, V)
    count = count_parameters(config, V)
    assert count.total == sum(p.numel() for p in denoiser.parameters())
    assert count.blocks == count.total - 2 * denoiser.embedding.weight.numel()


def test_without_qk_norm_scores_are_those_of_the_projections() -> None:
    """Nothing else changes: the same start of all other tensors, and the scale of q and k shows."""
    config = replace(CONFIG, qk_norm=QKNorm.NONE)
    plain, normed = Denoiser(config, V), Denoiser(CONFIG, V)
    plain.initialize(5)
    normed.initialize(5)
    theirs = dict(normed.named_parameters())
    left_out = theirs.keys() - dict(plain.named_parameters()).keys()
    assert {name.split(".")[-2] for name in left_out} == {"q_norm", "k_norm"}
    assert all(torch.equal(value, theirs[name]) for name, value in plain.named_parameters())
    (block, *_), h = blocks_of(plain), torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    cos, sin = rotary_angles(torch.arange(3.0)[:, None].expand(-1, 2), 16, 100.0)
    documents = Documents.of(torch.tensor([0, 3]), AttentionBackend.LOOP, torch.device("cpu"))
    with torch.no_grad():
        q, k, v = block.attention.qkv(h).view(3, 3, 2, 16).unbind(1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        scores = torch.einsum("ahd,bhd->hab", q, k) / 4
        expected = (
            torch.einsum("hab,bhd->ahd", scores.softmax(-1), v).flatten(1) @ block.attention.out.weight.T
        )
        found = block.attention(h, cos=cos, sin=sin, documents=documents)
    torch.testing.assert_close(found, expected)


def test_the_bound_over_all_codes_has_what_leaves_the_range() -> None:
    """−log p(code) over all = −log p(code | its range) − log P(its range), and the samples' p is the same."""
    own, of_all, batch = random_denoiser(), random_denoiser(Normalization.ALL), mixed_batch()
    tokens, where = masked_like(batch)
    with torch.inference_mode():
        losses, wider = (each.cross_entropy(tokens, batch, where) for each in (own, of_all))
        hidden = own(tokens, batch)[batch.position[where]]
        logits = own.unembedding(hidden)[:, V.num_special :]
        mass = []
        for row, index in zip(logits.softmax(-1), batch.range_index[where].tolist(), strict=True):
            start, stop = V.ranges[index].start - V.num_special, V.ranges[index].stop - V.num_special
            mass.append(row[start:stop].sum())
        torch.testing.assert_close(wider, losses - torch.stack(mass).log())
        predictions = [DenoiserPredictor(each)(tokens, batch) for each in (own, of_all)]
        for index in batch.range_index[where].unique().tolist():
            slots = (batch.range_index == index).flatten().nonzero()[:, 0]
            first, second = (prediction(slots, index) for prediction in predictions)
            assert torch.equal(first, second)
            torch.testing.assert_close(first.exp().sum(1), torch.ones(len(slots)))


def test_the_choice_of_normalization_is_stored_and_can_be_learned_anew() -> None:
    wide = replace(CONFIG, normalization=Normalization.ALL)
    stored = to_dict(wide)
    assert stored["normalization"] == "all" and from_dict(DenoiserConfig, stored) == wide
    del stored["normalization"]
    assert from_dict(DenoiserConfig, stored) == CONFIG
    check_fit(Denoiser(CONFIG, V), wide, V)


def test_the_choice_of_qk_norm_is_stored_and_older_models_have_it() -> None:
    stored = to_dict(replace(CONFIG, qk_norm=QKNorm.NONE))
    assert stored["qk_norm"] == "none" and from_dict(DenoiserConfig, stored).qk_norm is QKNorm.NONE
    del stored["qk_norm"]
    assert from_dict(DenoiserConfig, stored) == CONFIG
    assert override(CONFIG, {"qk_norm": "none"}).qk_norm is QKNorm.NONE
    with pytest.raises(ValueError, match="weights are of a model with qk_norm rms, and this one has none"):
        check_fit(Denoiser(CONFIG, V), replace(CONFIG, qk_norm=QKNorm.NONE), V)


def test_flops_of_the_matrices_alone() -> None:
    """With no attention and no logits, 2 FLOPs a matrix weight and position."""
    denoiser = Denoiser(CONFIG, V)
    weights = sum(p.numel() for b in denoiser.blocks for p in b.parameters() if p.dim() == 2)
    assert (
        forward_flops(CONFIG, num_positions=10, document_length=0, num_predicted=0, range_size=0)
        == 20 * weights
    )


@pytest.mark.parametrize(("width", "num_heads"), [(32, 3), (30, 2), (0, 1)])
def test_bad_sizes_are_named(width: int, num_heads: int) -> None:
    with pytest.raises(ValueError, match=f"width {width}"):
        DenoiserConfig(width=width, depth=1, num_heads=num_heads)


@pytest.mark.filterwarnings("ignore:flex_attention called without")  # its kernels are compiled, for GPUs
def test_attention_against_a_naive_softmax_per_document() -> None:
    lengths = [3, 5, 5, 1, 4, 4, 4]
    q, k, v = torch.from_numpy(rng.generator(0, "qkv").standard_normal((3, sum(lengths), 2, 8))).unbind(0)
    expected, start = torch.zeros_like(q), 0
    for length in lengths:
        here = slice(start, start + length)
        for head in range(2):
            scores = q[here, head] @ k[here, head].T / math.sqrt(8)
            expected[here, head] = scores.softmax(-1) @ v[here, head]
        start += length
    boundaries = torch.tensor([0, *lengths]).cumsum(0)
    for backend in (AttentionBackend.LOOP, AttentionBackend.FLEX):
        documents = Documents.of(boundaries, backend, q.device)
        torch.testing.assert_close(attend(q, k, v, documents), expected)


def test_the_longest_document_is_rounded_up_to_few_values() -> None:
    cpu = torch.device("cpu")
    longest = [
        Documents.of(torch.tensor([0, n, n + 3]), AttentionBackend.VARLEN, cpu).longest for n in (3, 4, 5, 9)
    ]
    assert longest == [4, 4, 8, 16]
    assert AttentionBackend.suited(cpu, torch.float32) is AttentionBackend.LOOP
    gpu = torch.device("cuda")
    assert AttentionBackend.suited(gpu, torch.bfloat16) is AttentionBackend.VARLEN
    assert AttentionBackend.suited(gpu, torch.float32) is AttentionBackend.LOOP


def turned(x: Tensor, coordinates: list[list[float]]) -> Tensor:
    cos, sin = rotary_angles(torch.tensor(coordinates), x.shape[-1], 100.0)
    return rotate(x.expand(len(coordinates), 1, -1), cos, sin)[:, 0]


def test_rotation_keeps_lengths_and_sees_differences_alone() -> None:
    q, k = torch.from_numpy(rng.generator(1, "qk").standard_normal((2, 16), dtype="float32"))
    places = [[0.0, 0.0], [3.0, -2.0], [7.5, 4.0]]
    torch.testing.assert_close(turned(q, places).norm(dim=-1), q.norm().expand(3))
    shift = [2.0, 11.0]
    moved = [[a + shift[0], b + shift[1]] for a, b in places]
    before, after = turned(q, places) @ turned(k, places).T, turned(q, moved) @ turned(k, moved).T
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
    assert torch.equal(turned(q, [[0.0, 0.0]])[0], q)


def test_rotation_tells_rows_from_columns() -> None:
    q = torch.from_numpy(rng.generator(2, "q").standard_normal(16, dtype="float32"))
    row, column, both = turned(q, [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert (row - column).abs().max() > 0.1 and (row - both).abs().max() > 0.1
    # Each coordinate turns its own features: what one leaves alone, the other turns.
    changed_by_row, changed_by_column = row != q, column != q
    assert not (changed_by_row & changed_by_column).any()
    assert (changed_by_row | changed_by_column).all()


def test_rotation_against_complex_numbers() -> None:
    """Feature i and its partner, as one complex number, times e^(i · coordinate · frequency)."""
    x = torch.from_numpy(rng.generator(3, "x").standard_normal(16, dtype="float32"))
    first, second = 3.0, -1.5
    angles = [c * 100.0 ** (-i / 4) for c in (first, second) for i in range(4)]
    numbers = torch.complex(x[:8], x[8:]) * torch.exp(1j * torch.tensor(angles))
    torch.testing.assert_close(turned(x, [[first, second]])[0], torch.cat([numbers.real, numbers.imag]))


def test_feed_forward_is_swiglu() -> None:
    denoiser = random_denoiser()
    ff = blocks_of(denoiser)[0].feed_forward
    x = torch.from_numpy(rng.generator(4, "x").standard_normal((3, 32), dtype="float32"))
    gate, up = ff.gate_up.weight.chunk(2)
    expected = (F.silu(x @ gate.T) * (x @ up.T)) @ ff.down.weight.T
    torch.testing.assert_close(ff(x), expected, rtol=1e-4, atol=1e-5)
