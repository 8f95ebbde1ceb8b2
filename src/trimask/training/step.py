"""One update of the denoiser: mask, predict, weigh, descend."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimask.diffusion.objective import NelboTerms, count_targets, nelbo_terms, training_loss
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.training.corruption import Corruption, ObjectiveConfig, View
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
from trimask.vocabulary.modality import Modality


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Whole:
    """What all passes of an update share. Targets are kept apart by logical batch and modality.

    Attributes:
        numbers: of the logical batches.
        num_targets: of all views together.
        weights: the modality's, times the logical batch's share of the sequences.
        parts: the micro-batches of each view.
    """

    numbers: Int[Tensor, "logical"]
    num_targets: Int[Tensor, "kinds"]
    weights: Float[Tensor, "kinds"]
    parts: Iterator[tuple[Batch, View]]


class DenoiserStep:
    """One update of the denoiser on a batch: the `Step` that the training loop runs.

    The loss of a batch of several logical ones is the mean of theirs: a modality that one of them lacks adds
    nothing there, so that a modality counts for as much whatever the batch.

    Args:
        optimizer: values at this batch and horizon; the parametrization's factors come on top, per tensor.
        num_steps: updates of the whole run.
        logical_batch: sequences over which times are spread evenly and targets are counted, None for the
            batch's own.
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
        whole = self._whole(batch)
        loss = torch.zeros((), device=whole.num_targets.device)
        nats = torch.zeros(len(whole.num_targets), device=loss.device)
        for part, view in whole.parts:
            terms = self._terms(part, view, whole)
            part_loss = training_loss(terms, num_targets=whole.num_targets, modality_weights=whole.weights)
            if part_loss.requires_grad:  # else nothing in this part is masked
                part_loss.backward()
            loss += part_loss.detach()
            nats += terms.per_modality(len(nats)).detach()
        grad_norm = clip_gradients(self.optimizer, self.optimizer_config.clip_norm)
        self.optimizer.step()
        self.step += 1
        num_targets = whole.num_targets.view(-1, len(Modality)).sum(0)
        bits = nats.view(-1, len(Modality)).sum(0) / num_targets / math.log(2)
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
        whole = self._whole(batch, step)
        sums = sum(
            self._terms(part, view, whole).per_modality(len(whole.num_targets)) for part, view in whole.parts
        )
        assert isinstance(sums, Tensor)
        added = (whole.weights * sums / whole.num_targets.clamp(min=1)).view(-1, len(Modality)).sum(0)
        num_targets = whole.num_targets.view(-1, len(Modality)).sum(0)
        return {m: added[m] for m in Modality if num_targets[m]}

    def _whole(self, batch: Batch, step: int | None = None) -> "_Whole":
        batch = batch.to(self._modality_weights.device)
        numbers, sizes = self._logical_batch(batch).unique(return_counts=True)
        views = self.corruption.views(batch, self.step if step is None else step)
        kind, num_kinds = self._kind(batch, numbers), len(numbers) * len(Modality)
        num_rows = len(batch.tokens)
        size = num_rows if self.micro_batch is None else min(self.micro_batch, num_rows)
        slices = [slice(start, start + size) for start in range(0, num_rows, size)]
        return _Whole(
            numbers=numbers,
            num_targets=count_targets(batch.maskable, kind, num_modalities=num_kinds) * len(views),
            weights=(sizes[:, None] / batch.num_sequences * self._modality_weights).flatten(),
            parts=((batch, view) for view in views)
            if len(slices) == 1
            else ((batch.rows(rows), view.rows(rows)) for view in views for rows in slices),
        )

    def _logical_batch(self, batch: Batch) -> Int[Tensor, "sequences"]:
        """Of each document, the number of its logical batch."""
        size = self.corruption.logical_batch
        return torch.zeros_like(batch.sample_index) if size is None else batch.sample_index // size

    def _kind(self, batch: Batch, numbers: Int[Tensor, "_logical"]) -> Int[Tensor, "rows slots"]:
        """Of each slot that can be a target, its modality and logical batch as one number."""
        place = torch.searchsorted(numbers, self._logical_batch(batch))
        modality = self.corruption.tables.modality(batch.range_index)
        return place[batch.sequence.clamp(min=0)] * len(Modality) + modality

    def _terms(self, batch: Batch, view: View, whole: "_Whole") -> NelboTerms:
        cross_entropy = self.denoiser.cross_entropy(view.z_t, batch, view.masked)
        return nelbo_terms(
            cross_entropy,
            view.weight[view.masked],
            modality=self._kind(batch, whole.numbers)[view.masked],
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
