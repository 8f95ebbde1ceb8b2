"""The study of samplers: first by exact likelihood, then by judged samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from trimask.config import to_dict
from trimask.errors import UserError
from trimask.runs.presets import PRESETS, Presets
from trimask.sampling.backends import TORCH
from trimask.sampling.config import SamplerConfig
from trimask.sampling.count import (
    FirstHitting,
)
from trimask.sampling.defaults import OTHER
from trimask.sampling.grid import Tabulated, TimeGrid, Uniform
from trimask.sampling.order import (
    CoarseFirst,
    EvidenceOrder,
    FixedOrder,
)
from trimask.sampling.recompute import Recompute
from trimask.studies.findings import Findings
from trimask.studies.model_study import ModelStudy, StudiedRun
from trimask.studies.trial import Factor, Result
from trimask.tuning.findings import (
    LIMIT,
    LOSSES,
    MEASURED,
    PROFILE,
    choose,
    measure_excess,
    report_samplers,
)
from trimask.tuning.judged import (
    TaskTuning,
    Tuning,
    is_judged,
)
from trimask.tuning.judged_findings import report_tuning
from trimask.tuning.trial import (
    BACKEND,
    Judgement,
    Likelihood,
    Profile,
    SamplerTrial,
    describe,
    is_candidate,
)

_TUNED = "balanced"
"""The preset that is tuned by judged samples; the others take over what was found."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling(ModelStudy[SamplerTrial]):
    """First the exact likelihood of samplers, each on the same held-out sequences with the same keys and
    seed; then `Tuning` of those that it chose, by judged samples.

    A profile of each fixed order, measured on other held-out sequences, gives the times of the grid
    `measured`. In the first stage no sampler has filters or guidance: likelihood says nothing of temperatures
    below 1 and of guidance.

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
        policies: of recomputing, each with the best samplers of these.
        backends: what else computes the predictions of the balanced sampler.
        tuning: None for no second stage.
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
    policies: tuple[Recompute, ...] = ()
    backends: tuple[str, ...] = ()
    tuning: Tuning | None = None
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

    def with_judges(self, words: Sequence[str]) -> "Sampling":
        if self.tuning is None:
            raise UserError("this study has no second stage, which judges: leave --judges out")
        return replace(self, tuning=self.tuning.with_judges(words))

    @property
    def _tasks(self) -> tuple[str, ...]:
        return self.tasks or tuple(self.run.codebooks)

    def trials(self, results: Mapping[str, Result]) -> tuple[SamplerTrial, ...]:
        return tuple(trial for task in self._tasks for trial in self._trials_of(task, results))

    def _trials_of(self, task: str, results: Mapping[str, Result]) -> list[SamplerTrial]:
        found = self._ranked(task, results)
        if any(trial.name not in results for trial in found):
            return found
        chosen = self._choose(found, results)
        found += [
            self._likelihood(task, {**trial.factors, "recompute": describe(policy)}, law)
            for trial in {trial.name: trial for trial in chosen.values()}.values()
            for policy in self.policies
            for law in [replace(trial.config.sampler, recompute=policy)]
        ]
        balanced = chosen[_TUNED]
        found += [
            self._likelihood(task, {**balanced.factors, BACKEND: name}, balanced.config.sampler, name)
            for name in self.backends
        ]
        if any(trial.name not in results for trial in found):
            return found
        tuned = self._tune(task, found, results)
        return found if tuned is None else found + tuned.trials(results)

    def _ranked(self, task: str, results: Mapping[str, Result]) -> list[SamplerTrial]:
        """Return the trials of orders, grids and counts."""
        found: list[SamplerTrial] = []
        for order in self.fixed_orders:
            if not self._has_use(order, task):
                continue
            profile = self._profile(task, order)
            grids: dict[str, TimeGrid] = {describe(grid): grid for grid in self.grids}
            if profile.name in results:
                grids[MEASURED] = self._read_grid(results[profile.name])
            found.append(profile)
            found += [
                self._rank(task, rule, SamplerConfig(order=order, grid=grid, num_steps=number))
                for rule, grid in grids.items()
                for number in self.numbers_of_steps
            ]
        found += [
            self._rank(task, LIMIT, SamplerConfig(order=order, count=FirstHitting()))
            for order in self.limit_orders
            if self._has_use(order, task)
        ]
        found += [
            self._rank(task, describe(Uniform()), SamplerConfig(order=order, num_steps=number))
            for order in self.evidence_orders
            for number in self.evidence_steps
        ]
        return found + [self._rank(task, describe(each.count), each) for each in self.adaptive]

    def _has_use(self, order: FixedOrder, task: str) -> bool:
        return self.run.codebooks[task] > 1 or not isinstance(order, CoarseFirst)

    def _profile(self, task: str, order: FixedOrder) -> SamplerTrial:
        sampler = SamplerConfig(order=order, num_steps=1)
        config = Profile(
            weights=self.run.weights,
            task=task,
            seed=self.seed,
            sampler=sampler,
            most_sequences=self.num_sequences,
            num_tokens=self.num_tokens,
            num_levels=self.num_levels,
            numbers_of_steps=tuple(sorted(self.numbers_of_steps)),
        )
        return SamplerTrial(factors={"task": task, "order": describe(order), "rule": PROFILE}, config=config)

    def _rank(self, task: str, rule: str, sampler: SamplerConfig) -> SamplerTrial:
        steps: dict[str, Factor] = {} if sampler.num_steps is None else {"steps": sampler.num_steps}
        factors = {"task": task, "order": describe(sampler.order), "rule": rule, **steps}
        return self._likelihood(task, factors, sampler)

    def _likelihood(
        self, task: str, factors: Mapping[str, Factor], sampler: SamplerConfig, backend: str = TORCH
    ) -> SamplerTrial:
        config = Likelihood(
            weights=self.run.weights,
            task=task,
            seed=self.seed,
            sampler=sampler,
            most_sequences=self.num_sequences,
            num_tokens=self.num_tokens,
            backend=backend,
        )
        return SamplerTrial(factors=factors, config=config)

    def _read_grid(self, profile: Result) -> Tabulated:
        return Tabulated(
            times_of_steps=tuple(
                tuple(profile.figure(f"time/{number}/{k}") for k in range(number + 1))
                for number in sorted(self.numbers_of_steps)
            )
        )

    def _choose(
        self, trials: Sequence[SamplerTrial], results: Mapping[str, Result]
    ) -> dict[str, SamplerTrial]:
        """Return the sampler of each preset among the likelihoods in `trials`, all of which are measured."""
        by_name = {trial.name: trial for trial in trials if is_candidate(trial)}
        rows = measure_excess(
            [results[name] for name in by_name],
            {name: trial.config.sampler for name, trial in by_name.items()},
        )
        return {name: by_name[choose(rows, loss).result.name] for name, loss in LOSSES.items()}

    def _settle(
        self, task: str, trials: Sequence[SamplerTrial], results: Mapping[str, Result]
    ) -> dict[str, SamplerConfig]:
        """Return the sampler of each preset, with the filters, guidance and lengths of the run.

        A likelihood is of documents whose ends are given. In samples, ends that are surer than words would
        come first and empty a text, so they come last.
        """
        own = self.run.samplers.get(task, OTHER)
        return {
            name: replace(
                law,
                ends_last=law.ends_last or law.may_flood,
                filters=own.filters,
                guidance_scale=own.guidance_scale,
                guidance_ramp=own.guidance_ramp,
                length=own.length,
            )
            for name, trial in self._choose(trials, results).items()
            for law in [trial.config.sampler]
        }

    def _tune(
        self, task: str, trials: Sequence[SamplerTrial], results: Mapping[str, Result]
    ) -> TaskTuning | None:
        """Return the tuning of a task whose likelihoods are all measured; None if it is not tuned."""
        if self.tuning is None or task in self.tuning.list_unjudged([task]):
            return None
        return TaskTuning(
            tuning=self.tuning,
            weights=self.run.weights,
            task=task,
            has_condition=task in self.run.conditional,
            chosen=self._settle(task, trials, results),
            base=_TUNED,
            own=self.run.samplers.get(task, OTHER),
            seed=self.seed,
        )

    def measure(self, trial: SamplerTrial, folder: Path, tokens: Path) -> dict[str, float]:
        return trial.config.measure(self.run, tokens, () if self.tuning is None else self.tuning.judges)

    def estimate_cost(self, trial: SamplerTrial) -> int:
        return trial.config.num_passes * trial.config.num_sequences

    def describe_work(self, trial: SamplerTrial) -> Mapping[str, int]:
        return {"most_sequences": trial.config.num_sequences, "most_passes": trial.config.num_passes}

    def findings(self, results: Sequence[Result]) -> Findings:
        by_name = {result.name: result for result in results}
        trials = self.trials(by_name)
        presets: dict[str, dict[str, SamplerConfig]] = {}
        tuned: list[TaskTuning] = []
        for task in self._tasks:
            of_task = [trial for trial in trials if trial.config.task == task]
            likelihoods = [trial for trial in of_task if not isinstance(trial.config, Judgement)]
            if any(trial.name not in by_name for trial in likelihoods):
                continue
            presets[task] = self._settle(task, likelihoods, by_name)
            tuning = self._tune(task, likelihoods, by_name)
            if tuning is not None:
                tuned.append(tuning)
                presets[task] = tuning.presets(by_name) or presets[task]
        ranked = report_samplers(
            [result for result in results if not is_judged(result)],
            {trial.name: trial.config.sampler for trial in trials},
            unfinished={task for task in self._tasks if task not in presets},
        )
        judged = report_tuning(
            tuned, by_name, {} if self.tuning is None else self.tuning.list_unjudged(self._tasks)
        )
        by_preset = {name: {task: found[name] for task, found in presets.items()} for name in LOSSES}
        chosen = Presets(weights=self.run.weights, presets=by_preset)
        return Findings(
            claims=ranked.claims + judged.claims,
            tables=judged.tables + ranked.tables,
            pictures={**judged.pictures, **ranked.pictures},
            notes=(*ranked.notes, *judged.notes),
            files={PRESETS: to_dict(chosen)} if presets else {},
        )
