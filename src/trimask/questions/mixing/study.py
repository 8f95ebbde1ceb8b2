"""Which shares of text, pictures and speech are best, and does it help to train them together?"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

import numpy as np

from trimask.data.mixture import Component, MixtureConfig, sequence_shares, target_tokens
from trimask.errors import UserError
from trimask.laws.mixing import Additive, Exponential
from trimask.laws.mixing_law import MixingLaw, add_up
from trimask.questions.mixing.answer import Answer, answer
from trimask.questions.mixing.joint_and_alone import compare_with_alone
from trimask.questions.mixing.report import mixing_findings
from trimask.questions.mixing.runs import ALONE, BEST, FITTED, HELD_OUT, Measured
from trimask.runs.prepared import with_prepared
from trimask.runs.sizes import SourceSize, counted_sizes
from trimask.studies.findings import Findings
from trimask.studies.pretraining import evaluate_held_out, train
from trimask.studies.study import Study, check_seeds, small_run
from trimask.studies.tokens import load_sources, load_tokenizers
from trimask.studies.trial import Factor, Result, Trial
from trimask.training.run import RunConfig

_DIGITS = 4  # of the shares in the names of trials
NUM_DRAWS = 1000
"""Draws of the laws, for intervals."""

_TASKS = ("text", "text_to_image", "text_to_speech")
# The lattice of thirds moved inwards: near each corner, along each side, between each corner and the middle.
_LATTICE = (
    (0.90, 0.05, 0.05),
    (0.05, 0.90, 0.05),
    (0.05, 0.05, 0.90),
    (0.64, 0.34, 0.02),
    (0.34, 0.64, 0.02),
    (0.64, 0.02, 0.34),
    (0.34, 0.02, 0.64),
    (0.02, 0.64, 0.34),
    (0.02, 0.34, 0.64),
    (0.50, 0.25, 0.25),
    (0.25, 0.50, 0.25),
    (0.25, 0.25, 0.50),
)
_HELD_OUT = ((0.48, 0.40, 0.12), (0.12, 0.48, 0.40), (0.40, 0.12, 0.48))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Alone:
    """A run of one task with `share` ** `updates` times the updates of the joint run, and `share` ** `batch`
    times its target tokens per update; share is the task's in the joint run. If both add up to 1, it has as
    many target tokens of the task as the joint run; if they are 0, as many as the joint run has of all.
    """

    updates: float = 0.0
    batch: float = 0.0


def mixing() -> "Mixing":
    """Which shares of text, pictures and speech are best, and does it help to train them together?

    12 mixtures beside equal shares, and 3 to test the laws; each task alone; the best mixture by the laws.
    """
    small = small_run(learning_rate=2.0**-6)
    components = tuple(replace(component, weight=1.0) for component in small.mixture.components)
    return Mixing(
        base=replace(small, num_steps=500, mixture=replace(small.mixture, components=components)),
        tasks=_TASKS,
        mixtures=_LATTICE,
        held_out=_HELD_OUT,
        alone={
            "fewer updates": Alone(updates=1.0),
            "smaller batches": Alone(batch=1.0),
            "equal tokens in all": Alone(),
        },
        laws=(Exponential(parts=_TASKS), Additive(parts=_TASKS)),
        priorities={"text": 1.0, "image": 1.0, "speech": 1.0},
        seeds=(0, 1),
        default_seeds=(0, 1, 2),
    )


def mixing_short() -> "Mixing":
    """The same in minutes: runs of a quarter, one seed, two of equal shares and of each task alone."""
    full = mixing()
    return replace(full, base=replace(full.base, num_steps=120), seeds=(0,), default_seeds=(0, 1))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Mixing(Study):
    """Runs that differ in the shares of target tokens of `tasks`. All have as many target tokens as the base,
    in updates of as many as the base's, as far as whole sequences allow: the batch in sequences and the
    number of updates follow from the data. All are evaluated on the same held-out rows with the same masks,
    those of the base's mixture.

    The default mixture is the base's; several sources of a task keep their relative weights.
    """

    base: RunConfig
    tasks: tuple[str, ...]
    """The tasks that have shares, each of another modality."""
    mixtures: tuple[tuple[float, ...], ...]
    """Shares of `tasks` that the laws are fitted to, beside the default."""
    held_out: tuple[tuple[float, ...], ...]
    """Shares that test the laws."""
    alone: dict[str, Alone] = field(default_factory=dict)
    """Runs of each task alone, by name."""
    laws: tuple[MixingLaw, ...]
    """The laws to fit, with `tasks` as their parts; each loss takes the one that errs least where it was not
    fitted."""
    priorities: dict[str, float]
    """Weight of the relative loss of each modality in what the best mixture minimizes."""
    seeds: tuple[int, ...]
    default_seeds: tuple[int, ...]
    """Seeds of the default mixture, of each task alone and of the best mixture, which are compared."""
    trust: float = 0.2
    """The largest divergence of the best mixture from the default, in nats."""
    most_epochs: float = 4.0
    """How often the best mixture may see a task's data [L: 4 epochs cost little, Muennighoff et al. 2023]."""

    def __post_init__(self) -> None:
        targets = [self._target(task) for task in self.tasks]
        if None in targets or len(set(targets)) < len(targets):
            raise UserError(
                f"tasks {', '.join(self.tasks)}: give tasks of one modality each, of different ones"
            )
        if set(self.priorities) != set(targets):
            raise UserError(
                f"priorities name {', '.join(self.priorities)}: give {', '.join(map(str, targets))}"
            )
        if min(self.priorities.values()) < 0 or not sum(self.priorities.values()) > 0:
            raise UserError(f"priorities {dict(self.priorities)}: give none below 0, and one above it")
        if not (self.trust > 0 and self.most_epochs > 0):
            raise UserError(f"trust {self.trust:g}, most_epochs {self.most_epochs:g}: must be above 0")
        if others := sorted({c.task for c in self.base.mixture.components} ^ set(self.tasks)):
            raise UserError(
                f"the base's mixture and the tasks must have the same tasks, not {', '.join(others)}"
            )
        for name, rows in (("mixtures", self.mixtures), ("held_out", self.held_out)):
            for number, row in enumerate(rows):
                if len(row) != len(self.tasks) or min(row) <= 0 or not add_up(np.array([row]))[0]:
                    raise UserError(
                        f"{name}.{number} is {row}: give a share above 0 for each of "
                        f"{', '.join(self.tasks)}, adding up to 1; each task alone is run besides"
                    )
        for law in self.laws:
            if law.parts != self.tasks:
                raise UserError(
                    f"a law has the parts {', '.join(law.parts)}: give it {', '.join(self.tasks)}"
                )
        if self.base.physical_batch is not None:
            raise UserError("the study sets each mixture's batch: leave base.physical_batch out")

    def check(self) -> None:
        Study.check(self)
        check_seeds("default_seeds", self.default_seeds)

    @property
    def modalities(self) -> dict[str, str]:
        """Task -> the modality that it generates."""
        return {task: str(self._target(task)) for task in self.tasks}

    @property
    def default(self) -> tuple[float, ...]:
        """The base's shares of `tasks`."""
        components = self.base.mixture.components
        total = sum(component.weight for component in components)
        return tuple(
            round(sum(c.weight for c in components if c.task == task) / total, _DIGITS) for task in self.tasks
        )

    def with_data(self, folders: Sequence[Path]) -> "Mixing":
        base = with_prepared(self.base, folders)
        components = tuple(c for c in base.mixture.components if c.task in self.tasks)
        missing = sorted(set(self.tasks) - {component.task for component in components})
        if missing:
            raise UserError(
                f"the data has nothing for {', '.join(missing)}: prepare some, or write a study without"
            )
        return replace(self, base=replace(base, mixture=replace(base.mixture, components=components)))

    def trials(self, results: Mapping[str, Result]) -> tuple[Trial, ...]:
        planned = tuple(self._planned())
        if any(trial.name not in results for trial in planned):
            return planned
        found = self._answer([results[trial.name] for trial in planned], num_draws=0)
        if found.best is None:
            return planned
        shares = tuple(round(share.value, 2) for share in found.best.shares.values())
        rest = round(1 - sum(shares[:-1]), 2)
        return (*planned, *(self._trial(BEST, (*shares[:-1], rest), seed) for seed in self.default_seeds))

    def measure(self, trial: Trial, folder: Path, tokens: Path) -> dict[str, float]:
        sources = load_sources(trial.config, load_tokenizers(trial.config), "train", tokens)
        sizes = counted_sizes(sources, trial.config.mixture.group_exponent)
        config = self.equalize(trial, sizes)
        step, _ = train(config, folder, tokens)
        # By the base's mixture: the rows must not depend on what is compared.
        return evaluate_held_out(self.base, step.denoiser, tokens) | self._describe(config, sizes)

    def findings(self, results: Sequence[Result]) -> Findings:
        laws = mixing_findings(self._answer(results), self._measured(results))
        together = compare_with_alone(
            self._measured(results), {name: (arm.updates, arm.batch) for name, arm in self.alone.items()}
        )
        return Findings(
            claims=(*laws.claims, *together.claims),
            tables=(*laws.tables, *together.tables),
            pictures=laws.pictures,
            notes=(*laws.notes, *together.notes),
            files=laws.files,
        )

    def estimate_cost(self, trial: Trial) -> int:
        ratio = float(trial.factors["updates"]) * float(trial.factors["batch"])
        return math.ceil(Study.estimate_cost(self, trial) * ratio)

    def describe_work(self, trial: Trial) -> Mapping[str, int]:
        return {"updates": round(trial.config.num_updates * float(trial.factors["updates"]))}

    def equalize(self, trial: Trial, sizes: Mapping[str, SourceSize]) -> RunConfig:
        """Return the trial's run with the batch and the number of updates that give it its target tokens,
        given the `sizes` of the sources.
        """
        config, views = trial.config, trial.config.objective.num_views
        per_update = self.base.logical_batch * mean_targets(self.base, sizes) * float(trial.factors["batch"])
        total = per_update * self.base.num_steps * float(trial.factors["updates"])
        mean = mean_targets(config, sizes)
        batch = views * max(round(per_update / mean / views), 1)
        return replace(config, logical_batch=batch, num_steps=max(round(total / mean / batch), 1))

    def _planned(self) -> Iterator[Trial]:
        for seed in sorted({*self.seeds, *self.default_seeds}):
            yield self._trial(FITTED, self.default, seed)
            if seed in self.seeds:
                others = dict.fromkeys(row for row in self.mixtures if row != self.default)
                yield from (self._trial(FITTED, row, seed) for row in others)
                yield from (self._trial(HELD_OUT, row, seed) for row in self.held_out)
            if seed in self.default_seeds:
                for number, share in enumerate(self.default):
                    corner = tuple(float(place == number) for place in range(len(self.tasks)))
                    for arm in dict.fromkeys(self.alone.values()):
                        yield self._trial(ALONE, corner, seed, share**arm.updates, share**arm.batch)

    def _trial(
        self, role: str, shares: Sequence[float], seed: int, updates: float = 1.0, batch: float = 1.0
    ) -> Trial:
        factors: dict[str, Factor] = {
            "role": role,
            **{task: float(share) for task, share in zip(self.tasks, shares, strict=True)},
            "updates": round(updates, _DIGITS),
            "batch": round(batch, _DIGITS),
            "seed": seed,
        }
        mixture = replace(self.base.mixture, components=tuple(self._components(shares)))
        return Trial(factors=factors, config=replace(self.base, mixture=mixture, seed=seed))

    def _components(self, shares: Sequence[float]) -> Iterator[Component]:
        components = self.base.mixture.components
        given = dict(zip(self.tasks, shares, strict=True))
        for component in components:
            whole = sum(other.weight for other in components if other.task == component.task)
            if given[component.task] > 0:
                yield replace(component, weight=given[component.task] * component.weight / whole)

    def _describe(self, config: RunConfig, sizes: Mapping[str, SourceSize]) -> dict[str, float]:
        """Return what was held fixed, and how often each task's data was seen."""
        total = config.horizon * mean_targets(config, sizes)
        tasks = {task.name: task for task in config.tasks}
        weights = sum(component.weight for component in config.mixture.components)
        figures = {
            "target_tokens": total,
            "num_updates": float(config.num_updates),
            "tokens_per_update": total / config.num_updates,
        }
        for name in self.tasks:
            own = [component for component in config.mixture.components if component.task == name]
            known = [sizes[component.source].codes for component in own]
            there = sum(target_tokens(tasks[name], codes) for codes in known if codes is not None)
            if own and there and None not in known:
                figures[f"epochs/{name}"] = sum(c.weight for c in own) / weights * total / there
        return figures

    def _measured(self, results: Sequence[Result]) -> Measured:
        return Measured(results=tuple(results), tasks=self.modalities, default=self.default)

    def _answer(self, results: Sequence[Result], *, num_draws: int | None = None) -> Answer:
        return answer(
            self._measured(results),
            laws=self.laws,
            priorities=self.priorities,
            trust=self.trust,
            most_epochs=self.most_epochs,
            num_draws=NUM_DRAWS if num_draws is None else num_draws,
        )

    def _target(self, task: str) -> str | None:
        found = {each.name: each for each in self.base.tasks}
        if task not in found:
            raise UserError(f"tasks: there is no {task}, only {', '.join(found)}")
        return found[task].target


def mean_targets(config: RunConfig, sizes: Mapping[str, SourceSize]) -> float:
    """Return the mean target tokens of a sequence of the run's mixture."""
    mixture: MixtureConfig = config.mixture
    tasks = {task.name: task for task in config.tasks}
    means = {component.source: sizes[component.source].mean_codes for component in mixture.components}
    shares = sequence_shares(mixture.components, means, config.tasks)
    return sum(
        float(share) * target_tokens(tasks[component.task], means[component.source])
        for share, component in zip(shares, mixture.components, strict=True)
    )
