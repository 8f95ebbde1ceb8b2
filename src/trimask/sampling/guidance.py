"""Classifier-free guidance: a predictor that wraps a predictor."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from trimask.errors import UserError
from trimask.sampling.predictor import Prediction, Predictor
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.slots import SlotTables

_STRONGEST = 10_000


class GuidanceRamp(ABC):
    """The guidance strength as tokens are revealed."""

    __slots__ = ()

    @abstractmethod
    def scale(self, guidance_scale: float, revealed: Float64[Tensor, "rows"]) -> Float64[Tensor, "rows"]:
        """Return w for each sequence, given the fraction of its targets already revealed."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ConstantGuidance(GuidanceRamp):
    """The full scale from the first step."""

    def scale(self, guidance_scale: float, revealed: Float64[Tensor, "rows"]) -> Float64[Tensor, "rows"]:
        return torch.full_like(revealed, guidance_scale)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LinearGuidance(GuidanceRamp):
    """w = 1 + (guidance_scale - 1) · revealed: early guidance hurts (arXiv 2507.08965) [L]; the first step
    costs one pass."""

    def scale(self, guidance_scale: float, revealed: Float64[Tensor, "rows"]) -> Float64[Tensor, "rows"]:
        return 1 + (guidance_scale - 1) * revealed


@final
class Guided:
    """uncond + w · (cond - uncond) on log-probabilities, normalized again; w = 1 is exactly no guidance and
    costs no second pass.

    The unconditional input has mask tokens of the matching modality at the condition slots. Filters such as
    temperature and top-p act after guidance.

    Raises: UserError when the scale is negative or not finite.
    """

    def __init__(self, predictor: Predictor, scale: float, ramp: GuidanceRamp | None = None):
        check_guidance_scale(scale)
        self.predictor = predictor
        self.guidance_scale = scale
        self.ramp = ConstantGuidance() if ramp is None else ramp

    @property
    def vocabulary(self) -> Vocabulary:
        return self.predictor.vocabulary

    def __call__(self, z: Int[Tensor, "rows slots"], batch: Batch) -> Prediction:
        conditional = self.predictor(z, batch)
        mask_id = SlotTables(self.vocabulary, z.device).mask_id(batch.range_index)
        is_revealed = (batch.maskable & (z != mask_id)).sum(1).double()
        w = self.ramp.scale(self.guidance_scale, is_revealed / batch.maskable.sum(1).clamp(min=1))
        if (w == 1).all() or not batch.is_condition.any():
            return conditional
        unconditional = self.predictor(torch.where(batch.is_condition, mask_id, z), batch)
        w_of_slot = w.repeat_interleave(z.shape[1])

        def log_probabilities(slots: Int[Tensor, "n"], range_index: int) -> Float[Tensor, "n codes"]:
            cond, uncond = conditional(slots, range_index), unconditional(slots, range_index)
            w = w_of_slot[slots, None].to(cond.dtype)
            guided = torch.log_softmax(uncond + w * (cond - uncond), dim=-1)
            # Rows with w = 1 must be unaffected by guided rows in the same batch.
            return torch.where(w == 1, cond, guided)

        return log_probabilities


def check_guidance_scale(scale: float) -> None:
    """Raise UserError unless the scale is at least 0 and small enough for float32."""
    if not 0 <= scale <= _STRONGEST:
        raise UserError(
            f"guidance_scale is {scale}: give a finite number of at least 0 (1 is no guidance), at most "
            f"{_STRONGEST:,}"
        )
