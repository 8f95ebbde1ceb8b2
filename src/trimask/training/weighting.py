"""Weight of a masked token's cross-entropy in the training loss, by mask ratio.

Only the NELBO's own weight gives a bound. Other weightings have the same optimum, since each masked token's
cross-entropy is minimal there whatever its weight, but distribute a finite model's capacity differently over
mask ratios. The reported metric is always the NELBO.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from trimask.diffusion.schedule import Schedule
from trimask.errors import UserError

_POINTS = 1 << 14  # of the midpoint rule that normalizes: exact to 1e-3 at a jump, to 1e-6 where smooth


class Weighting(ABC):
    """A function of the NELBO's weight and the mask ratio, without parameters."""

    __slots__ = ()

    @abstractmethod
    def relative(
        self, bound: Float64[Tensor, "*shape"], mask_ratio: Float64[Tensor, "*shape"]
    ) -> Float64[Tensor, "*shape"]:
        """Return the weight up to a constant. `bound`: the NELBO's weight per unit of time at the same
        slot."""

    def constant(self, schedule: Schedule) -> float:
        """Return the normalization of `relative`: 1 / ∫ mask_ratio(t) relative(t) dt, so that a uniform
        predictor over V tokens has loss ln V per target token, as under the NELBO.
        """
        # Over u with t = u⁸: some schedules have an integrable pole at t = 0.
        u = (torch.arange(_POINTS, dtype=torch.float64) + 0.5) / _POINTS
        t, slope = u**8, 8 * u**7
        ratio = schedule.mask_ratio(t)
        return 1 / float((ratio * self.relative(schedule.loss_weight(t), ratio) * slope).mean())


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Bound(Weighting):
    """The NELBO itself (MDLM, MD4) [L]: the loss is a bound, whatever the schedule."""

    def relative(
        self, bound: Float64[Tensor, "*shape"], mask_ratio: Float64[Tensor, "*shape"]
    ) -> Float64[Tensor, "*shape"]:
        return bound

    def constant(self, schedule: Schedule) -> float:
        return 1.0


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Unweighted(Weighting):
    """Every masked token weighs the same (MaskGIT) [L]: the schedule alone determines the distribution of
    mask ratios. Not a bound: high mask ratios weigh more than in the NELBO.
    """

    def relative(
        self, bound: Float64[Tensor, "*shape"], mask_ratio: Float64[Tensor, "*shape"]
    ) -> Float64[Tensor, "*shape"]:
        return torch.ones_like(bound)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PowerOfBound(Weighting):
    """The NELBO's weight to a power [D]: 1 is the bound, 0 is unweighted; between them, partly weighted.

    Raises: UserError unless the exponent is in [0, 1].
    """

    exponent: float

    def __post_init__(self) -> None:
        if not 0 <= self.exponent <= 1:
            raise UserError(f"PowerOfBound.exponent is {self.exponent}; give a number from 0 to 1")

    def relative(
        self, bound: Float64[Tensor, "*shape"], mask_ratio: Float64[Tensor, "*shape"]
    ) -> Float64[Tensor, "*shape"]:
        return bound**self.exponent
