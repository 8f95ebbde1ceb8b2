"""The study interface, and the run that all studies vary."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import Field, replace
from pathlib import Path
from typing import Any, ClassVar

from trimask.data.mixture import Component, MixtureConfig
from trimask.data.selection import QuickstartData
from trimask.data.source_names import EMOJI, SPEECHES, SPOKEN
from trimask.model.denoiser import DenoiserConfig
from trimask.model.parametrization import CompletedP
from trimask.recipes.quickstart import quickstart
from trimask.studies.findings import Findings
from trimask.studies.trial import Result, Trial
from trimask.training.corruption import ObjectiveConfig
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import AdamWConfig
from trimask.training.reduction import TokenMean
from trimask.training.run import RunConfig

ALL = "all"
LOSSES = (ALL, "text", "image", "speech")
"""Held-out NELBO of all target tokens together, and of each modality, in bits per token."""


class Study(ABC):
    """A question, the trials that answer it, and the evaluation of their results."""

    __slots__ = ()
    # All studies are dataclasses; their base class may not be.
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    base: RunConfig
    """The run that all trials vary."""

    @abstractmethod
    def trials(self, results: Mapping[str, Result]) -> tuple[Trial, ...]:
        """Return all trials known to be needed, done or not, given `results` (by name). A study that searches
        for an optimum adds trials as results come in.
        """

    @abstractmethod
    def measure(self, trial: Trial, folder: Path, tokens: Path) -> dict[str, float]:
        """Run a trial in `folder`, with the tokens cached in `tokens`; return its metrics."""

    @abstractmethod
    def findings(self, results: Sequence[Result]) -> Findings:
        """Return the findings; results may be incomplete."""


def small_run(*, learning_rate: float) -> RunConfig:
    """Return the run that the studies vary: one task per modality on all of the embedded data, with equal
    shares of target tokens for pictures and speech, and half as much text. The loss is a mean over target
    tokens, like `ALL`: the minimized quantity is the compared one.

    No gradient clipping: it follows no rule, and would change with the batch. Decay and β₂ are [D].
    """
    base = quickstart()
    return replace(
        base,
        model=DenoiserConfig(
            width=64,
            depth=3,
            num_heads=2,
            parametrization=CompletedP(base_width=64, base_depth=3, base_num_heads=2),
        ),
        data=QuickstartData(),
        mixture=MixtureConfig(
            components=(
                Component(source=EMOJI, task="text_to_image", weight=0.4),
                Component(source=SPOKEN, task="text_to_speech", weight=0.4),
                Component(source=SPEECHES, task="text", weight=0.2),
            )
        ),
        optimizer=AdamWConfig(learning_rate=learning_rate, weight_decay=0.1, beta2=0.98, clip_norm=None),
        objective=ObjectiveConfig(reduction=TokenMean()),
        lr_schedule=WarmupCosine(warmup_fraction=0.1, final_fraction=0.02),
        logical_batch=16,
        num_steps=1000,
    )
