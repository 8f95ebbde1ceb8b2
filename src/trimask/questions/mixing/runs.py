"""What the runs of the study of mixtures measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from trimask.estimate import Estimate
from trimask.studies.fit import fit_additive, fit_differences
from trimask.studies.trial import Result

FITTED, HELD_OUT, ALONE, BEST = "design", "held_out", "alone", "best"
"""Roles of trials: for the laws, to test them, of one task alone, and of the mixture that the laws choose."""

Shares = tuple[float, ...]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Results by role; runs that diverged are left out.

    Attributes:
        tasks: task -> the modality that it generates, in the order of the shares.
        default: the default shares.
    """

    results: Sequence[Result]
    tasks: Mapping[str, str]
    default: Shares

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.tasks.values())

    def of(self, *roles: str) -> list[Result]:
        """Return the finished results of these roles whose losses are finite."""
        return [
            result
            for result in self.results
            if result.factors["role"] in roles
            and all(math.isfinite(result.figure(modality)) for modality in self.modalities)
        ]

    @property
    def num_diverged(self) -> int:
        return len(self.results) - len(self.of(FITTED, HELD_OUT, ALONE, BEST))

    def shares(self, result: Result) -> Shares:
        """Return the shares of the tasks."""
        return tuple(float(result.factors[task]) for task in self.tasks)

    def rows(self, *roles: str) -> dict[tuple[str, Shares], list[Result]]:
        """Return (role, shares) -> results, one per seed."""
        found: dict[tuple[str, Shares], list[Result]] = {}
        for result in self.of(*roles):
            found.setdefault((str(result.factors["role"]), self.shares(result)), []).append(result)
        return found

    def mean(self, results: Sequence[Result], loss: str) -> float:
        """Return the mean of a loss over runs."""
        return float(np.mean([result.figure(loss) for result in results]))

    def adjust(self, results: Sequence[Result], modality: str) -> np.ndarray:
        """Return each run's loss without the level of its seed, which all mixtures share.

        In logarithms loss = m(mixture) + a(seed) + noise: seeds with more runs must not weigh on the mixtures
        that have them.
        """
        effects, _ = self._seed_effects(modality)
        return np.array(
            [result.figure(modality) / math.exp(effects[_seed(result)]) for result in results],
            dtype=np.float64,
        )

    def noise(self, modality: str) -> float | None:
        """Return the relative standard deviation of a run's loss about its mixture's and its seed's level;
        None if no two runs tell.
        """
        return self._seed_effects(modality)[1]

    def changes(
        self, weights: Mapping[str, float], base: tuple[str, Shares]
    ) -> dict[tuple[str, Shares], Estimate]:
        """Return for each mixture by how much Σ weight · log loss, with weights that add up to 1, differs
        from the mixture `base`, paired by seed, the noise pooled over mixtures.
        """
        rows = self.rows(FITTED, HELD_OUT, BEST)
        if base not in rows:
            return {}
        total = sum(weights.values())
        values = [
            {
                _seed(result): sum(w / total * math.log(result.figure(name)) for name, w in weights.items())
                for result in results
            }
            for results in rows.values()
        ]
        return dict(zip(rows, fit_differences(values, list(rows).index(base)), strict=True))

    def _seed_effects(self, modality: str) -> tuple[dict[int, float], float | None]:
        rows = [
            {_seed(result): math.log(result.figure(modality)) for result in results}
            for results in self.rows(FITTED, HELD_OUT, BEST).values()
        ]
        if not rows:
            return {}, None
        means, noise = fit_additive(rows)
        above: dict[int, list[float]] = {}
        for mean, row in zip(means.tolist(), rows, strict=True):
            for seed, value in row.items():
                above.setdefault(seed, []).append(value - mean)
        effects = {seed: float(np.mean(values)) for seed, values in above.items()}
        if noise is None:
            return effects, None
        squares = sum((value - effects[seed]) ** 2 for seed, values in above.items() for value in values)
        return effects, math.sqrt(squares / noise.freedom)


def _seed(result: Result) -> int:
    return int(result.factors["seed"])
