"""How does the held-out loss of each modality fall with the network's size and the length of training?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from trimask.errors import UserError
from trimask.laws.fitting import DRAWS
from trimask.model.flops import count_parameters
from trimask.planning.workload import workload
from trimask.questions.scaling.runs import CEILING, DATA, EPOCHS, FLOPS, SIZE, report_runs
from trimask.runs.build import build_vocabulary
from trimask.studies.findings import Findings
from trimask.studies.pretraining import evaluate_held_out, train
from trimask.studies.study import Study, small_run
from trimask.studies.tokens import load_tokenizers
from trimask.studies.trial import Result, Trial
from trimask.training.logical_batch import KappaRule, Tuned
from trimask.training.run import RunConfig


def scaling() -> "Scaling":
    """How does each modality's loss fall with parameters and data, and what is the best size for a compute?

    Widths 32 to 192 (40 thousand to 1.4 million parameters in blocks), 500 to 16,000 sequences, two seeds:
    about 1.5 hours of one core. Then one run of 4 times the largest size and length, forecast by the grid:
    about 1.5 hours more (--forecast none leaves it out).
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
    """A run beyond the grid, once that is complete: the law's forecast against the loss."""
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
        grid = tuple(self._trial(setting, seed) for setting in self._grid() for seed in self.seeds)
        if self.forecast is None or any(trial.name not in results for trial in grid):
            return grid
        return (*grid, self._trial(self.forecast, self.seeds[0]))

    def measure(self, trial: Trial, folder: Path, tokens: Path) -> dict[str, float]:
        step, _ = train(trial.config, folder, tokens)
        losses = evaluate_held_out(trial.config, step.denoiser, tokens, number=self.held_out)
        return losses | _count(trial.config)

    def findings(self, results: Sequence[Result]) -> Findings:
        grid = self._grid()
        inside = [r for r in results if _setting(r) in grid]
        beyond = [r for r in results if _setting(r) not in grid]
        return report_runs(inside, beyond, num_planned=len(grid) * len(self.seeds), num_draws=self.draws)

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
            epochs[f"{EPOCHS}/{work.component.source}"] = drawn / work.size.drawn_per_epoch
    return {
        f"{SIZE}/blocks": float(parameters.blocks),
        f"{SIZE}/all": float(parameters.total),
        f"{DATA}/sequences": float(config.horizon),
        f"{DATA}/slots": config.horizon * sum(work.share * work.slots for work in works),
        f"{DATA}/targets": sum(targets.values()),
        **{f"{DATA}/{modality}": count for modality, count in targets.items()},
        **epochs,
        **{f"{CEILING}/{m}": math.log2(vocabulary.space(m).range_size) for m in targets},
        FLOPS: config.horizon * sum(work.share * work.flops for work in works),
    }
