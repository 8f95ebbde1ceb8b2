"""The loop, with an exact oracle, with counted predictions and with a random denoiser."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import pytest
import torch
from torch import Tensor

from design_space import ORDERS
from oracle import Oracle
from sampling.fakes import hum, random_denoiser, tiny_vocabulary
from trimask.errors import UserError
from trimask.sampling.grid import Cosine, TimeGrid, Uniform
from trimask.sampling.guidance import ConstantGuidance, GuidanceRamp, Guided, LinearGuidance
from trimask.sampling.order import Ancestral, Canvas, Confidence, LeftToRightBlocks, Order, Step
from trimask.sampling.predictor import DenoiserPredictor, Prediction, Predictor
from trimask.sampling.sampler import SamplerConfig, make_canvas, sample
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence


class OraclePredictor:
    """The exact conditionals of a small joint table over a text span."""

    def __init__(self, oracle: Oracle):
        self.oracle = oracle
        self.vocabulary = Vocabulary(
            spaces=(
                CodeSpace(name="text", num_codebooks=1, codebook_size=oracle.vocabulary_size, has_end=False),
                CodeSpace(name="image", num_codebooks=1, codebook_size=2, has_end=False, grid=(1, 1)),
                CodeSpace(name="speech", num_codebooks=1, codebook_size=2, has_end=True),
            )
        )

    def batch(self, num_samples: int) -> Batch:
        zeros = np.zeros((self.oracle.length, 1), dtype=np.int64)
        sequence = build_sequence(self.vocabulary, "text", {"text": zeros})
        return make_batch([sequence] * num_samples, range(num_samples))

    def codes(self, z: Tensor, batch: Batch) -> Tensor:
        span = z[batch.maskable].view(len(z), -1)
        is_mask = span == self.vocabulary.mask("text")
        return torch.where(is_mask, self.oracle.mask_id, span - self.vocabulary.ranges[0].start)

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        full = torch.zeros(*z.shape, self.oracle.vocabulary_size, dtype=torch.float64)
        full[batch.maskable] = self.oracle.log_probabilities(self.codes(z, batch)).flatten(0, 1)
        return lambda slots, range_index: full.flatten(0, 1)[slots]


class Spy:
    """Counts passes and the slots whose log-probabilities were asked for."""

    def __init__(self, predictor: Predictor):
        self.predictor, self.num_passes, self.num_slots = predictor, 0, 0
        self.vocabulary = predictor.vocabulary

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        self.num_passes += 1
        prediction = self.predictor(z, batch)

        def counted(slots: Tensor, range_index: int) -> Tensor:
            self.num_slots += len(slots)
            return prediction(slots, range_index)

        return counted


def test_total_variation_falls_with_steps() -> None:
    oracle = Oracle.random(sharpness=2.0)
    predictor = OraclePredictor(oracle)
    batch = predictor.batch(8000)
    place = oracle.vocabulary_size ** torch.arange(oracle.length).flip(0)
    distances = []
    for num_steps in (1, 2, 4, 32):
        codes = predictor.codes(sample(predictor, batch, SamplerConfig(num_steps=num_steps), seed=1), batch)
        frequency = (codes @ place).bincount(minlength=len(oracle.probability)) / len(codes)
        distances.append(0.5 * (frequency - oracle.probability).abs().sum().item())
    print("total variation at 1, 2, 4, 32 steps:", [round(d, 4) for d in distances])
    # 27 outcomes and 8,000 draws: about 0.02 is the noise of the exact distribution itself.
    assert distances[0] > 1.3 * distances[1] and distances[1] > 1.3 * distances[2] > 1.3 * distances[3]
    assert distances[-1] < 0.04


def documents(vocabulary: Vocabulary) -> list[Sequence]:
    """Several tasks and lengths."""
    text = np.arange(7)[:, None] % 5
    image = np.arange(8).reshape(4, 2) % 5
    audio = (hum(5)[:10].reshape(5, 2) > 0).astype(np.int64)
    t, i, a = "text", "image", "speech"
    return [
        build_sequence(vocabulary, "text_to_image", {t: text, i: image}),
        build_sequence(vocabulary, "text", {t: text[:3]}),
        build_sequence(vocabulary, "text_to_speech", {t: text[:4], a: np.zeros((9, 2), dtype=np.int64)}),
        build_sequence(vocabulary, "triple", {t: text, i: image, a: audio}),
        build_sequence(vocabulary, "speech_to_text", {a: audio, t: text}),
        build_sequence(vocabulary, "joint", {t: text[:2], i: image}),
    ]


@pytest.mark.parametrize(
    ("order", "guidance_scale"),
    [(ORDERS[0], 2.0), (ORDERS[2], 2.0), (ORDERS[2], 1.0), (ORDERS[4], 1.0)],
    ids=repr,
)
def test_sample_is_the_same_at_any_batch_size(order: Order, guidance_scale: float) -> None:
    predictor = DenoiserPredictor(random_denoiser())
    all_documents = documents(predictor.vocabulary)
    config = SamplerConfig(num_steps=4, grid=Cosine(), order=order, guidance_scale=guidance_scale)
    together = sample(predictor, make_batch(all_documents, range(6)), config, seed=3)
    again = sample(predictor, make_batch(all_documents, range(6)), config, seed=3)
    other = sample(predictor, make_batch(all_documents, range(6)), config, seed=4)
    assert torch.equal(together, again) and not torch.equal(together, other)
    for chunk in ([0], [1], [2, 3], [4, 5, 0]):
        alone = sample(predictor, make_batch([all_documents[k] for k in chunk], chunk), config, seed=3)
        for row, k in enumerate(chunk):
            length = all_documents[k].num_slots
            assert torch.equal(alone[row, :length], together[k, :length]), (k, chunk)


@pytest.mark.parametrize("num_steps", [1, 2, 9])
@pytest.mark.parametrize("order", ORDERS, ids=repr)
def test_every_target_is_filled_from_its_own_range(order: Order, num_steps: int) -> None:
    predictor = DenoiserPredictor(random_denoiser())
    batch = make_batch(documents(predictor.vocabulary), range(6))
    seen: list[Tensor] = []
    config = SamplerConfig(num_steps=num_steps, order=order)
    tokens = sample(predictor, batch, config, seed=0, callback=lambda step, z: seen.append(z.clone()))
    ranges = predictor.vocabulary.ranges
    start = torch.tensor([r.start for r in ranges])[batch.range_index[batch.maskable]]
    stop = torch.tensor([r.stop for r in ranges])[batch.range_index[batch.maskable]]
    assert ((tokens[batch.maskable] >= start) & (tokens[batch.maskable] < stop)).all()
    assert torch.equal(tokens[~batch.maskable], batch.tokens[~batch.maskable])
    assert len(seen) == num_steps + 1 and torch.equal(seen[-1], tokens)
    for before, after in itertools.pairwise(seen):  # what is revealed stays
        is_revealed = before >= predictor.vocabulary.num_special
        assert torch.equal(before[is_revealed], after[is_revealed])


def masked_counts(order: Order, num_steps: int, batch: Batch, vocabulary: Vocabulary) -> list[Tensor]:
    """Masks after each step: a (rows, slots) tensor per step."""
    seen: list[Tensor] = []
    predictor = DenoiserPredictor(random_denoiser())
    config = SamplerConfig(num_steps=num_steps, order=order)
    sample(
        predictor,
        batch,
        config,
        seed=0,
        callback=lambda step, z: seen.append((z < vocabulary.num_special) & batch.maskable),
    )
    return seen


def test_confidence_reveals_the_scheduled_counts_of_each_modality() -> None:
    vocabulary = tiny_vocabulary()
    batch = make_batch(documents(vocabulary), range(6))
    canvas = make_canvas(batch, vocabulary)
    times = Uniform().times(5)
    for t, masked in zip(
        times, masked_counts(Confidence(noise_temperature=1.0), 5, batch, vocabulary), strict=True
    ):
        for modality in range(canvas.num_modalities):
            here = batch.maskable & (canvas.modality == modality)
            expected = (here.sum(1) * t).round().long()
            assert torch.equal((masked & here).sum(1), expected)


def test_codebook_penalty_fills_coarse_codes_first() -> None:
    vocabulary = tiny_vocabulary()
    batch = make_batch(documents(vocabulary)[:1], [0])
    canvas = make_canvas(batch, vocabulary)
    for masked in masked_counts(Confidence(codebook_penalty=100.0), 8, batch, vocabulary):
        coarse, fine = (
            (masked & (canvas.codebook == 0)).sum(),
            (~masked & batch.maskable & (canvas.codebook == 1)).sum(),
        )
        assert coarse == 0 or fine == 0


@pytest.mark.parametrize("num_steps", [1, 3, 20])
@pytest.mark.parametrize("inner", [Ancestral(), Confidence()], ids=repr)
def test_blocks_go_strictly_left_to_right(inner: Order, num_steps: int) -> None:
    vocabulary = tiny_vocabulary()
    batch = make_batch(documents(vocabulary), range(6))
    block_length = 2
    masks = masked_counts(
        LeftToRightBlocks(block_length=block_length, inner=inner), num_steps, batch, vocabulary
    )
    block = (batch.maskable.long().cumsum(1) - 1) // block_length
    for masked in masks[1:]:
        for row in range(len(masked)):
            left = block[row][masked[row]]
            shown = block[row][~masked[row] & batch.maskable[row]]
            assert not len(left) or not len(shown) or shown.max() <= left.min()
    if num_steps == 20:  # enough steps that no two blocks are filled in one
        for before, after in itertools.pairwise(masks):
            for row in range(len(before)):
                assert len(block[row][before[row] & ~after[row]].unique()) <= 1


def test_random_order_asks_only_for_the_slots_it_fills() -> None:
    vocabulary = tiny_vocabulary()
    batch = make_batch(documents(vocabulary), range(6))
    spy = Spy(DenoiserPredictor(random_denoiser()))
    sample(spy, batch, SamplerConfig(num_steps=6), seed=0)
    assert spy.num_slots == batch.maskable.sum()


def test_steps_that_reveal_nothing_cost_nothing() -> None:
    vocabulary = tiny_vocabulary()
    batch = make_batch(documents(vocabulary)[1:2], [0])  # three targets
    spy = Spy(DenoiserPredictor(random_denoiser()))
    sample(spy, batch, SamplerConfig(num_steps=40, order=Confidence()), seed=0)
    assert spy.num_passes == 3


def count_passes(guidance_scale: float, ramp: GuidanceRamp, chosen: slice) -> tuple[int, Tensor]:
    batch = make_batch(documents(tiny_vocabulary())[chosen], [0])
    spy = Spy(DenoiserPredictor(random_denoiser()))
    config = SamplerConfig(num_steps=4, order=Confidence(), guidance_scale=guidance_scale, guidance_ramp=ramp)
    tokens = sample(spy, batch, config, seed=0)
    return spy.num_passes, tokens


def test_guidance_costs_a_second_pass_only_where_it_acts() -> None:
    conditional, unconditional = slice(0, 1), slice(1, 2)
    passes, plain = count_passes(1.0, ConstantGuidance(), conditional)
    assert passes == 4
    guided_passes, guided = count_passes(4.0, ConstantGuidance(), conditional)
    assert guided_passes == 8 and not torch.equal(plain, guided)
    assert count_passes(4.0, LinearGuidance(), conditional)[0] == 7
    few, without = count_passes(1.0, ConstantGuidance(), unconditional)
    same, with_scale = count_passes(4.0, ConstantGuidance(), unconditional)
    assert few == same and torch.equal(without, with_scale)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_guided_against_its_formula(scale: float) -> None:
    predictor = DenoiserPredictor(random_denoiser())
    vocabulary = predictor.vocabulary
    batch = make_batch(documents(vocabulary)[:1], [0])
    mask_id = torch.from_numpy(vocabulary.mask_of_range)[batch.range_index]
    z = torch.where(batch.maskable, mask_id, batch.tokens)
    dropped = torch.where(batch.is_condition, mask_id, z)
    assert (dropped[batch.is_condition] == vocabulary.mask("text")).all()
    index = vocabulary.ranges_of("image")[1].index
    slots = (batch.range_index.flatten() == index).nonzero().squeeze(1)
    cond, uncond = predictor(z, batch)(slots, index), predictor(dropped, batch)(slots, index)
    got = Guided(predictor, scale)(z, batch)(slots, index)
    if scale == 1:
        assert torch.equal(got, cond)
    torch.testing.assert_close(got, torch.log_softmax(uncond + scale * (cond - uncond), dim=-1))
    assert not torch.allclose(cond, uncond)


@pytest.mark.parametrize(
    ("propose", "reveal", "message"),
    [
        (torch.zeros_like, torch.clone, r"the order .*Odd\(\) left [0-9]+ slots masked: where step.s is 0"),
        (
            lambda masked: masked[:, :1],
            torch.clone,
            r"`propose` of the order .*Odd.* of shape \(6, 1\) on cpu",
        ),
        (lambda masked: None, torch.clone, r"`propose` of the order .*Odd.* returned NoneType: return a"),
        (torch.clone, torch.Tensor.float, r"`reveal` of .* returned a tensor of torch.float32 of shape"),
    ],
)
def test_what_an_order_returns_is_checked(
    propose: Callable[[Tensor], Any], reveal: Callable[[Tensor], Any], message: str
) -> None:
    @final
    @dataclass(frozen=True)
    class Odd(Order):
        def propose(self, masked: Tensor, canvas: Canvas, step: Step) -> Any:
            return propose(masked)

        def reveal(self, proposed: Tensor, log_confidence: Tensor, canvas: Canvas, step: Step) -> Any:
            return reveal(proposed)

    batch = make_batch(documents(tiny_vocabulary()), range(6))
    with pytest.raises(UserError, match=message):
        sample(DenoiserPredictor(random_denoiser()), batch, SamplerConfig(num_steps=2, order=Odd()), seed=0)


def test_the_times_of_a_grid_are_checked() -> None:
    @final
    @dataclass(frozen=True)
    class Short(TimeGrid):
        def _time(self, done: Tensor) -> Any:
            return 1 - done[:-1]

    with pytest.raises(UserError, match=r"_time of the grid .*Short\(\) .*: return a tensor of 5"):
        Short().times(4)


def test_packed_rows_are_refused() -> None:
    predictor = DenoiserPredictor(random_denoiser())
    text = documents(predictor.vocabulary)[1]
    batch = make_batch([text, text], range(2), row_length=80)
    with pytest.raises(ValueError, match="one sequence per row"):
        sample(predictor, batch, SamplerConfig(num_steps=1), seed=0)


def test_a_condition_that_is_not_needed_is_not_read() -> None:
    """What stands at maskable slots before sampling changes nothing."""
    predictor = DenoiserPredictor(random_denoiser())
    batch = make_batch(documents(predictor.vocabulary), range(6))
    scrambled = replace(batch, tokens=torch.where(batch.maskable, batch.tokens + 1, batch.tokens))
    config = SamplerConfig(num_steps=3)
    assert torch.equal(sample(predictor, batch, config, seed=0), sample(predictor, scrambled, config, seed=0))
