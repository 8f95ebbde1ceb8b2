"""A run of a study, and its result."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, final, runtime_checkable

from trimask.config import fingerprint
from trimask.training.compute import ComputeConfig
from trimask.training.run import RunConfig

Factor = str | int | float


def trial_name(factors: Mapping[str, Factor]) -> str:
    """Format the name of a trial and its result: `width=64,rate=0.5,seed=0`."""
    return ",".join(f"{name}={value}" for name, value in factors.items())


@runtime_checkable
class AnyTrial(Protocol):
    """What sets a trial apart from the study's others, and a fingerprint of all that decides its result."""

    @property
    def factors(self) -> Mapping[str, Factor]: ...

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One run: the factors that set it apart from the study's others, and its whole configuration."""

    factors: Mapping[str, Factor]
    config: RunConfig
    settings: str = ""
    """Fingerprint of what decides the result besides the configuration, such as how it is measured."""

    @property
    def name(self) -> str:
        return trial_name(self.factors)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the configuration without `compute`, and of the settings."""
        return fingerprint(replace(self.config, compute=ComputeConfig())) + self.settings


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """The result of a trial. Non-finite figures are None: all of them if the run diverged."""

    factors: Mapping[str, Factor]
    fingerprint: str
    seconds: float
    figures: Mapping[str, float | None]

    @property
    def name(self) -> str:
        return trial_name(self.factors)

    def figure(self, name: str) -> float:
        """Return a figure, infinite if the run diverged."""
        value = self.figures.get(name)
        return math.inf if value is None else value
