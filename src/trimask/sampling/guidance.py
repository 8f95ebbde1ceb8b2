"""Classifier-free guidance: mix a conditional and an unconditional prediction."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from trimask.errors import UserError
from trimask.sampling.predictor import Prediction, Predictor
from trimask.vocabulary.batch import Batch
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
) -> Prediction:
    """Predict uncond + w · (cond - uncond) on log-probabilities, normalized again.

    The unconditional input has mask tokens of the matching modality at the condition slots. Rows whose scale
    is 1, and those without a condition, are exactly unguided and cost no second pass. Filters such as
    temperature and top-p act after guidance.

    Args:
        scale: w of each slot that is read.
    """
    conditional = predictor(z, batch)
    is_guided = (scale != 1).any(1) & batch.is_condition.any(1).cpu().numpy()
    if not is_guided.any():
        return conditional
    rows = torch.from_numpy(is_guided.nonzero()[0]).to(z.device)
    some = batch.rows(rows)
    mask_id = SlotTables(predictor.vocabulary, z.device).mask_id(some.range_index)
    unconditional = predictor(torch.where(some.is_condition, mask_id, z[rows]), some)
    place = torch.full((len(z),), -1, device=z.device)
    place[rows] = torch.arange(len(rows), device=z.device)
    w_of_slot = torch.from_numpy(scale.reshape(-1)).to(z.device)
    num_slots = z.shape[1]

    def log_probabilities(slots: Int[Tensor, "n"], range_index: int) -> Float[Tensor, "n codes"]:
        cond = conditional(slots, range_index)
        row = slots // num_slots
        guided = ((place[row] >= 0) & (w_of_slot[slots] != 1)).nonzero()[:, 0]
        if not len(guided):
            return cond
        chosen = slots[guided]
        uncond = unconditional(place[row[guided]] * num_slots + chosen % num_slots, range_index)
        w = w_of_slot[chosen, None].to(cond.dtype)
        mixed = torch.log_softmax(uncond + w * (cond[guided] - uncond), dim=-1)
        return cond.index_copy(0, guided, mixed)

    return log_probabilities


def check_guidance_scale(scale: float) -> None:
    """Raise UserError unless the scale is at least 0 and small enough for float32."""
    if not 0 <= scale <= _STRONGEST:
        raise UserError(
            f"guidance_scale is {scale}: give a finite number of at least 0 (1 is no guidance), at most "
            f"{_STRONGEST:,}"
        )
