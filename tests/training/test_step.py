"""The denoiser's update: what is masked, what it costs, and that it learns."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from design_space import TIME_DRAWS
from narrow import blocks_of, gradient
from trimask.diffusion.objective import count_targets, nelbo_terms, training_loss
from trimask.diffusion.schedule import Cosine, Schedule
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.recompute import Recompute
from trimask.training.corruption import Corruption, ObjectiveConfig
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.modalities import NO_ROWS, Modalities, ModalityConfig
from trimask.training.optimizers import AdamWConfig, NonFinite
from trimask.training.reduction import ModalityMeans, TokenMean
from trimask.training.step import DenoiserStep
from trimask.training.times import Independent, TimeDraw
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.codebooks import Parallel
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence

VOCABULARY = Vocabulary(
    spaces=(
        CodeSpace(name="text", num_codebooks=1, codebook_size=40, has_end=True),
        CodeSpace(name="image", num_codebooks=2, codebook_size=16, has_end=False, grid=(3, 3)),
        CodeSpace(name="speech", num_codebooks=2, codebook_size=8, has_end=True),
    ),
    layouts={"image": Parallel(), "speech": Parallel()},
)
CPU = torch.device("cpu")
TASKS = frozenset({"text", "text_to_image", "text_to_speech"})


def make_sequences(count: int = 12) -> list[Sequence]:
    draw = np.random.default_rng(0)
    sequences = []
    for i in range(count):
        text = draw.integers(0, 40, (int(draw.integers(2, 7)), 1))
        if i % 3 == 0:
            codes, task = {"text": text}, "text"
        elif i % 3 == 1:
            codes, task = (
                {"text": text, "image": draw.integers(0, 16, (9, 2))},
                "text_to_image",
            )
        else:
            codes, task = (
                {"text": text, "speech": draw.integers(0, 8, (6, 2))},
                "text_to_speech",
            )
        sequences.append(build_sequence(VOCABULARY, task, codes, num_end={"text": 1, "speech": 2}))
    return sequences


def make_corruption(modalities: Modalities = NO_ROWS, **objective: Any) -> Corruption:
    return Corruption(ObjectiveConfig(**objective), VOCABULARY, modalities=modalities, seed=5, device=CPU)


def scheduled(**schedules: Schedule) -> dict[str, ModalityConfig]:
    return {name: ModalityConfig(schedule=schedule) for name, schedule in schedules.items()}


def weighted(*weights: float) -> dict[str, ModalityConfig]:
    rows = [ModalityConfig(weight=weight) for weight in weights]
    return dict(zip(VOCABULARY.modalities, rows, strict=True))


def targets_of(sequences: list[Sequence]) -> tuple[float, ...]:
    """Target tokens of a sequence per modality, on average over `sequences`."""
    ranges = [VOCABULARY.ranges[r].modality for s in sequences for r in s.range_index[s.maskable]]
    return tuple(ranges.count(modality) / len(sequences) for modality in VOCABULARY.modalities)


def make_step(
    num_steps: int = 60, tasks: frozenset[str] = TASKS, modalities: Modalities = NO_ROWS, **objective: Any
) -> DenoiserStep:
    denoiser = Denoiser(DenoiserConfig(width=32, depth=2, num_heads=2), VOCABULARY)
    denoiser.initialize(0)
    return DenoiserStep(
        denoiser,
        objective=ObjectiveConfig(**objective),
        optimizer=AdamWConfig(learning_rate=5e-3),
        lr_schedule=WarmupCosine(warmup_fraction=0.1),
        num_steps=num_steps,
        seed=5,
        targets=targets_of(make_sequences()),
        tasks=tasks,
        modalities=modalities,
    )


@pytest.fixture(scope="module")
def batch() -> Batch:
    return make_batch(make_sequences(), range(100, 112))


def test_only_targets_are_masked_each_by_its_modality(batch: Batch):
    view = make_corruption(condition_dropout=0.0).views(batch, 0)[0]
    assert not (view.masked & ~batch.maskable).any()
    assert torch.equal(view.z_t[~view.masked], batch.tokens[~view.masked])
    for token_range in VOCABULARY.ranges:
        here = view.masked & (batch.range_index == token_range.index)
        assert (view.z_t[here] == VOCABULARY.mask(token_range.modality)).all()


def test_masks_are_the_samples_own_whatever_the_batch(batch: Batch):
    """Same sample, other neighbours, other place: the same uniforms, hence (at equal t) the same mask."""
    corruption = make_corruption()
    sequences = make_sequences()
    alone = make_batch([sequences[3]], [103])
    packed = make_batch([sequences[0], sequences[3], sequences[6]], [100, 103, 106], row_length=60)
    one = corruption._slot_uniforms(alone, "mask", alone.tokens.shape[1])[0, : sequences[3].num_slots]
    many = corruption._slot_uniforms(packed, "mask", packed.tokens.shape[1])[packed.sequence == 1]
    assert torch.equal(one, many)


def test_each_task_sees_times_spread_over_the_interval(batch: Batch):
    times = make_corruption()._times(batch, 7)
    for task in batch.task.unique():
        members = times[batch.task == task].sort().values
        bins = (members * len(members)).floor().long()
        assert bins.unique().numel() == len(members)


def test_conditions_are_dropped_whole_at_the_stated_rate():
    sequences = make_sequences(600)
    big = make_batch(sequences, range(600))
    corruption = make_corruption(condition_dropout=0.3)
    hidden = corruption._drop_conditions(big) != big.tokens
    conditional = [s for s in range(600) if sequences[s].is_condition.any()]
    dropped = 0
    for s in conditional:
        inside = hidden[(big.sequence == s) & big.is_condition]
        assert inside.all() or not inside.any()
        dropped += bool(inside.all())
    assert not (hidden & ~big.is_condition).any()
    rate = dropped / len(conditional)
    assert abs(rate - 0.3) < 4 * math.sqrt(0.3 * 0.7 / len(conditional))


def test_anti_masking_covers_each_target_once(batch: Batch):
    first, second = make_corruption(anti_masking=True).views(batch, 0)
    assert torch.equal(first.masked ^ second.masked, batch.maskable)
    real = batch.sequence >= 0
    torch.testing.assert_close(
        1 / first.weight[real] + 1 / second.weight[real], torch.ones(int(real.sum()), dtype=torch.float64)
    )
    assert torch.equal(first.z_t[~batch.maskable], second.z_t[~batch.maskable])


@pytest.mark.parametrize(
    "objective",
    [
        {},
        {"anti_masking": True},
        {"times": Independent()},
        {"times": Independent(), "anti_masking": True},
        {"modalities": scheduled(text=Cosine(), image=Cosine())},
    ],
)
def test_a_target_weighs_one_in_expectation(objective: dict[str, Any]):
    """E[weight · masked] = 1 for each target: with cross-entropy ln V, the loss is ln V per token."""
    corruption = make_corruption(**objective)
    sequences = make_sequences(240)
    means = {modality: [] for modality in VOCABULARY.modalities}
    for k in range(150):
        big = make_batch(sequences, range(k * 240, (k + 1) * 240))
        modality = corruption.tables.modality(big.range_index)
        views = corruption.views(big, k)
        for m in VOCABULARY.modalities:
            targets = len(views) * int((big.maskable & (modality == VOCABULARY.modality_number(m))).sum())
            weight = sum(
                float(view.weight[view.masked & (modality == VOCABULARY.modality_number(m))].sum())
                for view in views
            )
            means[m].append(weight / targets)
    for m in VOCABULARY.modalities:
        error = np.std(means[m]) / math.sqrt(len(means[m]))
        assert abs(np.mean(means[m]) - 1) < 4 * error < 0.1, m


def test_the_first_prediction_costs_ln_v(batch: Batch):
    step = make_step()
    view = step.passes.corruption.views(batch, 0)[0]
    loss = step.denoiser.cross_entropy(view.z_t, batch, view.masked)
    sizes = torch.tensor([r.size for r in VOCABULARY.ranges])[batch.range_index[view.masked]]
    torch.testing.assert_close(loss, sizes.float().log())


def test_an_update_learns_and_its_state_resumes_exactly(batch: Batch):
    one, two = make_step(), make_step()
    first = one(batch)
    for _ in range(39):
        last = one(batch)
    assert float(last["loss"]) < 0.8 * float(first["loss"])
    two.load_state_dict({name: tensor.clone() for name, tensor in one.state_dict().items()})
    assert float(one(batch)["loss"]) == float(two(batch)["loss"])
    for a, b in zip(one.denoiser.parameters(), two.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("anti_masking", [False, True])
def test_times_belong_to_the_logical_batch(anti_masking: bool):
    """A physical batch of two logical ones sees the times of both; half of one sees times of its own, even
    within it."""
    logical = Corruption(
        ObjectiveConfig(anti_masking=anti_masking), VOCABULARY, seed=5, device=CPU, logical_batch=12
    )
    own = make_corruption(anti_masking=anti_masking)

    def times(corruption: Corruption, start: int, stop: int, step: int = 99) -> torch.Tensor:
        batch = make_batch(make_sequences(24)[start:stop], range(start, stop))
        return corruption._mask_ratios(batch, step) if anti_masking else corruption._times(batch, step)

    both = times(logical, 0, 24)
    for number in (0, 1):
        here = slice(12 * number, 12 * number + 12)
        assert torch.equal(times(logical, here.start, here.stop), both[here])
        assert torch.equal(times(own, here.start, here.stop, step=number), both[here])
    first, second = times(logical, 0, 6), times(logical, 6, 12)
    assert not torch.equal(first, second)
    for half in (first, second):  # two of each of three tasks
        assert torch.allclose(
            (half[:3] - half[3:]).abs() * (2 if anti_masking else 1), torch.tensor(0.5).double()
        )


@pytest.mark.parametrize("objective", [{}, {"anti_masking": True}])
@pytest.mark.parametrize("row_length", [None, 60])
def test_micro_batches_give_the_same_update(objective: dict[str, Any], row_length: int | None):
    """Times and masks are the whole batch's, so only the order of sums differs."""
    batch = make_batch(make_sequences(), range(100, 112), row_length=row_length)
    whole, split = make_step(**objective), make_step(**objective)
    split.passes.micro_batch = 5
    for _ in range(2):
        one, two = whole(batch), split(batch)
        for name in one:
            torch.testing.assert_close(
                float(two[name]), float(one[name]), rtol=1e-5, atol=1e-6, equal_nan=True
            )
        for a, b in zip(whole.denoiser.parameters(), split.denoiser.parameters(), strict=True):
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("micro_batch", [None, 7])
def test_the_gradient_of_two_logical_batches_is_the_mean_of_theirs(micro_batch: int | None):
    """Also where a modality is in one of them alone."""
    texts = [s for s in make_sequences(36) if s.task.name == "text"]
    sequences = make_sequences(12) + texts[:12]

    def gradients(start: int, stop: int, micro_batch: int | None = None):
        step = make_step()
        step.passes.corruption.logical_batch, step.passes.micro_batch = 12, micro_batch
        with torch.no_grad():
            step.denoiser.unembedding.weight.fill_(0.01)
        parts = step.losses(make_batch(sequences[start:stop], range(start, stop)), 0)
        total = torch.stack(list(parts.values())).sum()
        return float(total.detach()), torch.autograd.grad(total, list(step.denoiser.parameters()))

    one, two = gradients(0, 12), gradients(12, 24)
    loss, both = gradients(0, 24, micro_batch)
    assert loss == pytest.approx((one[0] + two[0]) / 2, rel=1e-5)
    for found, first, second in zip(both, one[1], two[1], strict=True):
        torch.testing.assert_close(found, (first + second) / 2, rtol=1e-4, atol=1e-6)


def test_a_micro_batch_in_which_nothing_is_masked_adds_nothing():
    """One row at a time, some of them at a low t."""
    sequences = [s for s in make_sequences(30) if s.task.name == "text"]
    batch = make_batch(sequences, range(len(sequences)))
    split = make_step()
    split.passes.micro_batch = 1
    assert not all(
        view.masked.any()
        for view in (
            split.passes.corruption.views(batch.rows(slice(i, i + 1)), 0)[0] for i in range(len(sequences))
        )
    )
    assert math.isfinite(float(split(batch)["loss"]))


def test_a_split_run_resumes_exactly(batch: Batch):
    one, two = make_step(), make_step()
    one.passes.micro_batch = two.passes.micro_batch = 5
    one(batch)
    two.load_state_dict({name: tensor.clone() for name, tensor in one.state_dict().items()})
    assert float(one(batch)["loss"]) == float(two(batch)["loss"])
    for a, b in zip(one.denoiser.parameters(), two.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("reduction", [TokenMean(), ModalityMeans()])
def test_the_loss_is_the_weighted_mean_of_bounds(batch: Batch, reduction: ModalityMeans | TokenMean):
    """Against the objective in one piece; the batch has just as many targets as are expected."""
    step = make_step(modalities=weighted(1.0, 0.5, 2.0), reduction=reduction)
    tables = step.passes.corruption.tables
    view = step.passes.corruption.views(batch, 0)[0]
    masked = view.masked
    terms = nelbo_terms(
        step.denoiser.cross_entropy(view.z_t, batch, masked),
        view.weight[masked],
        modality=tables.modality(batch.range_index)[masked],
        sequence=batch.sequence[masked],
    )
    num_targets = count_targets(batch.maskable, tables.modality(batch.range_index), num_modalities=3)
    factors = torch.tensor([1.0, 0.5, 2.0])
    if reduction == TokenMean():
        expected = (factors * terms.per_modality(3)).sum() / num_targets.sum()
    else:
        expected = (factors * terms.nats_per_token(num_targets)).mean()
    in_one = training_loss(terms, num_sequences=12, token_weights=step.passes.token_weights)
    assert float(in_one.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(step(batch)["loss"]) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("times", TIME_DRAWS, ids=str)
@pytest.mark.parametrize("anti_masking", [False, True])
def test_a_part_of_an_update_has_the_masks_of_the_whole(anti_masking: bool, times: TimeDraw):
    """As processes see it: other neighbours, other places, the same times and masks."""
    sequences, indices = make_sequences(), range(100, 112)
    corruption = make_corruption(anti_masking=anti_masking, times=times)
    whole = make_batch(sequences, indices, row_length=60)
    update = [(index, s.task_number) for index, s in zip(indices, sequences, strict=True)]
    mine = [11, 4, 0, 7]
    part = make_batch(
        [sequences[i] for i in mine], [indices[i] for i in mine], row_length=50, update=update[::-1]
    )
    for all_of_it, here in zip(corruption.views(whole, 3), corruption.views(part, 3), strict=True):
        for place, i in enumerate(mine):
            there, slots = whole.sequence == i, part.sequence == place
            for name in ("z_t", "masked", "weight"):
                assert torch.equal(getattr(all_of_it, name)[there], getattr(here, name)[slots]), name


@pytest.mark.parametrize("recompute", [Recompute.SELECTIVE, Recompute.FULL])
def test_recomputation_changes_no_gradient(batch: Batch, recompute: Recompute):
    plain, saving = make_step(), make_step()
    for block in blocks_of(saving.denoiser):
        block.recompute = recompute
    for _ in range(2):
        plain(batch)
        saving(batch)
    for a, b in zip(plain.denoiser.parameters(), saving.denoiser.parameters(), strict=True):
        assert torch.equal(gradient(a), gradient(b))


def test_recomputation_keeps_less(batch: Batch):
    def kept(recompute: Recompute) -> int:
        step = make_step()
        for block in blocks_of(step.denoiser):
            block.recompute = recompute
        seen: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            view = step.passes.corruption.views(batch, 0)[0]
            step.denoiser(view.z_t, batch)
        return sum(seen.values())

    # What a selective block keeps beside its input is out of the hooks' sight.
    assert kept(Recompute.FULL) < kept(Recompute.NONE) / 3


@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_an_update_that_is_not_finite_is_left_out(batch: Batch, clip_norm: float | None):
    """Weights, moments and step counts stay, and the next update is as if there had been none."""
    one, two = make_step(), make_step()
    for step in (one, two):
        step.optimizer_config = replace(step.optimizer_config, clip_norm=clip_norm)
        step.non_finite = NonFinite.SKIP
        assert float(step(batch)["skipped"]) == 0
    before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    original = one.denoiser.weighted_loss
    with mock.patch.object(
        one.denoiser, "weighted_loss", lambda *args: tuple(x * math.nan for x in original(*args))
    ):
        metrics = one(batch)
    assert float(metrics["skipped"]) == 1 and not math.isfinite(float(metrics["grad_norm"]))
    for name, tensor in one.state_dict().items():
        if name != "step":
            assert torch.equal(tensor, before[name]), name
    two.step += 1
    assert float(one(batch)["loss"]) == float(two(batch)["loss"])
    for a, b in zip(one.denoiser.parameters(), two.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)


def test_absent_modalities_are_nan_not_zero():
    text = [s for s in make_sequences() if s.task.name == "text"]
    metrics = make_step()(make_batch(text, range(len(text))))
    assert math.isnan(float(metrics["image_bits_per_token"]))
    assert math.isfinite(float(metrics["text_bits_per_token"])) and math.isfinite(float(metrics["loss"]))


def bits(metrics: Mapping[str, Any]) -> dict[str, float]:
    end = "_bits_per_token"
    return {name.removesuffix(end): float(value) for name, value in metrics.items() if name.endswith(end)}


def reported_by_hand(step: DenoiserStep, big: Batch) -> dict[str, float]:
    """Of each task: the NELBO of its sequences that kept their condition, over all of their targets."""
    views = step.passes.corruption.views(big, step.step)
    names = [task.name for task in VOCABULARY.tasks]
    nats, targets = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    for view in views:
        with torch.no_grad():
            found = step.denoiser.cross_entropy(view.z_t, big, view.masked).double()
        spent = torch.zeros(view.masked.shape, dtype=torch.float64)
        spent[view.masked] = found * view.weight[view.masked]
        for number, task in enumerate(big.task.tolist()):
            here = big.sequence == number
            condition = here & big.is_condition
            if condition.any() and (view.z_t != big.tokens)[condition].any():
                continue
            nats[names[task]] += float(spent[here].sum())
            targets[names[task]] += int(big.maskable[here].sum())
    return {task: nats[task] / targets[task] / math.log(2) for task in names if targets[task]}


@pytest.mark.parametrize("anti_masking", [False, True])
def test_what_is_reported_is_a_bound_of_the_task(anti_masking: bool):
    """Without sequences whose condition was dropped, and of all modalities that are generated together."""
    draw, sequences = np.random.default_rng(3), []
    for number in range(90):
        text = {"text": draw.integers(0, 40, (int(draw.integers(2, 7)), 1))}
        image = {"image": draw.integers(0, 16, (9, 2))}
        audio = {"speech": draw.integers(0, 8, (int(draw.integers(4, 9)), 2))}
        task, codes = (
            ("text_to_image", text | image),
            ("text_to_speech", text | audio),
            ("speech_to_text", text | audio),
            ("joint", text | (image if number % 2 else audio)),
            ("triple", text | image | audio),
        )[number % 5]
        sequences.append(build_sequence(VOCABULARY, task, codes, num_end={"text": 1}))
    big = make_batch(sequences, range(90))
    tasks = frozenset(s.task.name for s in sequences)
    step = make_step(tasks=tasks, condition_dropout=0.4, anti_masking=anti_masking)
    with torch.no_grad():  # away from a uniform prediction, where all tokens cost the same
        step.denoiser.unembedding.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    expected = reported_by_hand(step, big)
    found = bits(step(big))
    assert list(found) == ["text", "image", "speech", "joint", "triple"]
    assert found == pytest.approx(
        {
            "text": expected["speech_to_text"],
            "image": expected["text_to_image"],
            "speech": expected["text_to_speech"],
            "joint": expected["joint"],
            "triple": expected["triple"],
        },
        rel=1e-5,
    )


def test_what_the_mixture_does_not_generate_is_not_reported(batch: Batch):
    assert list(bits(make_step()(batch))) == ["text", "image", "speech"]
    text = [s for s in make_sequences() if s.task.name == "text"]
    metrics = make_step(tasks=frozenset({"text"}))(make_batch(text, range(len(text))))
    assert list(bits(metrics)) == ["text"]


def test_errors_name_the_value():
    with pytest.raises(ValueError, match=r"condition_dropout 1\.0"):
        ObjectiveConfig(condition_dropout=1.0)
    with pytest.raises(ValueError, match="anti_masking"):
        make_step(modalities=scheduled(text=Cosine()), anti_masking=True)
    with pytest.raises(ValueError, match=r"weight -1\.0"):
        ModalityConfig(weight=-1.0)
    with pytest.raises(ValueError, match="no modality 'depth': choose one of text, image, speech"):
        make_step(modalities={"depth": ModalityConfig()})
