"""One update of the denoiser: mask, predict, weigh, descend."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from trimask import rng
from trimask.diffusion.forward import complement, is_masked, mask_tokens
from trimask.diffusion.objective import (
    NelboTerms,
    count_targets,
    mask_ratio_weight,
    nelbo_terms,
    training_loss,
)
from trimask.diffusion.schedule import Linear, Schedule, per_modality
from trimask.diffusion.time import low_discrepancy_mask_ratio_pairs, low_discrepancy_times
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.training.lr_schedule import LearningRateSchedule
from trimask.training.optimizers import (
    AdamWConfig,
    ParameterFactors,
    build_adamw,
    clip_gradients,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    set_learning_rate,
)
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.modality import Modality, Task


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveConfig:
    """How training tokens are masked and weighed.

    Attributes:
        text, image, audio: noise schedule per modality [P: schedules are studied; D: per modality].
        anti_masking: each sequence is seen twice, under a mask and its complement [P?; D: the
            definition]. Ratios are then drawn uniformly, so the schedules must be linear.
        condition_dropout: fraction of conditional sequences whose whole condition is masked, for guidance
            [L: OmniVoice].
        modality_weights: of the per-modality means in the training loss (text, image, audio).
    """

    text: Schedule = Linear()
    image: Schedule = Linear()
    audio: Schedule = Linear()
    anti_masking: bool = False
    condition_dropout: float = 0.1
    modality_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if not 0 <= self.condition_dropout < 1:
            raise ValueError(f"condition_dropout {self.condition_dropout} must be in [0, 1)")
        if min(self.modality_weights) < 0:
            raise ValueError(f"modality_weights {self.modality_weights} must not be negative")
        if self.anti_masking and any(not isinstance(s, Linear) for s in self.schedules):
            raise ValueError(
                "anti_masking draws mask ratios uniformly: set the schedules to Linear, or turn it off"
            )

    @property
    def schedules(self) -> tuple[Schedule, Schedule, Schedule]:
        return (self.text, self.image, self.audio)


@final
class SlotTables:
    """Per-range lookups on the device: what modality a slot has, and which token masks it."""

    def __init__(self, vocabulary: Vocabulary, device: torch.device):
        # The last entry answers for range −1: special tokens and padding have no modality and are never
        # masked.
        self._modality = torch.tensor([*(int(r.modality) for r in vocabulary.ranges), -1], device=device)
        self._mask_id = torch.tensor([*vocabulary.mask_of_range.tolist(), vocabulary.pad], device=device)

    def modality(self, range_index: Int[Tensor, "*slots"]) -> Int[Tensor, "*slots"]:
        return self._modality[range_index]

    def mask_id(self, range_index: Int[Tensor, "rows slots"]) -> Int[Tensor, "rows slots"]:
        return self._mask_id[range_index]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A batch under one mask: noisy tokens, where they hide targets, and each slot's NELBO weight."""

    z_t: Int[Tensor, "rows slots"]
    masked: Bool[Tensor, "rows slots"]
    weight: Float64[Tensor, "rows slots"]

    def rows(self, rows: slice) -> "View":
        """That of `Batch.rows`."""
        return View(z_t=self.z_t[rows], masked=self.masked[rows], weight=self.weight[rows])


class Corruption:
    """Draws times and masks for a batch: functions of (seed, step, sample index), on any device.

    Times are spread evenly over each logical batch, so that an update on several of them has the noise of
    their mean, and the same times as they; over what the update holds of it, where that is less. With
    `logical_batch` None, each batch is one.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        vocabulary: Vocabulary,
        *,
        seed: int,
        device: torch.device,
        logical_batch: int | None = None,
    ):
        self.config = config
        self.tables = SlotTables(vocabulary, device)
        self.seed = seed
        self.logical_batch = logical_batch

    def views(self, batch: Batch, step: int) -> list[View]:
        """One view, or two complementary ones with anti-masking."""
        slot = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        uniforms = self._slot_uniforms(batch, "mask", len(slot))
        clean = self._drop_conditions(batch)
        mask_id = self.tables.mask_id(batch.range_index)
        if self.config.anti_masking:
            ratio = _per_slot(self._mask_ratios(batch, step), batch)
            weights = [mask_ratio_weight(ratio), mask_ratio_weight(1 - ratio)]
        else:
            alpha, weight = per_modality(
                self.config.schedules,
                self.tables.modality(batch.range_index),
                _per_slot(self._times(batch, step), batch),
            )
            ratio, weights = 1 - alpha, [weight]
        z_t = mask_tokens(
            clean, mask_ratio=ratio, maskable=batch.maskable, mask_id=mask_id, uniforms=uniforms
        )
        noisy = [z_t]
        if self.config.anti_masking:
            noisy.append(complement(clean, z_t, maskable=batch.maskable, mask_id=mask_id))
        return [
            View(z_t=z, masked=is_masked(z, maskable=batch.maskable, mask_id=mask_id), weight=weight)
            for z, weight in zip(noisy, weights, strict=True)
        ]

    def _slot_uniforms(self, batch: Batch, name: str, count: int) -> Float64[Tensor, "rows slots"]:
        """A uniform for each slot, from its document's stream, counted from the document's first slot."""
        keys = rng.fold(rng.key(self.seed, name), batch.sample_index)
        table = rng.uniform(keys, count)
        real = batch.sequence >= 0
        first = torch.full_like(batch.sample_index, count)
        columns = torch.arange(count, device=real.device).expand_as(batch.sequence)
        first = first.scatter_reduce(0, batch.sequence[real], columns[real], "amin")
        sequence = batch.sequence.clamp(min=0)
        return table[sequence, (columns - first[sequence]).clamp(min=0)]

    def _drop_conditions(self, batch: Batch) -> Int[Tensor, "rows slots"]:
        keys = rng.fold(rng.key(self.seed, "condition"), batch.sample_index)
        is_dropped = rng.uniform(keys, 1)[:, 0] < self.config.condition_dropout
        hide = batch.is_condition & is_dropped[batch.sequence.clamp(min=0)]
        return torch.where(hide, self.tables.mask_id(batch.range_index), batch.tokens)

    def _times(self, batch: Batch, step: int) -> Float64[Tensor, "sequences"]:
        """Low-discrepancy times, task by task: each task sees times spread evenly over (0, 1)."""
        return self._task_by_task(batch, step, lambda n, offset: low_discrepancy_times(n, offset=offset))

    def _mask_ratios(self, batch: Batch, step: int) -> Float64[Tensor, "sequences"]:
        """Likewise the mask ratio u of the first view of anti-masking; the second has 1 − u."""
        return self._task_by_task(
            batch, step, lambda n, offset: low_discrepancy_mask_ratio_pairs(n, offset=offset)[0]
        )

    def _task_by_task(
        self, batch: Batch, step: int, draw: Callable[[int, float], Float64[Tensor, "_members"]]
    ) -> Float64[Tensor, "sequences"]:
        values = torch.zeros(batch.num_sequences, dtype=torch.float64, device=batch.tokens.device)
        for names, group in self._logical_batches(batch, step):
            for task in range(len(Task)):
                members = group[batch.task[group] == task]
                if len(members):
                    number, *part = names
                    offset = float(rng.generator(self.seed, "time", number, task, *part).random())
                    values[members] = draw(len(members), offset).to(values.device)
        return values

    def _logical_batches(
        self, batch: Batch, step: int
    ) -> Iterator[tuple[tuple[int, ...], Int[Tensor, "_members"]]]:
        """Names and members of what the batch holds of each logical batch: its number, and where the part
        begins if that is within it.
        """
        # By sample index, not by place: rows are sorted by length, and length says something of the content.
        order = batch.sample_index.argsort()
        if self.logical_batch is None:
            yield (step,), order
            return
        numbers = batch.sample_index[order] // self.logical_batch
        for number in numbers.unique().tolist():
            group = order[numbers == number]
            start = int(batch.sample_index[group[0]]) - number * self.logical_batch
            yield ((number, start) if start else (number,)), group


def _per_slot(values: Float64[Tensor, "sequences"], batch: Batch) -> Float64[Tensor, "rows slots"]:
    """Spread one value per document over its slots (padding gets the first document's, and is never used)."""
    return values[batch.sequence.clamp(min=0)]


class DenoiserStep:
    """One update of the denoiser on a batch: the `Step` that the training loop runs.

    Args:
        optimizer: values at this batch and horizon; the parametrization's factors come on top, per tensor.
        num_steps: updates of the whole run.
        logical_batch: sequences over which times are spread evenly, None for the batch's own.
        micro_batch: rows per forward and backward pass, None for all. Times, masks and the counts that the
            loss is divided by are the whole batch's, so the update is the same to rounding.
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
        logical_batch: int | None = None,
        micro_batch: int | None = None,
    ):
        self.denoiser = denoiser
        self.objective = objective
        device = denoiser.embedding.weight.device
        self.corruption = Corruption(
            objective, denoiser.vocabulary, seed=seed, device=device, logical_batch=logical_batch
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
        self.micro_batch = micro_batch
        self.step = 0
        self._modality_weights = torch.tensor(objective.modality_weights, device=device)

    def __call__(self, batch: Batch) -> Mapping[str, Tensor | float]:
        """Forward, backward, update; the loss and each modality's NELBO in bits per token."""
        set_learning_rate(self.optimizer, self.lr_schedule.factor((self.step + 1) / self.num_steps))
        self.optimizer.zero_grad(set_to_none=True)
        num_targets, parts = self._views(batch)
        loss = torch.zeros((), device=num_targets.device)
        nats = torch.zeros(len(Modality), device=num_targets.device)
        for part, view in parts:
            terms = self._terms(part, view)
            part_loss = training_loss(terms, num_targets=num_targets, modality_weights=self._modality_weights)
            if part_loss.requires_grad:  # else nothing in this part is masked
                part_loss.backward()
            loss += part_loss.detach()
            nats += terms.nats_per_token(num_targets).detach()
        grad_norm = clip_gradients(self.optimizer, self.optimizer_config.clip_norm)
        self.optimizer.step()
        self.step += 1
        bits = nats / math.log(2)
        num_views = 2 if self.objective.anti_masking else 1
        return {
            "loss": loss,
            "grad_norm": grad_norm.detach(),
            **{f"{m.name.lower()}_bits_per_token": bits[m] for m in Modality},
            "tokens": float(num_targets.sum()) / num_views,
        }

    def losses(self, batch: Batch, step: int) -> dict[Modality, Tensor]:
        """What each modality adds to the training loss of `batch` under the noise of update `step`, with its
        graph; those that the batch lacks are left out. Nothing is updated.
        """
        num_targets, parts = self._views(batch, step)
        sums = sum(self._terms(part, view).per_modality(len(Modality)) for part, view in parts)
        assert isinstance(sums, Tensor)
        return {m: self._modality_weights[m] * sums[m] / num_targets[m] for m in Modality if num_targets[m]}

    def _views(
        self, batch: Batch, step: int | None = None
    ) -> tuple[Int[Tensor, "modalities"], Iterator[tuple[Batch, View]]]:
        """Targets of all views together, and the micro-batches of each view."""
        batch = batch.to(self._modality_weights.device)
        modality = self.corruption.tables.modality(batch.range_index)
        views = self.corruption.views(batch, self.step if step is None else step)
        num_targets = count_targets(batch.maskable, modality, num_modalities=len(Modality)) * len(views)
        num_rows = len(batch.tokens)
        if self.micro_batch is None or self.micro_batch >= num_rows:
            return num_targets, ((batch, view) for view in views)
        slices = [slice(start, start + self.micro_batch) for start in range(0, num_rows, self.micro_batch)]
        return num_targets, ((batch.rows(rows), view.rows(rows)) for view in views for rows in slices)

    def _terms(self, batch: Batch, view: View) -> NelboTerms:
        cross_entropy = self.denoiser.cross_entropy(view.z_t, batch, view.masked)
        return nelbo_terms(
            cross_entropy,
            view.weight[view.masked],
            modality=self.corruption.tables.modality(batch.range_index[view.masked]),
            sequence=batch.sequence[view.masked],
        )

    def state_dict(self) -> dict[str, Tensor]:
        weights = {f"denoiser.{name}": p.detach() for name, p in self.denoiser.named_parameters()}
        state = {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self.optimizer).items()}
        return weights | state | {"step": torch.tensor(self.step)}

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        self.denoiser.load_state_dict(_strip(tensors, "denoiser."))
        load_optimizer_tensors(self.optimizer, _strip(tensors, "optimizer."))
        self.step = int(tensors["step"])


def optimizer_factors(config: DenoiserConfig, name: str) -> ParameterFactors:
    """What the parametrization makes of the optimizer's values for the parameter `name`."""
    rule = config.rule(name)
    return ParameterFactors(learning_rate=rule.learning_rate, eps=rule.eps, weight_decay=rule.weight_decay)


def _strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
