"""How each modality of a run is laid out, masked and weighted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

from trimask.diffusion.schedule import Linear, Schedule
from trimask.errors import UserError
from trimask.vocabulary.codebooks import CodebookLayout, Flattened
from trimask.vocabulary.layout import Vocabulary


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ModalityConfig:
    """The row of a modality.

    Attributes:
        layout: how its codebooks map to transformer positions.
        schedule: the distribution of mask ratios [P: schedules are studied; D: per modality].
        weight: factor of its training loss.
        codebook_weights: additional factors per codebook, coarse to fine; empty for 1 each.

    Raises: UserError for a factor that is negative or not finite.
    """

    layout: CodebookLayout = Flattened()
    schedule: Schedule = Linear()
    weight: float = 1.0
    codebook_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not all(0 <= factor < math.inf for factor in (self.weight, *self.codebook_weights)):
            raise UserError(
                f"weight {self.weight} and codebook_weights {self.codebook_weights} must be finite and at "
                "least 0"
            )


Modalities = Mapping[str, ModalityConfig]
"""The row of each modality by name; `ModalityConfig()` by default."""

NO_ROWS: Modalities = MappingProxyType({})


def rows_of(modalities: Modalities, vocabulary: Vocabulary) -> list[ModalityConfig]:
    """Return the row of each modality of `vocabulary`, in its order.

    Raises:
        UserError: a row names no modality of the vocabulary, or its number of codebook weights differs from
            the codebooks.
    """
    for name, row in modalities.items():
        count = vocabulary.space(name).num_codebooks
        if row.codebook_weights and len(row.codebook_weights) != count:
            raise UserError(
                f"codebook_weights has {len(row.codebook_weights)} for {name}, {row.codebook_weights}: "
                f"give {count}, one for each codebook, or none"
            )
    return [modalities.get(name, ModalityConfig()) for name in vocabulary.modalities]


def range_weights(modalities: Modalities, vocabulary: Vocabulary) -> list[float]:
    """Return the factor of each codebook range of `vocabulary`."""
    weights: list[float] = []
    for row, space in zip(rows_of(modalities, vocabulary), vocabulary.spaces, strict=True):
        weights += row.codebook_weights or [1.0] * space.num_codebooks
    return weights


def token_weights(modalities: Modalities, vocabulary: Vocabulary, divisors: Sequence[float]) -> list[float]:
    """Return how much a nat of each modality adds to the loss of one sequence (`Reduction.divisors`)."""
    rows = rows_of(modalities, vocabulary)
    return [row.weight / divisor for row, divisor in zip(rows, divisors, strict=True)]
