"""One update of the denoiser: mask, predict, weigh, descend."""

import math
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Int
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
