"""Classifier-free guidance: mix a conditional and an unconditional prediction."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from trimask.devices import send
from trimask.errors import UserError
from trimask.sampling.predictor import Prediction, Predictor, predict_at
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.slots import SlotTables

_STRONGEST = 10_000


class GuidanceRamp(ABC):
    """The guidance strength as tokens are revealed."""

    __slots__ = ()

    @abstractmethod
    def scale(self, guidance_scale: float, revealed: float) -> float:
        """Return w for a sequence, given the fraction of its targets (of a modality) already revealed. Where
        w is 1 for all slots of a sequence, it costs no second pass.
        """


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ConstantGuidance(GuidanceRamp):
    """The full scale from the first step."""

    def scale(self, guidance_scale: float, revealed: float) -> float:
        return guidance_scale


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LinearGuidance(GuidanceRamp):
    """w = 1 + (guidance_scale - 1) · revealed: early guidance hurts (arXiv 2507.08965) [L]; the first step
    costs one pass."""

    def scale(self, guidance_scale: float, revealed: float) -> float:
        return 1 + (guidance_scale - 1) * revealed


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class IntervalGuidance(GuidanceRamp):
    """The scale of `ramp` while start <= revealed < stop, and no guidance, hence no second pass, outside
    (Kynkäänniemi et al., arXiv 2404.07724) [L].

    Raises: UserError unless 0 <= start < stop <= 1.
    """

    start: float = 0.0
    stop: float = 1.0
    ramp: GuidanceRamp = ConstantGuidance()

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= 1:
            raise UserError(
                f"IntervalGuidance goes from {self.start} to {self.stop}: give 0 <= start < stop <= 1"
            )

    def scale(self, guidance_scale: float, revealed: float) -> float:
        is_inside = self.start <= revealed < self.stop
        return self.ramp.scale(guidance_scale, revealed) if is_inside else 1.0


def guide(
    predictor: Predictor,
    z: Int[Tensor, "rows slots"],
    batch: Batch,
    scale: Float64[np.ndarray, "rows slots"],
    read: Bool[np.ndarray, "rows slots"],
) -> Prediction:
    """Predict with guidance at the slots `read`. Rows whose scale is 1, and those without a condition, are
    exactly unguided and cost no second pass.

    Args:
        scale: w of each slot that is read.
    """
    conditional = predict_at(predictor, z, batch, read)
    is_guided = find_guided(scale, batch)
    if not is_guided.any():
        return conditional
    rows = torch.from_numpy(is_guided.nonzero()[0])
    some = batch.rows(rows)
    dropped = drop_condition(z[send(rows, z.device)], some, predictor.vocabulary)
    unconditional = predict_at(predictor, dropped, some, read[is_guided])
    place = torch.full((len(z),), -1)
    place[rows] = torch.arange(len(rows))
    place, num_slots = send(place, z.device), z.shape[1]

    def of_all_rows(slots: Int[Tensor, "n"], range_index: int) -> Float[Tensor, "n codes"]:
        return unconditional(place[slots // num_slots] * num_slots + slots % num_slots, range_index)

    return mix(conditional, of_all_rows, scale, read & is_guided[:, None], batch, z.device)


def find_guided(scale: Float64[np.ndarray, "rows slots"], batch: Batch) -> Bool[np.ndarray, "rows"]:
    """Return the rows that need an unconditional prediction."""
    return (scale != 1).any(1) & batch.is_condition.any(1).cpu().numpy()


def drop_condition(
    z: Int[Tensor, "rows slots"], batch: Batch, vocabulary: Vocabulary
) -> Int[Tensor, "rows slots"]:
    """Return the unconditional input: mask tokens of the matching modality at the condition slots."""
    mask_id = SlotTables(vocabulary, batch.range_index.device).mask_id(batch.range_index)
    return torch.where(send(batch.is_condition, z.device), send(mask_id, z.device), z)


def mix(
    conditional: Prediction,
    unconditional: Prediction,
    scale: Float64[np.ndarray, "rows slots"],
    read: Bool[np.ndarray, "rows slots"],
    batch: Batch,
    device: torch.device,
) -> Prediction:
    """Return uncond + w · (cond - uncond) on log-probabilities, normalized again, where w is not 1; the
    conditional prediction elsewhere. Filters such as temperature and top-p act after it.

    Args:
        read: slots that may be read from `unconditional`. No others are, and none of a codebook range without
            guided slots.
    """
    guided = read & (scale != 1)
    flat, range_index = guided.reshape(-1).nonzero()[0], batch.range_index.numpy()[guided]
    # The host would wait for a GPU to pick the guided slots out of those that are asked for. So it reads as
    # many, in place of the others the first guided one.
    found = zip(*np.unique(range_index, return_index=True), strict=True)
    first = {int(index): int(flat[place]) for index, place in found}
    is_guided_slot = send(torch.from_numpy(guided.reshape(-1)), device)
    w_of_slot = send(torch.from_numpy(scale.reshape(-1)), device)

    def log_probabilities(slots: Int[Tensor, "n"], range_index: int) -> Float[Tensor, "n codes"]:
        cond = conditional(slots, range_index)
        if range_index not in first:
            return cond
        is_guided = is_guided_slot[slots]
        uncond = unconditional(slots.masked_fill(~is_guided, first[range_index]), range_index)
        w = w_of_slot[slots, None].to(cond.dtype)
        mixed = torch.log_softmax(uncond + w * (cond - uncond), dim=-1)
        return torch.where(is_guided[:, None], mixed, cond)

    return log_probabilities


def check_guidance_scale(scale: float) -> None:
    """Raise UserError unless the scale is at least 0 and small enough for float32."""
    if not 0 <= scale <= _STRONGEST:
        raise UserError(
            f"guidance_scale is {scale}: give a finite number of at least 0 (1 is no guidance), at most "
            f"{_STRONGEST:,}"
        )
