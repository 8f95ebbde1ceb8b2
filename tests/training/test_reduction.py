"""The training loss as a mean over sequences: what a mixture's weights, batches and their parts do to it."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.distributed_steps import VOCABULARY, make_stream
from trimask.config import from_dict, to_dict
from trimask.data.mixture import Component, Mixture, MixtureConfig
from trimask.data.stream import SpanSlack, TrainingStream
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.training.corruption import ObjectiveConfig
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.modalities import ModalityConfig, token_weights
from trimask.training.optimizers import AdamWConfig
from trimask.training.reduction import ModalityMeans, Reduction, TokenMean
from trimask.training.step import DenoiserStep
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.layout import CodeSpace
from trimask.vocabulary.task import Task

TASKS = {"texts": "text", "pictures": "text_to_image", "speech": "text_to_speech"}
SLACK = SpanSlack()


def mixed(weights: Mapping[str, float], *, physical_batch: int = 32) -> TrainingStream:
    """Sources of all three modalities in shares of target tokens."""
    components = tuple(
        Component(source=name, task=TASKS[name], weight=float(weight)) for name, weight in weights.items()
    )
    mixture = Mixture(
        MixtureConfig(components=components, block_length=64), make_stream().mixture.sources, seed=3
    )
    return TrainingStream(
        mixture, VOCABULARY, slack=SLACK, text_window=128, physical_batch=physical_batch, row_length=None
    )


def make_step(
    stream: TrainingStream,
    reduction: Reduction | None = None,
    *,
    logical_batch: int | None = None,
    is_moved: bool = False,
    **objective: Any,
) -> DenoiserStep:
    """At the start, where each prediction costs ln V, or away from it."""
    denoiser = Denoiser(DenoiserConfig(width=32, depth=1, num_heads=1), VOCABULARY)
    denoiser.initialize(0)
    if is_moved:
        with torch.no_grad():
            draw = torch.Generator().manual_seed(1)
            denoiser.unembedding.weight.normal_(std=0.3, generator=draw)
    return DenoiserStep(
        denoiser,
        objective=ObjectiveConfig(reduction=reduction or TokenMean(), condition_dropout=0.0, **objective),
        optimizer=AdamWConfig(learning_rate=1e-3),
        lr_schedule=WarmupCosine(warmup_fraction=0.1),
        num_steps=10,
        seed=5,
        targets=stream.target_tokens(),
        tasks=stream.tasks,
        logical_batch=logical_batch,
    )


def gradient(step: DenoiserStep, batch: Batch, number: int = 0) -> Tensor:
    total = torch.stack(list(step.losses(batch, number).values())).sum()
    found = torch.autograd.grad(
        total, list(step.denoiser.parameters()), allow_unused=True, materialize_grads=True
    )
    return torch.cat([part.flatten() for part in found])


def one_by_one(stream: TrainingStream, number: int) -> list[Batch]:
    """The sequences of an update, each alone, with the times and masks that they have in it."""
    first = number * stream.physical_batch
    sequences = {i: stream.sequence(i) for i in range(first, first + stream.physical_batch)}
    update = [(index, sequence.task_number) for index, sequence in sequences.items()]
    return [make_batch([s], [index], update=update) for index, s in sequences.items()]


def per_sequence(step: DenoiserStep, batch: Batch, number: int, divisor: float) -> Tensor:
    """The gradient of NELBO / `divisor` of a batch of one sequence, from its terms."""
    parts = []
    for view in step.passes.corruption.views(batch, number):
        nats = step.denoiser.cross_entropy(view.z_t, batch, view.masked)
        parts.append((nats * view.weight[view.masked].float()).sum() / divisor)
    total = torch.stack(parts).mean() + 0 * step.denoiser.unembedding.weight.sum()  # none may be masked
    found = torch.autograd.grad(
        total, list(step.denoiser.parameters()), allow_unused=True, materialize_grads=True
    )
    return torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize("anti_masking", [False, True])
def test_the_gradient_is_the_plain_mean_of_those_of_sequences(anti_masking: bool) -> None:
    stream = mixed({"texts": 1, "pictures": 2, "speech": 1})
    step = make_step(stream, is_moved=True, anti_masking=anti_masking)
    whole = gradient(step, stream.batch(2), 2)
    expected = sum(stream.target_tokens())
    each = torch.stack([per_sequence(step, batch, 2, expected) for batch in one_by_one(stream, 2)])
    torch.testing.assert_close(each.mean(0), whole, rtol=1e-4, atol=1e-6)


@given(st.lists(st.integers(1, 31), max_size=4))
@settings(max_examples=8, deadline=None)
def test_any_split_of_an_update_has_its_gradient(cuts: list[int]) -> None:
    """Parts that know the update, however they are divided: their gradients add up to it."""
    stream = mixed({"texts": 1, "pictures": 1, "speech": 1})
    step = make_step(stream, is_moved=True)
    update = [(index, stream.sequence(index).task_number) for index in range(32)]
    parts = [
        make_batch([stream.sequence(i) for i in range(a, b)], range(a, b), update=update)
        for a, b in pairwise(sorted({0, *cuts, 32}))
    ]
    added = torch.stack([gradient(step, part) for part in parts]).sum(0)
    torch.testing.assert_close(added, gradient(step, stream.batch(0)), rtol=1e-4, atol=1e-6)


def test_one_large_batch_is_the_mean_of_small_ones() -> None:
    """At one logical batch, whatever modalities each of them happens to hold."""
    weights = {"texts": 1, "pictures": 8, "speech": 1}
    small, large = mixed(weights, physical_batch=4), mixed(weights, physical_batch=16)
    step = make_step(small, logical_batch=4, is_moved=True)
    parts = torch.stack([gradient(step, small.batch(number)) for number in range(4)])
    torch.testing.assert_close(gradient(step, large.batch(0)), parts.mean(0), rtol=1e-4, atol=1e-6)
    held = [set(small.batch(number).task.tolist()) for number in range(4)]
    assert any(len(tasks) < 3 for tasks in held)


def mean_losses(step: DenoiserStep, stream: TrainingStream, count: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {modality: [] for modality in VOCABULARY.modalities}
    for number in range(count):
        parts = step.losses(stream.batch(number), number)
        for modality, values in found.items():
            values.append(float(parts[modality].detach()) if modality in parts else 0.0)
    return found


def shares(stream: TrainingStream) -> dict[str, float]:
    targets = stream.target_tokens()
    return dict(zip(VOCABULARY.modalities, (count / sum(targets) for count in targets), strict=True))


def uniform(modality: str) -> float:
    return math.log(VOCABULARY.space(modality).range_size)


@pytest.mark.parametrize(("texts", "pictures"), [(7, 1), (1, 7)])
@pytest.mark.parametrize("anti_masking", [False, True])
def test_the_loss_is_unbiased_and_weighs_by_shares(texts: int, pictures: int, anti_masking: bool) -> None:
    """Where each prediction costs ln V, the loss is Σ share · ln V in expectation, at a batch so small that
    it often lacks a modality.
    """
    stream = mixed({"texts": texts, "pictures": pictures}, physical_batch=4)
    step = make_step(stream, anti_masking=anti_masking)
    found = mean_losses(step, stream, 150)
    for modality in ("text", "image"):
        values = np.array(found[modality])
        error = values.std() / math.sqrt(len(values))
        expected = shares(stream)[modality] * uniform(modality)
        assert abs(values.mean() - expected) < 4 * error < expected, modality
    assert any(value == 0 for value in found["image" if texts > pictures else "text"])


@pytest.mark.parametrize("reduction", [TokenMean(), ModalityMeans()])
def test_gradients_of_modalities_scale_with_their_shares(reduction: Reduction) -> None:
    """7 : 1 against 1 : 7, on the same sequences under the same masks: the gradient that a modality has per
    sequence, times how many of its sequences there are, goes as its share with a mean over tokens; with means
    of modalities it does not change.
    """
    many, few = mixed({"texts": 7, "pictures": 1}), mixed({"texts": 1, "pictures": 7})
    assert shares(many)["text"] > 0.8 and shares(few)["image"] > 0.8
    batch = many.batch(0)
    gradients = []
    for stream in (many, few):
        step = make_step(stream, reduction)
        parts, weight = step.losses(batch, 0), step.denoiser.unembedding.weight
        gradients.append({m: torch.autograd.grad(x, weight, retain_graph=True)[0] for m, x in parts.items()})
    for number, modality in enumerate(("text", "image")):
        ratio = shares(many)[modality] / shares(few)[modality] if reduction == TokenMean() else 1.0
        sequences = float(many.mixture.shares[number] / few.mixture.shares[number])
        one, other = gradients[0][modality], gradients[1][modality]
        assert other.norm() > 0
        torch.testing.assert_close(one * sequences, other * ratio, rtol=1e-4, atol=1e-7)


def test_means_of_modalities_weigh_the_same() -> None:
    stream = mixed({"texts": 1, "pictures": 3, "speech": 9}, physical_batch=16)
    found = mean_losses(make_step(stream, ModalityMeans()), stream, 100)
    for modality in VOCABULARY.modalities:
        values = np.array(found[modality])
        error = values.std() / math.sqrt(len(values))
        assert abs(values.mean() - uniform(modality) / 3) < 4 * error < 0.7, modality


@pytest.mark.parametrize("seed", [0, 1])
def test_expected_targets_are_those_of_the_stream(seed: int) -> None:
    """Codes and end frames, on average over sequences."""
    draw = np.random.default_rng(seed)
    stream = mixed(dict(zip(TASKS, draw.uniform(0.2, 2, 3).tolist(), strict=True)))
    counts = np.zeros((2000, len(VOCABULARY.modalities)))
    for index in range(len(counts)):
        sequence = stream.sequence(index)
        modality = [VOCABULARY.modality_of_range[r] for r in sequence.range_index[sequence.maskable]]
        counts[index] = np.bincount(modality, minlength=len(VOCABULARY.modalities))
    errors = counts.std(0) / math.sqrt(len(counts))
    found = np.array(stream.target_tokens())
    assert (np.abs(found - counts.mean(0)) < 4 * errors).all() and (errors < 0.02 * found + 0.2).all()


@given(
    st.sampled_from(VOCABULARY.tasks),
    st.sampled_from(VOCABULARY.spaces),
    st.integers(1, 200),
    st.floats(0, 1),
    st.integers(0, 9),
)
def test_mean_ends_are_the_mean_over_uniforms(
    task: Task, space: CodeSpace, length: int, fraction: float, minimum: int
) -> None:
    slack = SpanSlack(minimum=minimum, fraction=fraction)
    grid = (np.arange(2520) + 0.5) / 2520  # divided evenly by many counts
    drawn = [slack.num_end(task, space, length, float(u), text_window=128) for u in grid]
    assert slack.mean_end(task, space, length, text_window=128) == pytest.approx(
        float(np.mean(drawn)), rel=2e-3
    )


def test_a_modality_that_is_not_there_weighs_nothing() -> None:
    assert TokenMean().divisors((3.0, 0.0, 9.0)) == (12.0, 12.0, 12.0)
    assert ModalityMeans().divisors((3.0, 0.0, 9.0)) == (6.0, math.inf, 18.0)
    objective = ObjectiveConfig(reduction=ModalityMeans())
    weights = zip(VOCABULARY.modalities, (1.0, 2.0, 3.0), strict=True)
    rows = {name: ModalityConfig(weight=weight) for name, weight in weights}
    divisors = objective.reduction.divisors((3.0, 0.0, 9.0))
    assert token_weights(rows, VOCABULARY, divisors) == [1 / 6, 0.0, 3 / 18]
    assert from_dict(ObjectiveConfig, to_dict(objective)) == objective
    assert to_dict(objective)["reduction"] == {"type": "ModalityMeans"}
