"""How does the held-out loss of each modality fall with the network's size and the length of training?"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from trimask.errors import UserError
from trimask.laws.fitting import DRAWS, Fit
from trimask.model.flops import block_parameters, count_parameters
from trimask.planning.workload import workload
from trimask.questions.scaling.fits import (
    CEILING,
    DATA,
    EPOCHS,
    FLOPS,
    SIZE,
    TARGETS,
    Fitted,
    find_done,
    fit_bounded,
    fit_losses,
)
from trimask.questions.scaling.forecast import (
    Run,
    compare_forecasts,
    has_forecast,
    make_forecast,
    name_forecast,
)
from trimask.questions.scaling.order import rank_runs
from trimask.questions.scaling.repeats import Sources, find_unique, fit_repeats
from trimask.questions.scaling.runs import report_runs
from trimask.runs.build import build_vocabulary
from trimask.studies.findings import Findings
from trimask.studies.known import NOTHING, Known
from trimask.studies.pretraining import evaluate_held_out, train
from trimask.studies.study import Study, small_run
from trimask.studies.tokens import load_tokenizers
from trimask.studies.trial import Result, Trial
from trimask.training.logical_batch import KappaRule, Tuned
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import Vocabulary

_REPEATS = "repeated-data"


def scaling() -> "Scaling":
    """How does each modality's loss fall with parameters and data, and what is the best size for a compute?

    Widths 32 to 192 (40 thousand to 1.4 million parameters in blocks), 500 to 16,000 sequences, two seeds:
    about 1.5 hours of one core. Then one run of 4 times the largest size and length, whose losses are
    forecast before: about 1.5 hours more (--forecast none leaves it out).
    """
    return Scaling(
        base=small_run(learning_rate=2.0**-6),
        widths=(32, 64, 96, 128, 192),
        horizons=(500, 1000, 2000, 4000, 8000, 16_000),
        seeds=(0, 1),
        forecast=Setting(width=384, horizon=64_000),
    )


def scaling_short() -> "Scaling":
    """The same in minutes: widths 32 to 128, 500 to 4,000 sequences, one seed: too little for a law."""
    full = scaling()
    return replace(
        full,
        widths=(32, 64, 128),
        horizons=(500, 1000, 2000, 4000),
        seeds=(0,),
        forecast=Setting(width=192, horizon=8000),
        held_out=256,
    )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A size and a length: the width of the network, and the horizon in sequences."""

    width: int
    horizon: int


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Scaling(Study):
    """Every width at every horizon. Sizes differ by width alone, at the base's depth and head dimension: that
    is the transfer by Complete(d)P that `lr_transfer` has measured, and one family of shapes has one law.

    Each horizon has a learning rate schedule of its own, and the batch nearest to κ = 1 that leaves
    `least_updates`: values tuned at the base are scaled by the rest of κ.
    """

    base: RunConfig
    """Its optimizer values are tuned at its own width, batch and horizon."""
    widths: tuple[int, ...]
    horizons: tuple[int, ...]
    """In sequences."""
    seeds: tuple[int, ...]
    forecast: Setting | None
    """A run beyond the grid: its losses are forecast and stored once the grid is complete, then it is run."""
    least_updates: int = 500
    """Below, larger steps no longer follow the same path (S_crit: experiments/2026-11-22-batch-invariance).
    
    """
    held_out: int = 512
    """Sequences: the same for all trials, with the same masks and times."""
    draws: int = DRAWS
    """Resamples of the settings, for intervals."""

    def __post_init__(self) -> None:
        if not (self.widths and self.horizons and self.seeds):
            raise UserError("widths, horizons and seeds: give at least one of each")
        if min(self.least_updates, self.held_out, self.draws) < 1:
            raise UserError(
                f"least_updates {self.least_updates}, held_out {self.held_out}, draws {self.draws}: must be "
                "at least 1"
            )
        if min(self.horizons) < 1:
            raise UserError(f"horizons {min(self.horizons)}: a run has at least 1 sequence")
        if self.forecast is not None and self.forecast in self._grid():
            raise UserError(
                f"forecast: width {self.forecast.width} with {self.forecast.horizon} sequences is in the "
                "grid: choose a larger one, or none"
            )

    def trials(self, results: Mapping[str, Result]) -> tuple[Trial, ...]:
        return tuple(self._trial(setting, seed) for setting in self._grid() for seed in self.seeds)

    def derive(self, results: Mapping[str, Result], known: Known) -> Mapping[str, Any]:
        if self.forecast is None or any(trial.name not in results for trial in self.trials(results)):
            return {}
        trial = self._trial(self.forecast, self.seeds[0])
        name = name_forecast(trial.factors)
        if name in known.derived or trial.name in results:  # what is known is not forecast
            return {}
        done = find_done([results[each.name] for each in self.trials(results)])
        value = self._forecast(trial, done, *self._fit(done, self._find_ceilings(done))) if done else None
        return {name: value} if value is not None and has_forecast(value) else {}

    def further_trials(self, results: Mapping[str, Result], known: Known) -> tuple[Trial, ...]:
        """The run that has been forecast; and those forecast before another one was chosen, once done."""
        stored = [Setting(width=each["width"], horizon=each["sequences"]) for each in known.derived.values()]
        chosen = [] if self.forecast is None else [self.forecast]
        found = []
        for setting in dict.fromkeys([*chosen, *stored]):
            trial = self._trial(setting, self.seeds[0])
            is_next = setting == self.forecast and setting in stored
            if setting not in self._grid() and (trial.name in results or is_next):
                found.append(trial)
        return tuple(found)

    def rank(self, trials: Sequence[Trial], results: Mapping[str, Result], known: Known) -> Sequence[Trial]:
        """What tells most about the run to forecast, per cost, comes first; the cheapest where none is."""
        if self.forecast is None:
            return Study.rank(self, trials, results, known)
        grid = self.trials(results)
        return rank_runs(
            trials,
            find_done([results[each.name] for each in grid if each.name in results]),
            grid=grid,
            target=self._trial(self.forecast, self.seeds[0]),
            estimate_cost=self.estimate_cost,
        )

    def measure(self, trial: Trial, folder: Path, tokens: Path) -> dict[str, float]:
        step, _ = train(trial.config, folder, tokens)
        losses = evaluate_held_out(trial.config, step.denoiser, tokens, number=self.held_out)
        return losses | _count(trial.config)

    def findings(self, results: Sequence[Result]) -> Findings:
        return self.findings_given(results, NOTHING)

    def findings_given(self, results: Sequence[Result], known: Known) -> Findings:
        grid = self._grid()
        inside = [r for r in results if _setting(r) in grid]
        beyond = [r for r in results if _setting(r) not in grid]
        done = find_done(inside)
        ceilings = self._find_ceilings(results)
        fitted, others = self._fit(done, ceilings)
        found = report_runs(
            inside,
            fitted,
            others[_REPEATS],
            ceilings=ceilings,
            num_planned=len(grid) * len(self.seeds),
        )
        preliminary = None
        if self.forecast is not None and done and self.forecast not in map(_setting, beyond):
            trial = self._trial(self.forecast, self.seeds[0])
            if name_forecast(trial.factors) not in known.derived:
                preliminary = self._forecast(trial, done, fitted, others)
        table, claims, notes = compare_forecasts(known.derived, known.times, beyond, preliminary)
        return replace(
            found,
            claims=(*claims, *found.claims),
            tables=(*found.tables[:1], *([table] if table else []), *found.tables[1:]),
            notes=(*notes, *found.notes),
        )

    def _fit(
        self, done: Sequence[Result], ceilings: Mapping[str, float]
    ) -> tuple[Fitted, dict[str, dict[str, Fit]]]:
        """Fit the plain laws; and by name of the law, those of repeated data and the bounded ones."""
        fitted = fit_losses(done, num_draws=self.draws)
        return fitted, {
            _REPEATS: fit_repeats(done, fitted, self._sources(), num_draws=self.draws),
            "bounded": fit_bounded(done, fitted, ceilings, num_draws=self.draws),
        }

    def _forecast(
        self, trial: Trial, done: Sequence[Result], fitted: Fitted, others: Mapping[str, Mapping[str, Fit]]
    ) -> dict[str, Any]:
        """Return the forecast of `trial` by the fits to `done`."""
        like = done[0]
        longer = trial.config.horizon / like.figure(f"{DATA}/sequences")
        unique = find_unique([like], self._sources(), longer)
        run = Run(
            factors={name: trial.factors[name] for name in ("width", "sequences")},
            size=float(block_parameters(trial.config.model)),
            data=longer * like.figure(TARGETS),
            unique={modality: float(share[0]) for modality, share in unique.items()},
        )
        return make_forecast(fitted, others, run, num_fitted=len(done))

    def _find_ceilings(self, results: Sequence[Result]) -> dict[str, float]:
        """Return what `measure` has counted; of results that are older than this figure, count it now."""
        counted = {
            name.removeprefix(f"{CEILING}/"): each.figure(name)
            for each in results
            for name in each.figures
            if name.startswith(f"{CEILING}/")
        }
        if counted or not results:
            return counted
        return _count_ceilings(build_vocabulary(self.base, load_tokenizers(self.base)), self._sources())

    def _sources(self) -> Sources:
        """Return the sources of each modality's targets, by their shares of these."""
        tasks = {task.name: task for task in self.base.tasks}
        found: dict[str, dict[str, float]] = {}
        for each in self.base.mixture.components:
            for modality in tasks[each.task].targets:
                shares = found.setdefault(modality, {})
                shares[each.source] = shares.get(each.source, 0.0) + each.weight
        return found

    def _grid(self) -> tuple[Setting, ...]:
        return tuple(Setting(width=w, horizon=h) for w in self.widths for h in self.horizons)

    def _trial(self, setting: Setting, seed: int) -> Trial:
        base = self.base
        batch = self._choose_batch(setting.horizon)
        return Trial(
            factors={"width": setting.width, "sequences": setting.horizon, "seed": seed},
            config=replace(
                base,
                model=base.model.resized(width=setting.width),
                logical_batch=batch,
                num_steps=math.ceil(setting.horizon / batch),
                tuned=Tuned(logical_batch=base.logical_batch, num_steps=base.num_steps),
                seed=seed,
            ),
        )

    def _choose_batch(self, horizon: int) -> int:
        """Return the largest power of two with κ ≤ 1 and `least_updates`; at least 1."""
        rule = self.base.batch_rule
        gamma = rule.gamma if isinstance(rule, KappaRule) else 0.0
        even = self.base.logical_batch * (horizon / self.base.horizon) ** gamma
        most = max(1.0, min(even, horizon / self.least_updates))
        return 2 ** math.floor(math.log2(most) + 1e-9)


def _setting(result: Result) -> Setting:
    return Setting(width=int(result.factors["width"]), horizon=int(result.factors["sequences"]))


def _count(config: RunConfig) -> dict[str, float]:
    """Count a run's parameters, data and FLOPs, by each of the usual ways."""
    tokenizers = load_tokenizers(config)
    vocabulary = build_vocabulary(config, tokenizers)
    parameters = count_parameters(config.model, vocabulary)
    works = workload(config, tokenizers)
    targets: dict[str, float] = {}
    epochs: dict[str, float] = {}
    for work in works:
        drawn = config.horizon * work.share
        for modality, count in work.targets.items():
            targets[modality] = targets.get(modality, 0.0) + drawn * count
        if work.size.drawn_per_epoch is not None:
            name = f"{EPOCHS}/{work.component.source}"
            epochs[name] = epochs.get(name, 0.0) + drawn / work.size.drawn_per_epoch
    return {
        f"{SIZE}/blocks": float(parameters.blocks),
        f"{SIZE}/all": float(parameters.total),
        f"{DATA}/sequences": float(config.horizon),
        f"{DATA}/slots": config.horizon * sum(work.share * work.slots for work in works),
        f"{DATA}/targets": sum(targets.values()),
        **{f"{DATA}/{modality}": count for modality, count in targets.items()},
        **epochs,
        **{f"{CEILING}/{m}": bits for m, bits in _count_ceilings(vocabulary, targets).items()},
        FLOPS: config.horizon * sum(work.share * work.flops for work in works),
    }


def _count_ceilings(vocabulary: Vocabulary, modalities: Iterable[str]) -> dict[str, float]:
    """Count the bits per token of knowing nothing."""
    return {each: math.log2(vocabulary.space(each).range_size) for each in modalities}
