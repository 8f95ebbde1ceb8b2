"""Which order, grid and count lose how much likelihood, at how many passes?"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float64

from trimask.config import fingerprint
from trimask.errors import UserError
from trimask.sampling.canvas import Canvas
from trimask.sampling.config import SamplerConfig
from trimask.sampling.count import (
    EntropyBound,
    FactorRule,
    FirstHitting,
    FrechetBound,
    StableAndSure,
    Threshold,
)
from trimask.sampling.grid import Cosine, Shifted, Tabulated, TimeGrid, Uniform
from trimask.sampling.likelihood import measure_sampler_likelihood
from trimask.sampling.order import (
    CoarseFirst,
    EvidenceOrder,
    FixedOrder,
    LargestMargin,
    LargestProbability,
    LowestEntropy,
    Random,
)
from trimask.sampling.predictor import DenoiserPredictor
from trimask.sampling.profile import measure_profile
from trimask.studies.findings import Findings
from trimask.studies.model_study import ModelStudy, StudiedRun, draw_held_out, identify_run
from trimask.studies.sampling_findings import LIMIT, MEASURED, PROFILE, report_samplers
from trimask.studies.trial import Factor, Result, trial_name

_MOST_PASSES = 128  # assumed of a count that sets them itself, for the estimate of time [D]
_BATCH = 16


def sampling() -> "Sampling":
    """Which order, grid and count lose how much likelihood, at how many passes? Any trained run.

    By exact likelihood on held-out sequences; ends with the presets fast, balanced and best of each task.
    """
    return Sampling(
        run=identify_run("quickstart"),
        num_sequences=96,
        num_tokens=8000,
        num_levels=65,
        numbers_of_steps=(2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64),
        grids=(Uniform(), Cosine(), Shifted(shift=3.0)),
        fixed_orders=(Random(), CoarseFirst()),
        limit_orders=(Random(), CoarseFirst()),
        evidence_orders=(LowestEntropy(), LargestMargin(), LargestProbability()),
        evidence_steps=(4, 8, 16, 32),
        adaptive=tuple(
            SamplerConfig(order=order, count=count)
            for order, counts in (
                (LowestEntropy(), [EntropyBound(nats=nats) for nats in (0.1, 1.0, 4.0)]),
                (LargestProbability(), [Threshold(probability=p) for p in (0.9, 0.7, 0.5)]),
                (LargestProbability(), [FactorRule(factor=factor) for factor in (1.0, 2.0, 4.0)]),
                (LargestProbability(), [FrechetBound(risk=risk) for risk in (0.5, 2.0, 8.0)]),
                (LargestProbability(), [StableAndSure(probability=p, nats=0.1) for p in (0.9, 0.5)]),
            )
            for count in counts
        ),
    )


def sampling_short() -> "Sampling":
    """The same with about 1,000 target tokens a task, fewer steps and strengths: a first look."""
    return replace(
        sampling(),
        num_sequences=16,
        num_tokens=1000,
        num_levels=33,
        numbers_of_steps=(4, 8, 16, 32),
        grids=(Uniform(), Cosine()),
        limit_orders=(Random(),),
        evidence_steps=(8, 16),
        adaptive=(
            SamplerConfig(order=LowestEntropy(), count=EntropyBound(nats=4.0)),
            SamplerConfig(order=LargestProbability(), count=Threshold(probability=0.5)),
            SamplerConfig(order=LargestProbability(), count=FactorRule(factor=4.0)),
            SamplerConfig(order=LargestProbability(), count=FrechetBound(risk=4.0)),
            SamplerConfig(order=LargestProbability(), count=StableAndSure(probability=0.5, nats=0.1)),
        ),
    )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What a trial measures: the likelihood of held-out sequences under a sampler, or a profile.

    Attributes:
        weights: hash of the model's weights.
        num_sequences: the most sequences.
        num_tokens: target tokens with which fewer sequences are enough.
        num_levels: of the information profile of the sampler's order; 0 for the likelihood.
    """

    weights: str
    task: str
    num_sequences: int
    num_tokens: int
    seed: int
    sampler: SamplerConfig
    num_levels: int = 0


# Not final, so that no configuration can choose it: with a corrector it would be another law.
@dataclass(frozen=True, kw_only=True, slots=True)
class Held(FixedOrder):
    """The order `inner` with the same noise in each pass: without a corrector, the same law.

    Samplers that differ in grid or count then reveal a sequence's slots in the same order, and their
    difference has far less noise.
    """

    inner: FixedOrder

    def rank(self, canvas: Canvas, step: int) -> Float64[np.ndarray, "slots"]:
        return self.inner.rank(canvas, 0)


def hold_order(sampler: SamplerConfig) -> SamplerConfig:
    """Return a sampler of the same law whose fixed order draws its noise once per sequence."""
    if isinstance(sampler.order, FixedOrder) and sampler.corrector is None:
        return replace(sampler, order=Held(inner=sampler.order))
    return sampler


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerTrial:
    """One measurement: the factors that set it apart from the study's others, and all that decides it."""

    factors: Mapping[str, Factor]
    config: Measurement

    @property
    def name(self) -> str:
        return trial_name(self.factors)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.config)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling(ModelStudy[SamplerTrial]):
    """The exact likelihood of samplers, each on the same held-out sequences with the same keys and seed.

    A profile of each fixed order, measured on other held-out sequences, gives the times of the grid
    `measured`. No sampler has filters or guidance: likelihood says nothing of temperatures below 1 and of
    guidance, which need samples and judges.

    Attributes:
        tasks: of the run, by name; empty for all that it was trained on.
        num_sequences, num_tokens: held-out sequences of each task, until they have so many target tokens (at
            least two); as many others for the profile.
        num_levels: of the profile.
        numbers_of_steps, grids, fixed_orders: combined with each other. `CoarseFirst` is left out of tasks
            that generate one codebook.
        limit_orders: also measured revealing one slot per pass.
        evidence_orders, evidence_steps: combined with each other, on the uniform grid.
        adaptive: samplers whose counts set the number of steps.
    """

    run: StudiedRun
    tasks: tuple[str, ...] = ()
    num_sequences: int
    num_tokens: int
    num_levels: int
    numbers_of_steps: tuple[int, ...]
    grids: tuple[TimeGrid, ...]
    fixed_orders: tuple[FixedOrder, ...]
    limit_orders: tuple[FixedOrder, ...]
    evidence_orders: tuple[EvidenceOrder, ...]
    evidence_steps: tuple[int, ...]
    adaptive: tuple[SamplerConfig, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_sequences < 2:
            raise UserError(f"num_sequences is {self.num_sequences}: give at least 2")
        if max(self.numbers_of_steps, default=1) >= self.num_levels:
            raise UserError(
                f"numbers_of_steps has {max(self.numbers_of_steps)}, and num_levels is {self.num_levels}: a "
                "profile of n levels gives grids of at most n - 1 steps"
            )
        for task in self.tasks:
            if task not in self.run.codebooks:
                raise UserError(f"tasks has {task!r}: the run was trained on {', '.join(self.run.codebooks)}")

    def trials(self, results: Mapping[str, Result]) -> tuple[SamplerTrial, ...]:
        tasks = self.tasks or tuple(self.run.codebooks)
        return tuple(trial for task in tasks for trial in self._trials_of(task, results))

    def _trials_of(self, task: str, results: Mapping[str, Result]) -> list[SamplerTrial]:
        found = []
        for order in self.fixed_orders:
            if not self._has_use(order, task):
                continue
            profile = self._trial(task, PROFILE, SamplerConfig(order=order, num_steps=1), self.num_levels)
            grids: dict[str, TimeGrid] = {describe(grid): grid for grid in self.grids}
            if profile.name in results:
                grids[MEASURED] = self._read_grid(results[profile.name])
            found.append(profile)
            found += [
                self._trial(task, rule, SamplerConfig(order=order, grid=grid, num_steps=number))
                for rule, grid in grids.items()
                for number in self.numbers_of_steps
            ]
        found += [
            self._trial(task, LIMIT, SamplerConfig(order=order, count=FirstHitting()))
            for order in self.limit_orders
            if self._has_use(order, task)
        ]
        found += [
            self._trial(task, describe(Uniform()), SamplerConfig(order=order, num_steps=number))
            for order in self.evidence_orders
            for number in self.evidence_steps
        ]
        return found + [self._trial(task, describe(each.count), each) for each in self.adaptive]

    def _has_use(self, order: FixedOrder, task: str) -> bool:
        return self.run.codebooks[task] > 1 or not isinstance(order, CoarseFirst)

    def _trial(self, task: str, rule: str, sampler: SamplerConfig, num_levels: int = 0) -> SamplerTrial:
        steps = {} if num_levels or sampler.num_steps is None else {"steps": sampler.num_steps}
        return SamplerTrial(
            factors={"task": task, "order": describe(sampler.order), "rule": rule, **steps},
            config=Measurement(
                weights=self.run.weights,
                task=task,
                num_sequences=self.num_sequences,
                num_tokens=self.num_tokens,
                seed=self.seed,
                sampler=sampler,
                num_levels=num_levels,
            ),
        )

    def _read_grid(self, profile: Result) -> Tabulated:
        return Tabulated(
            times_of_steps=tuple(
                tuple(profile.figure(f"time/{number}/{k}") for k in range(number + 1))
                for number in sorted(self.numbers_of_steps)
            )
        )

    def measure(self, trial: SamplerTrial, folder: Path, tokens: Path) -> dict[str, float]:
        denoiser, config = self.run.load_denoiser(), trial.config
        predictor, most = DenoiserPredictor(denoiser), config.num_sequences
        drawn = draw_held_out(
            self.run, denoiser.vocabulary, tokens, config.task, number=2 * most, seed=config.seed
        )
        sizes = np.cumsum([each.maskable.sum() for each in drawn[:most]])
        number = min(max(int(np.searchsorted(sizes, config.num_tokens)) + 1, 2), most)
        sampler = hold_order(config.sampler)
        if config.num_levels:
            profile = measure_profile(
                predictor,
                drawn[most : most + number],
                sampler,
                num_levels=config.num_levels,
                seed=config.seed,
                batch_size=_BATCH,
            )
            best = {n: profile.find_best_times(n) for n in self.numbers_of_steps}
            predicted = {f"predicted/{n}": profile.evaluate(times) for n, times in best.items()}
            return predicted | {
                f"time/{n}/{k}": at for n, times in best.items() for k, at in enumerate(times)
            }
        began = time.process_time()
        found = measure_sampler_likelihood(
            predictor, drawn[:number], sampler, seed=config.seed, batch_size=_BATCH
        )
        seconds = time.process_time() - began
        nats = np.sum(list(found.nats.values()), axis=0)
        num_tokens = np.sum(list(found.num_tokens.values()), axis=0)
        positions = np.array([each.num_positions for each in drawn[:number]])
        return {
            "passes": float(found.num_passes.mean()),
            "position_passes_per_token": float((positions * found.num_passes).sum() / num_tokens.sum()),
            "cpu_seconds": round(seconds, 2),
            **{f"nats/{i}": round(float(each), 4) for i, each in enumerate(nats)},
            **{f"tokens/{i}": float(each) for i, each in enumerate(num_tokens)},
        }

    def estimate_cost(self, trial: SamplerTrial) -> int:
        return self._passes(trial) * trial.config.num_sequences

    def describe_work(self, trial: SamplerTrial) -> Mapping[str, int]:
        return {"most_sequences": trial.config.num_sequences, "most_passes": self._passes(trial)}

    def _passes(self, trial: SamplerTrial) -> int:
        if trial.config.num_levels:
            return trial.config.num_levels - 1
        return trial.config.sampler.num_steps or _MOST_PASSES

    def findings(self, results: Sequence[Result]) -> Findings:
        by_name = {result.name: result for result in results}
        trials = self.trials(by_name)
        samplers = {trial.name: trial.config.sampler for trial in trials}
        missing = {str(trial.factors["task"]) for trial in trials if trial.name not in by_name}
        return report_samplers(results, samplers, weights=self.run.weights, unfinished=missing)


def describe(part: Any) -> str:
    """Return the class of a part of a sampler, with the fields that differ from their defaults."""
    given = [
        f"{each.name}={getattr(part, each.name)}"
        for each in fields(part)
        if each.default is MISSING or getattr(part, each.name) != each.default
    ]
    return type(part).__name__ + (f"({', '.join(given)})" if given else "")
