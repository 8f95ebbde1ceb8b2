"""Divisors of an update's NELBO: constants of the run, so that the gradient is a plain mean over sequences,
unbiased at any batch.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

Targets = tuple[float, ...]
"""Expected target tokens of a sequence under the mixture, per modality in the vocabulary's order, including
end frames: `TrainingStream.target_tokens`.
"""


class Reduction(ABC):
    """Weight of a target token of each modality in the training loss.

    The loss of N sequences is 1/N Σ_sequences Σ_m NELBO_m / divisor_m [D]. A ratio of sums over an update's
    actual targets would be biased, and not the mean of its parts.
    """

    @abstractmethod
    def divisors(self, targets: Targets) -> tuple[float, ...]:
        """Return the divisor of each modality's NELBO (nats per sequence); infinite for one without
        targets."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TokenMean(Reduction):
    """The mean over target tokens of all modalities alike [D]: the mixture's shares are the weights of tasks
    and modalities.
    """

    def divisors(self, targets: Targets) -> tuple[float, ...]:
        total = sum(targets)
        return (total,) * len(targets)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ModalityMeans(Reduction):
    """The mean over modalities of the mean over each one's target tokens [D]: all modalities weigh the same.
    The mixture's weights then only balance tasks and sources within a modality.
    """

    def divisors(self, targets: Targets) -> tuple[float, ...]:
        present = sum(count > 0 for count in targets)
        return tuple(present * count if count > 0 else math.inf for count in targets)
