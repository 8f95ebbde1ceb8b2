"""The evaluation suites: how much of everything is measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, final

from trimask.errors import UserError

HeldOut = Literal["validation", "test"]
HELD_OUT: Mapping[str, HeldOut] = MappingProxyType({"validation": "validation", "test": "test"})
"""The splits that no run is trained on."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """How many examples each score is over. Both suites ask all judges that they are given.

    Attributes:
        num_sequences: examples per task and split, for likelihoods, pictures and captions.
        num_masks: masks per example and NELBO.
        num_clips: generated readings per split.
        num_passages: sampled texts.
        num_choices: questions of the continuation task.
        num_references: real pictures that sets of pictures are compared with, and that the map of caption
            agreement is fitted on, at most.
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
    num_masks=8,  # more would tell little: what is left is the spread between sequences
    num_clips=200,
    num_passages=64,
    num_choices=200,
    num_references=1000,
)
SUITES: Mapping[str, Suite] = MappingProxyType({suite.name: suite for suite in (QUICK, FULL)})
