"""Learning-rate schedules: a factor on the base learning rate, from the fraction of the horizon done."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final


class LearningRateSchedule(ABC):
    """Maps progress in [0, 1] to a factor in [0, 1]; progress is measured in tokens, steps or time."""

    @abstractmethod
    def factor(self, progress: float) -> float:
        """The factor on the base learning rate at `progress`; progress outside [0, 1] is clamped."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class WarmupCosine(LearningRateSchedule):
    """Linear warm-up from 0, then half a cosine down to `final_fraction` [P?: cosine; D: the final fraction].

    factor(p) = p / w                                               for p < w
    factor(p) = f + (1 - f) (1 + cos(pi (p - w) / (1 - w))) / 2     for p >= w,

    with p the progress, w = `warmup_fraction`, f = `final_fraction`. For update n = 1 … N pass
    p = n / N: with (n - 1) / N the first update would not move the weights.
    """

    warmup_fraction: float
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_fraction < 1:
            raise ValueError(f"warmup_fraction must be in [0, 1), not {self.warmup_fraction}")
        if not 0 <= self.final_fraction <= 1:
            raise ValueError(f"final_fraction must be in [0, 1], not {self.final_fraction}")

    def factor(self, progress: float) -> float:
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup_fraction:
            return progress / self.warmup_fraction
        decayed = (progress - self.warmup_fraction) / (1 - self.warmup_fraction)
        return self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * decayed)) / 2


def warmup_fraction(horizon: float | int, *, warmup: float | int = 1000, cap: float = 0.25) -> float:
    """The fraction of the horizon spent on warm-up: min(warmup / horizon, cap).

    `horizon` and `warmup` in one unit: steps, or tokens. Default: 1,000 steps, at most 25 % of the run [P?].
    """
    if horizon <= 0 or warmup < 0 or not 0 <= cap < 1:
        raise ValueError(f"need horizon > 0, warmup >= 0, cap in [0, 1); got {horizon}, {warmup}, {cap}")
    return min(warmup / horizon, cap)
