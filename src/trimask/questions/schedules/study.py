"""Which noise schedule, and which weight of the loss, gives the lowest bound at equal updates?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np

from trimask.data.stream import TrainingStream
from trimask.diffusion.schedule import Cosine, Geometric, LogLinear, Polynomial
from trimask.errors import UserError
from trimask.questions.schedules.arms import EARLY, FINAL, OPTIMAL, Arm
from trimask.questions.schedules.findings import Comparison, measured_density
from trimask.questions.schedules.profile import Profile, measure_profile, optimal_density
from trimask.questions.schedules.samples import measure_samples
from trimask.studies.findings import Findings
from trimask.studies.gradients import draw_by_modality, train_partly
from trimask.studies.pretraining import evaluate_held_out, evaluate_mask_ratios, train
from trimask.studies.study import Study, small_run
from trimask.studies.trial import Result, Trial
from trimask.training.modalities import ModalityConfig
from trimask.training.run import RunConfig
from trimask.training.step import DenoiserStep
from trimask.training.weighting import Unweighted


def schedules() -> "Schedules":
    """Which noise schedule, and which weight of the loss, gives the lowest bound at equal updates?

    Six bounds, one of them with the measured density of least gradient variance, and the unweighted masked
    mean with linear and cosine ratios: 1,000 updates of 16 sequences each, two seeds; about an hour
    of one core.
    """
    return Schedules(
        base=small_run(learning_rate=2.0**-7),
        arms={
            "linear": Arm(),
            "cosine": Arm(schedule=Cosine()),
            "polynomial": Arm(schedule=Polynomial(exponent=2.0)),
            "geometric": Arm(schedule=Geometric()),
            "log-linear": Arm(schedule=LogLinear()),
            "unweighted-linear": Arm(weighting=Unweighted()),
            "unweighted-cosine": Arm(schedule=Cosine(), weighting=Unweighted()),
        },
        reference="linear",
        seeds=(0, 1),
    )


def schedules_short() -> "Schedules":
    """The same in minutes: 150 updates, one seed, without samples and the geometric and log-linear arms."""
    full = schedules()
    return replace(
        full,
        base=replace(full.base, num_steps=150),
        arms={name: arm for name, arm in full.arms.items() if name not in ("geometric", "log-linear")},
        seeds=(0,),
        num_sequences=8,
        num_samples=0,
    )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Schedules(Study):
    """Runs that differ in the distribution of mask ratios and in the weight of the loss, evaluated by one and
    the same bound. In the reference arm, the noise of the gradient is measured by mask ratio at two
    checkpoints; from it follow the variance under each arm, and the density of least variance, an arm of its
    own.
    """

    base: RunConfig
    arms: dict[str, Arm]
    """By name; `Bound` arms optimize the same quantity, others do not."""
    reference: str
    """The arm that others are compared with."""
    seeds: tuple[int, ...]
    early: float = 0.1
    """The early checkpoint, as a fraction of the updates."""
    num_strata: int = 12
    """Intervals of mask ratios in which gradients are measured, and the optimal density is constant."""
    num_sequences: int = 24
    """Sequences of each modality whose gradients are measured."""
    ratios: tuple[float, ...] = (1.0, 0.5, 0.1)
    """Mask ratios at which the held-out cross-entropy is evaluated."""
    num_samples: int = 64
    """Samples of each modality that are compared with held-out originals; 0 for none."""
    num_steps: int = 32
    """Steps of the plain sampler that draws them."""

    def __post_init__(self) -> None:
        if self.reference not in self.arms or not self.arms[self.reference].is_bound:
            raise UserError(f"reference {self.reference!r}: name one of the arms that train on the bound")
        if OPTIMAL in self.arms:
            raise UserError(f"arms.{OPTIMAL}: the study measures this arm itself: choose another name")
        if not 0 < self.early < 1:
            raise UserError(f"early is {self.early}: give a fraction of the updates between 0 and 1")
        if self.num_samples == 1 or self.num_samples < 0:
            raise UserError(f"num_samples is {self.num_samples}: give at least 2, or 0 for none")
        if self.num_sequences < 4:
            raise UserError(f"num_sequences is {self.num_sequences}: give at least 4, for intervals")

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the mixture generates."""
        used = {component.task for component in self.base.mixture.components}
        targets = {m for task in self.base.tasks if task.name in used for m in task.targets}
        return tuple(sorted(targets))

    def trials(self, results: Mapping[str, Result]) -> tuple[Trial, ...]:
        arms = dict(self.arms)
        first = results.get(self._trial(self.reference, self.arms[self.reference], self.seeds[0]).name)
        optimal = None if first is None else self._optimal(first)
        if optimal is not None:
            arms[OPTIMAL] = optimal
        return tuple(self._trial(name, arm, seed) for seed in self.seeds for name, arm in arms.items())

    def measure(self, trial: Trial, folder: Path, tokens: Path) -> dict[str, float]:
        figures: dict[str, float] = {}
        config = trial.config
        if trial.factors["arm"] == self.reference:
            begun = max(1, round(self.early * config.num_updates))
            figures |= self._measure_noise(*train_partly(config, tokens, num_updates=begun), EARLY)
        step, stream = train(config, folder, tokens)
        if trial.factors["arm"] == self.reference:
            figures |= self._measure_noise(step, stream, FINAL)
        figures |= evaluate_held_out(config, step.denoiser, tokens)
        figures |= evaluate_mask_ratios(config, step.denoiser, tokens, self.ratios)
        if self.num_samples:
            figures |= measure_samples(
                config, step.denoiser, tokens, number=self.num_samples, num_steps=self.num_steps
            )
        return figures

    def findings(self, results: Sequence[Result]) -> Findings:
        return Comparison(
            base=self.base,
            arms=self.arms,
            reference=self.reference,
            modalities=self.modalities,
            ratios=self.ratios,
            num_strata=self.num_strata,
            results=tuple(results),
        ).findings()

    def _trial(self, name: str, arm: Arm, seed: int) -> Trial:
        rows = {
            modality: replace(self.base.modalities.get(modality, ModalityConfig()), schedule=arm.of(modality))
            for modality in self.modalities
        }
        return Trial(
            factors={"arm": name, "seed": seed},
            config=replace(
                self.base,
                modalities={**self.base.modalities, **rows},
                objective=replace(self.base.objective, weighting=arm.weighting),
                seed=seed,
            ),
        )

    def _measure_noise(self, step: DenoiserStep, stream: TrainingStream, when: str) -> dict[str, float]:
        """Return what a profile of each modality tells: moments by stratum, the share of the mean gradient,
        and the variance of each bound arm relative to the reference's, with standard errors.
        """
        figures: dict[str, float] = {}
        for modality, sequences in draw_by_modality(stream, number=self.num_sequences).items():
            profile = measure_profile(step.denoiser, sequences, seed=0, num_strata=self.num_strata)
            own = self.arms[self.reference].of(modality)
            base = profile.variance(own)
            figures |= {f"moment/{when}/{modality}/{j}": float(v) for j, v in enumerate(profile.moments())}
            mean, second = profile.squared_mean.mean(), profile.second_moment(own).mean()
            figures[f"mean/{when}/{modality}"] = float(mean / second)
            found = {
                name: profile.variance(arm.of(modality)) for name, arm in self.arms.items() if arm.is_bound
            }
            for name, variance in {**found, OPTIMAL: _optimal_variance(profile)}.items():
                value, error = _ratio(variance, base)
                figures[f"variance/{when}/{name}/{modality}"] = value
                figures[f"variance_error/{when}/{name}/{modality}"] = error
        return figures

    def _optimal(self, result: Result) -> Arm | None:
        """Return the arm of least variance at the reference's final weights; None if they diverged."""
        found = {m: measured_density(result, FINAL, m, num_strata=self.num_strata) for m in self.modalities}
        chosen = {modality: density for modality, density in found.items() if density is not None}
        own = self.arms[self.reference]
        return replace(own, modalities={**own.modalities, **chosen}) if chosen else None


def _optimal_variance(profile: Profile) -> np.ndarray:
    """Return the variance of each sequence under the density that the other half of them chose."""
    half = np.arange(len(profile.ratio)) % 2 == 0
    found = np.zeros(len(half))
    for chosen in (half, ~half):
        density = optimal_density(profile.edges.tolist(), profile.of(chosen).moments().tolist())
        found[~chosen] = profile.of(~chosen).variance(density)
    return found


def _ratio(values: np.ndarray, base: np.ndarray) -> tuple[float, float]:
    """Return Σ values / Σ base, and its standard error over sequences (delta method)."""
    ratio = float(values.sum() / base.sum())
    spread = float(((values - ratio * base) ** 2).sum())
    return ratio, math.sqrt(spread / (len(base) * (len(base) - 1))) / float(base.mean())
