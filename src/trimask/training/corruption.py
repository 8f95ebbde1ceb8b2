"""Corrupt training batches: draw times and masks, and set the weight of each masked token."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from trimask import rng
from trimask.diffusion.forward import complement, is_masked, mask_tokens
from trimask.diffusion.objective import mask_ratio_weight
from trimask.diffusion.schedule import Linear, per_modality
from trimask.diffusion.time import mask_ratio_pairs
from trimask.errors import UserError
from trimask.training.modalities import NO_ROWS, Modalities, rows_of
from trimask.training.reduction import Reduction, TokenMean
from trimask.training.times import Stratified, TimeDraw
from trimask.training.weighting import Bound, Weighting
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.slots import SlotTables


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveConfig:
    """How training tokens are masked and weighted.

    Attributes:
        anti_masking: each sequence is seen twice, under a mask and its complement [P?; D: the definition].
            Both views count towards the batch: B rows are B/2 distinct sequences at equal compute, so updates
                and the horizon hold half as many distinct sequences; with evenly spread times it may not pay.
                Ratios are drawn uniformly, so schedules must be linear.
        condition_dropout: fraction of conditional sequences whose whole condition is masked, for guidance
            [L: OmniVoice].
        weighting: weight of a masked token by mask ratio; only `Bound` trains on the NELBO, which is always
            the reported metric.
        reduction: weight of a target token of each modality in the training loss, before the modality's own
            factors.
        times: how the times of a batch depend on each other.
    """

    anti_masking: bool = False
    condition_dropout: float = 0.1
    weighting: Weighting = Bound()
    reduction: Reduction = TokenMean()
    times: TimeDraw = Stratified()

    def __post_init__(self) -> None:
        if not 0 <= self.condition_dropout < 1:
            raise UserError(f"condition_dropout {self.condition_dropout} must be in [0, 1)")

    @property
    def num_views(self) -> int:
        """Number of masked views of each sequence in an update; a batch counts each view."""
        return 2 if self.anti_masking else 1

    def check(self, modalities: Modalities) -> None:
        """Raise UserError if the schedules of `modalities` do not fit the objective."""
        if self.anti_masking and any(not isinstance(row.schedule, Linear) for row in modalities.values()):
            raise UserError(
                "anti_masking draws mask ratios uniformly: set the schedules to Linear, or turn it off"
            )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A batch under one mask.

    Attributes:
        z_t: noisy tokens.
        masked: where targets are hidden.
        weight: of each slot's cross-entropy in the NELBO.
        loss_weight: likewise in the training loss, before the factors of modalities and codebooks.
    """

    z_t: Int[Tensor, "rows slots"]
    masked: Bool[Tensor, "rows slots"]
    weight: Float64[Tensor, "rows slots"]
    loss_weight: Float64[Tensor, "rows slots"]


class Corruption:
    """Draws times and masks for a batch as functions of (seed, step, sample index), on any device.

    Times are drawn (`ObjectiveConfig.times`) for each logical batch, or the part of it in the update, so an
    update on several logical batches uses the same times and has the noise of their mean. With
    `logical_batch` None, each update is one logical batch. A part of an update gets the same times and masks
    as in the whole.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        vocabulary: Vocabulary,
        *,
        modalities: Modalities = NO_ROWS,
        seed: int,
        device: torch.device,
        logical_batch: int | None = None,
    ):
        self.config = config
        self.tables = SlotTables(vocabulary, device)
        self.seed = seed
        self.logical_batch = logical_batch
        # The last entry is for slots that are never masked.
        config.check(modalities)
        self._schedules = [row.schedule for row in rows_of(modalities, vocabulary)]
        constants = [*map(config.weighting.constant, self._schedules), 0.0]
        self._constants = torch.tensor(constants, dtype=torch.float64, device=device)

    def views(self, batch: Batch, step: int) -> list[View]:
        """Return one view, or two complementary ones with anti-masking."""
        slot = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        uniforms = self._slot_uniforms(batch, "mask", len(slot))
        clean = self._drop_conditions(batch)
        mask_id = self.tables.mask_id(batch.range_index)
        modality = self.tables.modality(batch.range_index)
        if self.config.anti_masking:
            ratio = _per_slot(self._mask_ratios(batch, step), batch)
            ratios = [ratio, 1 - ratio]
            weights = [mask_ratio_weight(each) for each in ratios]
        else:
            alpha, weight = per_modality(
                self._schedules, modality, _per_slot(self._times(batch, step), batch)
            )
            ratio = 1 - alpha
            ratios, weights = [ratio], [weight]
        z_t = mask_tokens(
            clean, mask_ratio=ratio, maskable=batch.maskable, mask_id=mask_id, uniforms=uniforms
        )
        noisy = [z_t]
        if self.config.anti_masking:
            noisy.append(complement(clean, z_t, maskable=batch.maskable, mask_id=mask_id))
        return [
            View(
                z_t=z,
                masked=is_masked(z, maskable=batch.maskable, mask_id=mask_id),
                weight=weight,
                loss_weight=self._constants[modality] * self.config.weighting.relative(weight, each),
            )
            for z, weight, each in zip(noisy, weights, ratios, strict=True)
        ]

    def _slot_uniforms(self, batch: Batch, name: str, count: int) -> Float64[Tensor, "rows slots"]:
        """Draw a uniform for each slot from its document's stream, indexed from the document's first slot."""
        keys = rng.fold(rng.key(self.seed, name), batch.sample_index)
        table = rng.uniform(keys, count)
        real = batch.sequence >= 0
        first = torch.full_like(batch.sample_index, count)
        columns = torch.arange(count, device=real.device).expand_as(batch.sequence)
        first = first.scatter_reduce(0, batch.sequence[real], columns[real], "amin")
        sequence = batch.sequence.clamp(min=0)
        return table[sequence, (columns - first[sequence]).clamp(min=0)]

    def is_dropped(self, batch: Batch) -> Bool[Tensor, "sequences"]:
        """Return whether each sequence loses its condition, if it has one."""
        keys = rng.fold(rng.key(self.seed, "condition"), batch.sample_index)
        return rng.uniform(keys, 1)[:, 0] < self.config.condition_dropout

    def _drop_conditions(self, batch: Batch) -> Int[Tensor, "rows slots"]:
        hide = batch.is_condition & self.is_dropped(batch)[batch.sequence.clamp(min=0)]
        return torch.where(hide, self.tables.mask_id(batch.range_index), batch.tokens)

    def _mask_ratios(self, batch: Batch, step: int) -> Float64[Tensor, "sequences"]:
        """Draw the mask ratio u of the first anti-masking view; the second has 1 − u."""
        return mask_ratio_pairs(self._times(batch, step))[0]

    def _times(self, batch: Batch, step: int) -> Float64[Tensor, "sequences"]:
        """Draw a time per document of the batch, as part of the whole update: per task, so that each task
        sees the times that the configuration promises.
        """
        # By sample index, not position: rows are sorted by length, which correlates with content.
        indices, order = batch.update_sample_index.sort()
        tasks = batch.update_task[order]
        values = torch.zeros(len(indices), dtype=torch.float64, device=indices.device)
        for names, group in self._logical_batches(indices, step):
            for task in tasks[group].unique().tolist():
                members = group[tasks[group] == task]
                number, *part = names
                values[members] = self.config.times.times(
                    indices[members], seed=self.seed, stream=(number, task, *part)
                )
        return values[torch.searchsorted(indices, batch.sample_index)]

    def _logical_batches(
        self, indices: Int[Tensor, "update"], step: int
    ) -> Iterator[tuple[tuple[int, ...], Int[Tensor, "_members"]]]:
        """Yield the name and positions of each logical batch's part in the update (sorted sample indices).
        The name is its number and, if the part starts inside it, the start.
        """
        places = torch.arange(len(indices), device=indices.device)
        if self.logical_batch is None:
            yield (step,), places
            return
        numbers = indices // self.logical_batch
        for number in numbers.unique().tolist():
            group = places[numbers == number]
            start = int(indices[group[0]]) - number * self.logical_batch
            yield ((number, start) if start else (number,)), group


def _per_slot(values: Float64[Tensor, "sequences"], batch: Batch) -> Float64[Tensor, "rows slots"]:
    """Spread one value per document over its slots (padding gets the first document's, and is never used)."""
    return values[batch.sequence.clamp(min=0)]
