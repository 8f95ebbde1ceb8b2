"""Split an update into forward and backward passes: by process, micro-batch and view.

Times and masks are drawn for the whole update, so the result is the same up to rounding, however it is split.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimask.devices import send
from trimask.diffusion.objective import count_targets, nelbo_terms
from trimask.training.corruption import Corruption, ObjectiveConfig
from trimask.training.distributed import ALONE, World
from trimask.training.modalities import NO_ROWS, Modalities, range_weights, token_weights
from trimask.training.reduction import Targets
from trimask.training.reported import ReportedBounds
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary

_HOST = torch.device("cpu")


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pass:
    """One forward and backward pass: some rows under one mask, on the host.

    Attributes:
        scale: factor of each masked slot's cross-entropy in the loss.
        weight: factor of it in the NELBO, in nats.
        modality: of each masked slot.
        bound: index of the reported bound of each masked slot, −1 for none.
        num_bounds: how many bounds are reported.
    """

    batch: Batch
    z_t: Int[Tensor, "rows slots"]
    masked: Bool[Tensor, "rows slots"]
    scale: Float[Tensor, "masked"]
    weight: Float[Tensor, "masked"]
    modality: Int[Tensor, "masked"]
    bound: Int[Tensor, "masked"]
    num_bounds: int

    def sums(self, loss: Float[Tensor, ""], cross_entropy: Float[Tensor, "masked"]) -> Float[Tensor, "_sums"]:
        """Return the loss, then the NELBO of each reported bound in nats; detached, on their device."""
        device = cross_entropy.device
        terms = nelbo_terms(
            cross_entropy,
            send(self.weight, device),
            modality=send(self.bound, device),
            sequence=send(torch.zeros_like(self.bound), device),
        )
        return torch.stack([loss.detach(), *terms.per_modality(self.num_bounds)])


class Passes:
    """Splits each update into passes, and draws their masks.

    Each process of `world` has its part of the batch. Masks are drawn on the host while the device computes
    the previous pass: masks determine tensor shapes, and drawing them on a GPU would stall.

    Args:
        targets: expected target tokens of a sequence per modality (`TrainingStream.target_tokens`).
        tasks: task names of the mixture, which determine the reported bounds.
        modalities: how each is masked and weighted.
        logical_batch: distinct sequences over which times are spread evenly, None for the batch's own.
        micro_batch: rows per pass, None for all.
    """

    def __init__(
        self,
        objective: ObjectiveConfig,
        vocabulary: Vocabulary,
        *,
        seed: int,
        targets: Targets,
        tasks: Collection[str],
        modalities: Modalities = NO_ROWS,
        logical_batch: int | None = None,
        micro_batch: int | None = None,
        world: World = ALONE,
    ):
        self.num_views = objective.num_views
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
        self.micro_batch = micro_batch
        self.world = world

    def __call__(self, batch: Batch, step: int) -> Iterator[Pass]:
        """Yield the passes of update `step` on `batch`, built lazily."""
        batch = batch.to(_HOST)
        token_weights = self.token_weights / (len(batch.update_sample_index) * self.num_views)
        for rows, is_real in self._slices(len(batch.tokens)):
            part = batch if rows is None else batch.rows(rows)
            part_modality = self.corruption.tables.modality(part.range_index)
            part_bound = self.reported.of_slots(part, self.corruption)
            for view in self.corruption.views(part, step):
                modality = part_modality[view.masked]
                factor = token_weights[modality] * self.range_weights[part.range_index[view.masked]]
                yield Pass(
                    batch=part,
                    z_t=view.z_t,
                    masked=view.masked,
                    scale=view.loss_weight[view.masked].float() * factor * is_real,
                    weight=view.weight[view.masked].float() * is_real,
                    modality=modality,
                    bound=part_bound[view.masked],
                    num_bounds=len(self.reported.names),
                )

    def count(self, batch: Batch) -> tuple[Int[Tensor, "modalities"], Int[Tensor, "bounds"]]:
        """Count the targets of each modality and of each reported bound, in all views of all processes."""
        batch = batch.to(_HOST)
        modality = self.corruption.tables.modality(batch.range_index)
        bound = self.reported.of_slots(batch, self.corruption)
        num_modalities = len(self.token_weights)
        counts = [
            count_targets(batch.maskable, modality, num_modalities=num_modalities),
            count_targets(batch.maskable, bound, num_modalities=len(self.reported.names)),
        ]
        total = self.world.total(torch.cat(counts) * self.num_views)
        return total[:num_modalities], total[num_modalities:]

    def _slices(self, num_rows: int) -> Iterator[tuple[slice | None, bool]]:
        """Yield the rows of each pass (None for all) and whether they count. All processes need the same
        number of passes, since each gathers parameters from all: one with fewer rows repeats a row with zero
        weight.
        """
        size = num_rows if self.micro_batch is None else self.micro_batch
        num_passes = self.world.largest(math.ceil(num_rows / size))
        if num_passes == 1:
            yield None, True
            return
        size = math.ceil(num_rows / num_passes)
        for start in range(0, num_passes * size, size):
            yield (slice(start, start + size), True) if start < num_rows else (slice(0, 1), False)
