"""One update of the denoiser: mask, predict, weigh, descend."""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimask.devices import send
from trimask.diffusion.objective import count_targets, nelbo_terms
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.training.average import WeightAverage, WeightAverageConfig
from trimask.training.corruption import Corruption, ObjectiveConfig
from trimask.training.distributed import ALONE, World
from trimask.training.lr_schedule import LearningRateSchedule
from trimask.training.modalities import Modalities, range_weights, token_weights
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
from trimask.training.placement import release
from trimask.training.reduction import Targets
from trimask.training.reported import ReportedBounds
from trimask.vocabulary.batch import Batch

_HOST = torch.device("cpu")

WEIGHTS, AVERAGE = "denoiser.", "average."
"""How the names of weights, and of their average, begin in a checkpoint."""


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Pass:
    """A forward and backward pass: some rows under one mask, on the host.

    Attributes:
        scale: of each masked slot's cross-entropy in the loss.
        weight: likewise in the NELBO, in nats.
        modality: of each masked slot.
        bound: that each masked slot is part of, of `ReportedBounds`.
    """

    batch: Batch
    z_t: Int[Tensor, "rows slots"]
    masked: Bool[Tensor, "rows slots"]
    scale: Float[Tensor, "masked"]
    weight: Float[Tensor, "masked"]
    modality: Int[Tensor, "masked"]
    bound: Int[Tensor, "masked"]


class DenoiserStep:
    """One update of the denoiser on a batch: the `Step` that the training loop runs.

    The loss is a mean over sequences: Σ NELBO / (their number · `targets`), each modality, codebook and mask
    ratio with the weight that the objective gives it. What it is divided by is a constant of the run, so the
    gradient of a batch is the mean of those of its parts, and in expectation that of the mixture.

    Each process of `world` gives its part of the batch; times and masks are the whole batch's, so the update
    is the same to rounding, however it is divided among processes and passes. Masks are drawn on the host
    while the device is busy: which slots they hide decides the shapes of what follows, and a GPU would have
    to be waited for.

    Args:
        optimizer: values at this batch and horizon; the parametrization's factors come on top, per tensor.
        num_steps: updates of the whole run.
        average: of the weights, kept beside them; None for none.
        batch: sequences per update of all processes, as they count in the horizon: what an average goes by.
        targets: target tokens of a sequence in expectation, per modality (`TrainingStream.target_tokens`).
        tasks: names of those of the mixture: what bounds are reported.
        modalities: how each is masked and weighed.
        logical_batch: distinct sequences over which times are spread evenly, None for the batch's own.
        micro_batch: rows per forward and backward pass, None for all.
        non_finite: what to do about a gradient that is not finite.
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
        modalities: Modalities,
        logical_batch: int | None = None,
        micro_batch: int | None = None,
        non_finite: NonFinite = NonFinite.STOP,
        average: WeightAverageConfig | None = None,
        batch: int = 1,
        world: World = ALONE,
    ):
        self.denoiser = denoiser
        self.objective = objective
        vocabulary = denoiser.vocabulary
        divisors = objective.reduction.divisors(targets)
        self.token_weights = torch.tensor(token_weights(modalities, vocabulary, divisors))
        # Range −1 has no targets.
        self.range_weights = torch.tensor([*range_weights(modalities, vocabulary), 0.0])
        self.corruption = Corruption(
            objective,
            vocabulary,
            modalities=modalities,
            seed=seed,
            device=_HOST,
            logical_batch=logical_batch,
        )
        self.reported = ReportedBounds(tasks, vocabulary)
        self.optimizer_config = optimizer
        self.optimizer = build_adamw(
            parameter_groups(
                denoiser.named_parameters(), lambda name: optimizer_factors(denoiser.config, name)
            ),
            optimizer,
        )
        self.lr_schedule = lr_schedule
        self.num_steps = num_steps
        self.micro_batch = micro_batch
        self.non_finite = non_finite
        self.world = world
        self.average = (
            None if average is None else WeightAverage(average, denoiser.named_parameters(), batch=batch)
        )
        self.step = 0

    def __call__(self, batch: Batch) -> Mapping[str, Tensor | float]:
        """Forward, backward, update; the loss, and the NELBO in bits per target token of each of `reported`,
        NaN where the batch has none of it. All figures are the whole batch's, in all processes, and stay on
        the device.
        """
        set_learning_rate(self.optimizer, self.lr_schedule.factor((self.step + 1) / self.num_steps))
        self.optimizer.zero_grad(set_to_none=True)
        device = self.denoiser.embedding.weight.device
        batch = batch.to(_HOST)
        num_targets, num_reported = self._count(batch)
        sums = torch.zeros(1 + len(self.reported.names), device=device)
        for part in self._passes(batch, self.step):
            loss, cross_entropy = self.denoiser.weighted_loss(part.z_t, part.batch, part.masked, part.scale)
            # Sharded gradients come out as the mean over processes, and ours is a sum.
            (loss * self.world.size).backward()
            sums += torch.stack([loss.detach(), *self._nats(part, cross_entropy)])
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
        return {
            **metrics,
            **{f"{name}_bits_per_token": bits[i] for i, name in enumerate(self.reported.names)},
            "tokens": float(num_targets.sum()),
        }

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """What each modality adds to the training loss of `batch` under the noise of update `step`, with its
        graph; those that the batch lacks are left out. Nothing is updated.
        """
        batch = batch.to(_HOST)
        num_targets, _ = self._count(batch)
        names = self.denoiser.vocabulary.modalities
        added = [torch.zeros(()) for _ in names]
        for part in self._passes(batch, step):
            cross_entropy = self.denoiser.cross_entropy(part.z_t, part.batch, part.masked)
            terms = part.scale.to(cross_entropy.device) * cross_entropy
            added = [a + terms[part.modality == number].sum() for number, a in enumerate(added)]
        return {name: added[i] for i, name in enumerate(names) if num_targets[i]}

    def _nats(self, part: _Pass, cross_entropy: Float[Tensor, "masked"]) -> list[Tensor]:
        """The NELBO of each reported bound, summed over the pass."""
        device = cross_entropy.device
        terms = nelbo_terms(
            cross_entropy,
            send(part.weight, device),
            modality=send(part.bound, device),
            sequence=send(torch.zeros_like(part.bound), device),
        )
        return list(terms.per_modality(len(self.reported.names)))

    def _count(self, batch: Batch) -> tuple[Int[Tensor, "modalities"], Int[Tensor, "bounds"]]:
        """Targets of each modality, and of each reported bound, in all views of all processes."""
        modality = self.corruption.tables.modality(batch.range_index)
        bound = self.reported.of_slots(batch, self.corruption)
        num_modalities = len(self.token_weights)
        counts = [
            count_targets(batch.maskable, modality, num_modalities=num_modalities),
            count_targets(batch.maskable, bound, num_modalities=len(self.reported.names)),
        ]
        total = self.world.total(torch.cat(counts) * self.objective.num_views)
        return total[:num_modalities], total[num_modalities:]

    def _passes(self, batch: Batch, step: int) -> Iterator[_Pass]:
        """Each pass when its turn comes: its masks are drawn while the device is busy with the one before."""
        token_weights = self.token_weights / (len(batch.update_sample_index) * self.objective.num_views)
        for rows, is_real in self._slices(len(batch.tokens)):
            part = batch if rows is None else batch.rows(rows)
            part_modality = self.corruption.tables.modality(part.range_index)
            part_bound = self.reported.of_slots(part, self.corruption)
            for view in self.corruption.views(part, step):
                modality = part_modality[view.masked]
                factor = token_weights[modality] * self.range_weights[part.range_index[view.masked]]
                yield _Pass(
                    batch=part,
                    z_t=view.z_t,
                    masked=view.masked,
                    scale=view.loss_weight[view.masked].float() * factor * is_real,
                    weight=view.weight[view.masked].float() * is_real,
                    modality=modality,
                    bound=part_bound[view.masked],
                )

    def _slices(self, num_rows: int) -> Iterator[tuple[slice | None, bool]]:
        """Rows of each pass, None for all, and whether they count. There are as many passes in each process,
        since each gathers parameters from all of them: one with fewer rows repeats a row that adds nothing.
        """
        size = num_rows if self.micro_batch is None else self.micro_batch
        num_passes = self.world.largest(math.ceil(num_rows / size))
        if num_passes == 1:
            yield None, True
            return
        size = math.ceil(num_rows / num_passes)
        for start in range(0, num_passes * size, size):
            yield (slice(start, start + size), True) if start < num_rows else (slice(0, 1), False)

    def use_average(self) -> AbstractContextManager[None]:
        """Put the average in the place of the weights meanwhile, to judge and export the run by; without one,
        do nothing.
        """
        if self.average is None:
            return nullcontext()
        release(self.denoiser)
        return self.average.in_place()

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
    """What the parametrization makes of the optimizer's values for the parameter `name`."""
    rule = config.rule(name)
    return ParameterFactors(learning_rate=rule.learning_rate, eps=rule.eps, weight_decay=rule.weight_decay)


def _strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
