"""A run of a study, and what came out of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

from trimask.config import fingerprint
from trimask.training.compute import ComputeConfig
from trimask.training.run import RunConfig

Factor = str | int | float


def trial_name(factors: Mapping[str, Factor]) -> str:
    """`width=64,rate=0.5,seed=0`: what names a trial and its result within a study."""
    return ",".join(f"{name}={value}" for name, value in factors.items())


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One run: what it differs in from the study's others, and the whole configuration that follows."""

    factors: Mapping[str, Factor]
    config: RunConfig

    @property
    def name(self) -> str:
        return trial_name(self.factors)

    @property
    def fingerprint(self) -> str:
        """Of the configuration, whatever it is computed on."""
        return fingerprint(replace(self.config, compute=ComputeConfig()))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a trial gave. Figures are None where they are not finite: of a run that diverged, all are."""

    factors: Mapping[str, Factor]
    fingerprint: str
    seconds: float
    figures: Mapping[str, float | None]

    @property
    def name(self) -> str:
        return trial_name(self.factors)

    def figure(self, name: str) -> float:
        """A figure, infinite where the run diverged."""
        value = self.figures.get(name)
        return math.inf if value is None else value
