"""The arms of the study of anti-masking, and the variances that flat cross-entropy has in closed form."""

import math
from dataclasses import dataclass
from typing import final

from trimask.errors import UserError
from trimask.training.times import Stratified, TimeDraw

EARLY, FINAL = "early", "final"
SAME, FRESH = "same sequences", "fresh sequences"
"""What is drawn anew: times and masks alone, or the sequences of a batch too."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class MaskingArm:
    """How many views a sequence has in an update, and how times are drawn.

    Attributes:
        times: how the times of a batch depend on each other.
        anti_masking: each sequence under a mask and its complement, instead of under one mask.
        compute: views of an update, relative to the base run's: 2 with anti-masking keeps all sequences.
    """

    times: TimeDraw = Stratified()
    anti_masking: bool = False
    compute: int = 1

    def __post_init__(self) -> None:
        if self.compute < 1:
            raise UserError(f"compute is {self.compute}: give at least 1, views relative to the base run's")

    def num_sequences(self, num_views: int) -> int:
        """Return the distinct sequences among `num_views` views of the base run."""
        return num_views * self.compute // (2 if self.anti_masking else 1)


def single_variance(u: float) -> float:
    """Variance (1 − u) / u per token of the loss of one view with mask ratio u, at flat cross-entropy 1.

    A token counts 1/u with probability u; tokens are masked independently [D].
    """
    return (1 - u) / u


def pair_variance(u: float) -> float:
    """Variance 1 / (4u(1 − u)) − 1 per token of the pair with mask ratios u, 1 − u, at flat cross-entropy 1.

    A token counts 1/(2u) with probability u, and 1/(2(1 − u)) otherwise [D].
    """
    return 1 / (4 * u * (1 - u)) - 1


def flat_gain(least: float) -> float:
    """Variance of single views over that of pairs at equal compute, at flat cross-entropy.

    (ln(1/ε) − 1) / (ln(1/ε) − 2), above 1: the mean of `single_variance` over that of twice `pair_variance`,
    for u between ε = `least`, the smallest mask ratio that is met, and 1 [D].

    Raises: UserError unless 0 < ε < e⁻².
    """
    if not 0 < least < math.exp(-2):
        raise UserError(f"the least mask ratio is {least}: give one above 0 and below {math.exp(-2):.3f}")
    return (-math.log(least) - 1) / (-math.log(least) - 2)
