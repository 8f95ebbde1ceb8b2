"""Learning-rate schedules: a factor on the base learning rate, from the fraction of the horizon done."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from trimask.errors import UserError


class LearningRateSchedule(ABC):
    """Maps progress in [0, 1] to a factor in [0, 1]; progress is measured in tokens, steps or time."""

    @abstractmethod
    def factor(self, progress: float) -> float:
        """Return the factor on the base learning rate at `progress`, clamped to [0, 1]."""

    def phases(self) -> Mapping[str, float]:
        """Return named phases as fractions of the horizon; none by default."""
        return {}


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
            raise UserError(f"warmup_fraction must be in [0, 1), not {self.warmup_fraction}")
        if not 0 <= self.final_fraction <= 1:
            raise UserError(f"final_fraction must be in [0, 1], not {self.final_fraction}")

    def phases(self) -> Mapping[str, float]:
        return {"warm-up": self.warmup_fraction}

    def factor(self, progress: float) -> float:
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup_fraction:
            return progress / self.warmup_fraction
        decayed = (progress - self.warmup_fraction) / (1 - self.warmup_fraction)
        return self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * decayed)) / 2


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class WarmupStableDecay(LearningRateSchedule):
    """Linear warm-up, then constant, then down as 1 - √ to `final_fraction` (MiniCPM; Hägele et al.,
    arXiv 2405.18392) [L]. In the constant phase the horizon can be extended as if planned so, and the weight
    average is close to the result of the decay.

    factor(p) = p / w                                   for p < w
    factor(p) = 1                                       for w <= p < 1 - d
    factor(p) = 1 - (1 - f) √((p - 1 + d) / d)          for p >= 1 - d,

    with p the progress, w = `warmup_fraction`, d = `decay_fraction`, f = `final_fraction`.
    """

    warmup_fraction: float
    decay_fraction: float = 0.2
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        for name in ("warmup_fraction", "decay_fraction", "final_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must be in [0, 1], not {getattr(self, name)}")
        if self.warmup_fraction + self.decay_fraction > 1:
            raise UserError(
                f"warmup_fraction {self.warmup_fraction} and decay_fraction {self.decay_fraction} add up to "
                "more than 1"
            )

    def phases(self) -> Mapping[str, float]:
        return {"warm-up": self.warmup_fraction, "decay": self.decay_fraction}

    def factor(self, progress: float) -> float:
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup_fraction:
            return progress / self.warmup_fraction
        decaying = progress - (1 - self.decay_fraction)
        if decaying <= 0:
            return 1.0
        return 1 - (1 - self.final_fraction) * math.sqrt(min(decaying / self.decay_fraction, 1.0))


def warmup_fraction(horizon: float | int, *, warmup: float | int = 1000, cap: float = 0.25) -> float:
    """Return the fraction of the horizon spent on warm-up: min(warmup / horizon, cap).

    `horizon` and `warmup` in one unit: steps, or tokens. Default: 1,000 steps, at most 25 % of the run [P?].
    """
    if horizon <= 0 or warmup < 0 or not 0 <= cap < 1:
        raise UserError(f"need horizon > 0, warmup >= 0, cap in [0, 1); got {horizon}, {warmup}, {cap}")
    return min(warmup / horizon, cap)
