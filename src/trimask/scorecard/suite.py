"""The evaluation suites: how many examples each score uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, final

from trimask.errors import UserError

HeldOut = Literal["validation", "test"]
HELD_OUT: Mapping[str, HeldOut] = MappingProxyType({"validation": "validation", "test": "test"})
"""The held-out splits, on which no run is trained."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """Numbers of examples for each score. Both suites use all given judges.

    Attributes:
        num_sequences: examples per task and split, for likelihoods, pictures and captions.
        num_masks: masks per example and NELBO.
        num_clips: generated readings per split.
        num_passages: sampled texts.
        num_choices: questions of the continuation task.
        num_references: maximum number of real pictures to compare sets with, and to fit the linear map of
            caption agreement on.

    Raises:
        UserError: a number below 1.
    """

    name: str
    num_sequences: int
    num_masks: int
    num_clips: int
    num_passages: int
    num_choices: int
    num_references: int

    def __post_init__(self) -> None:
        for field in ("num_sequences", "num_masks", "num_clips", "num_passages", "num_choices"):
            if getattr(self, field) < 1:
                raise UserError(f"{field} is {getattr(self, field)}: give at least 1")


QUICK = Suite(
    name="quick",
    num_sequences=48,
    num_masks=8,
    num_clips=48,
    num_passages=16,
    num_choices=32,
    num_references=400,
)
FULL = Suite(
    name="full",
    num_sequences=200,
    num_masks=8,  # more would hardly help: the remaining variance is between sequences
    num_clips=200,
    num_passages=64,
    num_choices=200,
    num_references=1000,
)
SUITES: Mapping[str, Suite] = MappingProxyType({suite.name: suite for suite in (QUICK, FULL)})
