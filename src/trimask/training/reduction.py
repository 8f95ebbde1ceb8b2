"""What the NELBO of an update is divided by: constants of the run, so that the gradient of an update is a
plain mean over its sequences, and unbiased at any batch.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

Targets = tuple[float, ...]
"""Target tokens of a sequence in expectation over the mixture, per modality in the vocabulary's order, the
end frames of its spans among them: `TrainingStream.target_tokens`.
"""


class Reduction(ABC):
    """How much a target token of each modality weighs in the training loss.

    The loss of N sequences is 1/N Σ_sequences Σ_m NELBO_m / divisor_m [D]. A ratio of sums, over the targets
    that an update happens to have, would be biased, and not the mean of its parts.
    """

    @abstractmethod
    def divisors(self, targets: Targets) -> tuple[float, ...]:
        """Of the NELBO of each modality in nats per sequence; infinite for one that has no targets."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TokenMean(Reduction):
    """The mean over target tokens: a token is a token, whatever its modality [D]. So the shares of the
    mixture are the weights of tasks and modalities.
    """

    def divisors(self, targets: Targets) -> tuple[float, ...]:
        total = sum(targets)
        return (total,) * len(targets)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ModalityMeans(Reduction):
    """The mean over modalities of the mean over the target tokens of each [D]: all that the mixture generates
    weigh the same together. Its weights then only tell apart tasks and sources of one modality.
    """

    def divisors(self, targets: Targets) -> tuple[float, ...]:
        present = sum(count > 0 for count in targets)
        return tuple(present * count if count > 0 else math.inf for count in targets)
