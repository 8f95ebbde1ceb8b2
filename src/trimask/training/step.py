"""One update of the denoiser: mask, predict, weigh, descend."""

import math
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from trimask.devices import send
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.training.average import WeightAverage, WeightAverageConfig
from trimask.training.corruption import ObjectiveConfig
from trimask.training.distributed import ALONE, World
from trimask.training.lr_schedule import LearningRateSchedule
from trimask.training.modalities import NO_ROWS, Modalities
from trimask.training.optimizers import (
    AdamWConfig,
    NonFinite,
    ParameterFactors,
    build_adamw,
    clip_gradients,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    set_learning_rate,
    skip_unless_finite,
)
from trimask.training.passes import Passes
from trimask.training.placement import release
from trimask.training.reduction import Targets
from trimask.vocabulary.batch import Batch

WEIGHTS, AVERAGE = "denoiser.", "average."
"""Prefixes of the weights, and of their average, in a checkpoint."""


class DenoiserStep:
    """One update of the denoiser on a batch: the `Step` that the training loop runs.

    The loss is a mean over sequences: Σ NELBO / (their number · `targets`), each modality, codebook and mask
        ratio weighted by the objective. The divisor is a constant of the run, so a batch's gradient is the
        mean of its parts' gradients, and unbiased for the mixture.

    Each process of `world` passes its part of the batch. The update is the same up to rounding, however it is
    split among processes and passes (`Passes`).

    Args:
        optimizer: values at this batch and horizon; the parametrization's factors come on top, per tensor.
        num_steps: updates of the whole run.
        average: weight average to keep, or None.
        batch: sequences per update over all processes, as counted in the horizon; used by the average.
        targets: expected target tokens of a sequence per modality (`TrainingStream.target_tokens`).
        tasks: task names of the mixture, which determine the reported bounds.
        modalities: how each is masked and weighted.
        logical_batch: distinct sequences over which times are spread evenly, None for the batch's own.
        micro_batch: rows per forward and backward pass, None for all.
        non_finite: what to do if a gradient is not finite.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        objective: ObjectiveConfig,
        optimizer: AdamWConfig,
        lr_schedule: LearningRateSchedule,
        num_steps: int,
        seed: int,
        targets: Targets,
        tasks: Collection[str],
        modalities: Modalities = NO_ROWS,
        logical_batch: int | None = None,
        micro_batch: int | None = None,
        non_finite: NonFinite = NonFinite.STOP,
        average: WeightAverageConfig | None = None,
        batch: int = 1,
        world: World = ALONE,
    ):
        self.denoiser = denoiser
        self.passes = Passes(
            objective,
            denoiser.vocabulary,
            seed=seed,
            targets=targets,
            tasks=tasks,
            modalities=modalities,
            logical_batch=logical_batch,
            micro_batch=micro_batch,
            world=world,
        )
        self.optimizer_config = optimizer
        self.optimizer = build_adamw(
            parameter_groups(
                denoiser.named_parameters(), lambda name: optimizer_factors(denoiser.config, name)
            ),
            optimizer,
        )
        self.lr_schedule = lr_schedule
        self.num_steps = num_steps
        self.non_finite = non_finite
        self.world = world
        self.average = (
            None if average is None else WeightAverage(average, denoiser.named_parameters(), batch=batch)
        )
        self.step = 0

    def __call__(self, batch: Batch) -> Mapping[str, Tensor | float]:
        """Run forward, backward and update; return the loss and each reported bound (NELBO in bits per target
        token), NaN if the batch has none of its targets. All metrics cover the whole batch in all processes,
        and stay on the device.
        """
        num_targets, num_reported = self.passes.count(batch)
        device = self.denoiser.embedding.weight.device

        sums = torch.zeros(1 + len(num_reported), device=device)
        set_learning_rate(self.optimizer, self.lr_schedule.factor((self.step + 1) / self.num_steps))
        self.optimizer.zero_grad(set_to_none=True)
        for part in self.passes(batch, self.step):  # rows of the batch, with tokens masked at random times
            loss, cross_entropy = self.denoiser.weighted_loss(part.z_t, part.batch, part.masked, part.scale)
            (loss * self.world.size).backward()  # gradients are averaged over processes; the loss is a sum
            sums += part.sums(loss, cross_entropy)
        self.world.add(sums)
        grad_norm = clip_gradients(self.optimizer, self.optimizer_config.clip_norm)
        metrics = {"loss": sums[0], "grad_norm": grad_norm}
        if self.non_finite is NonFinite.SKIP:
            metrics["skipped"] = skip_unless_finite(self.optimizer, grad_norm)
        self.optimizer.step()
        self.step += 1

        if self.average is not None:
            self.average.update(self.step)
        bits = sums[1:] / send(num_reported, device) / math.log(2)
        names = [f"{name}_bits_per_token" for name in self.passes.reported.names]
        return {**metrics, **dict(zip(names, bits, strict=True)), "tokens": float(num_targets.sum())}

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return each modality's part of the training loss of `batch` under the noise of update `step`, with
        its graph; without modalities that the batch lacks. Nothing is updated.
        """
        num_targets, _ = self.passes.count(batch)
        names = self.denoiser.vocabulary.modalities
        added = [torch.zeros(()) for _ in names]
        for part in self.passes(batch, step):
            cross_entropy = self.denoiser.cross_entropy(part.z_t, part.batch, part.masked)
            terms = part.scale.to(cross_entropy.device) * cross_entropy
            added = [a + terms[part.modality == number].sum() for number, a in enumerate(added)]
        return {name: added[i] for i, name in enumerate(names) if num_targets[i]}

    def use_average(self) -> AbstractContextManager[None]:
        """Use the average in place of the weights inside `with`, for evaluation and export; without one, do
        nothing.
        """
        if self.average is None:
            return nullcontext()
        release(self.denoiser)
        return self.average.use()

    def state_dict(self) -> dict[str, Tensor]:
        release(self.denoiser)
        weights = {f"{WEIGHTS}{name}": p.detach() for name, p in self.denoiser.named_parameters()}
        state = {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self.optimizer).items()}
        averages = {} if self.average is None else self.average.tensors()
        kept = {f"{AVERAGE}{name}": tensor for name, tensor in averages.items()}
        return weights | kept | state | {"step": torch.tensor(self.step)}

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        self.denoiser.load_state_dict(_strip(tensors, WEIGHTS))
        if self.average is not None:
            self.average.load(_strip(tensors, AVERAGE))
        load_optimizer_tensors(self.optimizer, _strip(tensors, "optimizer."))
        self.step = int(tensors["step"])


def optimizer_factors(config: DenoiserConfig, name: str) -> ParameterFactors:
    """Return the parametrization's factors on the optimizer values for the parameter `name`."""
    rule = config.rule(name)
    return ParameterFactors(learning_rate=rule.learning_rate, eps=rule.eps, weight_decay=rule.weight_decay)


def _strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
