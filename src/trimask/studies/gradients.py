"""Gradients at fixed weights: at which weights, of which sequences, and how much they vary."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from trimask.data.stream import TrainingStream
from trimask.model.denoiser import Denoiser
from trimask.runs.build import build_denoiser, build_step, build_stream, build_vocabulary
from trimask.studies.tokens import load_sources, load_tokenizers
from trimask.training.corruption import Corruption, ObjectiveConfig
from trimask.training.run import RunConfig
from trimask.training.step import DenoiserStep
from trimask.vocabulary import sequence
from trimask.vocabulary.batch import make_batch

_FAR = 10_000_000  # sequences from here on are behind all that are trained on
_MOST_TRIES = 20_000


def train_partly(config: RunConfig, tokens: Path, *, num_updates: int) -> tuple[DenoiserStep, TrainingStream]:
    """Run the first updates of a run in memory, on the CPU: where `train` runs on it too, it has the same
    weights there, bit for bit.
    """
    tokenizers = load_tokenizers(config)
    denoiser = build_denoiser(config, build_vocabulary(config, tokenizers))
    stream = build_stream(config, load_sources(config, tokenizers, "train", tokens), denoiser.vocabulary)
    step = build_step(config, denoiser, stream)
    for number in range(num_updates):
        step(stream.batch(number))
    return step, stream


def draw_by_modality(stream: TrainingStream, *, number: int) -> Mapping[str, list[sequence.Sequence]]:
    """Draw `number` sequences of the training stream for each modality that a task of it generates alone,
    all behind those trained on. Modalities with fewer among many draws are left out.
    """
    chosen: dict[str, list[sequence.Sequence]] = {}
    wanted = [task.target for task in stream.vocabulary.tasks if task.name in stream.tasks]
    for index in range(_FAR, _FAR + _MOST_TRIES):
        if all(len(chosen.get(name, [])) >= number for name in wanted if name):
            break
        one = stream.sequence(index)
        if one.task.target is not None:
            chosen.setdefault(one.task.target, []).append(one)
    return {name: each[:number] for name, each in chosen.items() if len(each) >= number}


def flat_gradient(loss: Tensor, denoiser: nn.Module) -> Tensor:
    """Return the gradient of `loss` by all parameters as one vector."""
    parameters = [each for each in denoiser.parameters() if each.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in found])


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """Losses and gradients of many draws of an update at fixed weights.

    Attributes:
        losses: loss of each draw, in nats per sequence.
        sets: what it was drawn of: draws of one set differ by times and masks alone.
        squares: half the squared distance of the gradients of each two neighbouring draws of a set.
    """

    losses: tuple[float, ...]
    sets: tuple[int, ...]
    squares: tuple[float, ...]

    def variances(self) -> dict[str, tuple[float, float]]:
        """Return the variance of `loss` and `gradient` (its trace) and the standard error of each: within
        sets, averaged over draws.
        """
        losses, sets = np.array(self.losses), np.array(self.sets)
        spread = np.zeros(len(losses))
        for each in set(self.sets):
            here = sets == each
            count = int(here.sum())
            spread[here] = (losses[here] - losses[here].mean()) ** 2 * count / (count - 1)
        return {"loss": _mean_and_error(spread), "gradient": _mean_and_error(np.array(self.squares))}


def measure_draws(
    denoiser: Denoiser,
    draws: Iterable[tuple[int, list[sequence.Sequence]]],
    objective: ObjectiveConfig,
) -> Draws:
    """Measure the loss and gradient of each of `draws` (a set's number and the sequences of one update) under
    `objective`, with linear schedules, at the denoiser's weights.

    Draws come in neighbouring pairs of one set. Draw i has its own times and masks, the same at every call.
    """
    losses, sets, squares, before = [], [], [], torch.zeros(())
    for number, (of, sequences) in enumerate(draws):
        batch = make_batch(sequences, range(len(sequences)))
        corruption = Corruption(objective, denoiser.vocabulary, seed=number, device=batch.tokens.device)
        views, loss = corruption.views(batch, 0), torch.zeros(())
        gradient = torch.zeros(())
        for view in views:
            scale = view.loss_weight[view.masked].float() / (len(sequences) * len(views))
            part, _ = denoiser.weighted_loss(view.z_t, batch, view.masked, scale)
            gradient = gradient + flat_gradient(part, denoiser)
            loss = loss + part.detach()
        if number % 2:
            squares.append(float((gradient - before).double().square().sum()) / 2)
        before = gradient
        losses.append(float(loss))
        sets.append(of)
    return Draws(losses=tuple(losses), sets=tuple(sets), squares=tuple(squares))


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
