"""How must the optimizer's values change when a run is made longer? Fits γ of κ = (D_base / D)^γ."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np

from trimask.estimate import Estimate
from trimask.studies.findings import Claim, Curve, Findings, Panel, Table, format_estimate
from trimask.studies.fit import Optimum, fit_levels, fit_line, fit_optimum, interval
from trimask.studies.pretraining import evaluate_held_out, train
from trimask.studies.search import bracket_optimum, select_around_best
from trimask.studies.study import LOSSES, Study, small_run
from trimask.studies.trial import Result, Trial
from trimask.training.logical_batch import rescale
from trimask.training.run import RunConfig

_STEP = 4.0  # between values of κ: a factor of 2 on the learning rate
_PAPER, _COMPLETED_P = 0.44, 1.0


def horizon() -> "Horizon":
    """By which power of the horizon must κ fall (γ)? Horizons of 4,000 to 32,000 sequences."""
    return Horizon(
        base=replace(small_run(learning_rate=2.0**-7), num_steps=250), factors=(1, 2, 4, 8), seeds=(0, 1)
    )


def horizon_short() -> "Horizon":
    """The same in minutes: horizons of 1,600 to 6,400 sequences, one seed."""
    full = horizon()
    return replace(full, base=replace(full.base, num_steps=100), factors=(1, 2, 4), seeds=(0,))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Horizon(Study):
    """Finds the κ of least loss at each horizon: learning rate, betas, ε and decay change together by the κ
    rule (`rescale`), the batch stays. γ is the slope of −log κ over the logarithm of the horizon.
    """

    base: RunConfig
    factors: tuple[int, ...]
    """Horizons, relative to the base's."""
    seeds: tuple[int, ...]

    def trials(self, results: Mapping[str, Result]) -> tuple[Trial, ...]:
        return tuple(trial for factor in self.factors for trial in self._at(results, factor))

    def measure(self, trial: Trial, folder: Path, tokens: Path) -> dict[str, float]:
        step, _ = train(trial.config, folder, tokens)
        return evaluate_held_out(trial.config, step.denoiser, tokens)

    def findings(self, results: Sequence[Result]) -> Findings:
        rows, claims = [], []
        panels, laws = [], []
        for loss in LOSSES:
            losses = self._losses(results, loss)
            found = {factor: fit_optimum(row, seed=factor) for factor, row in losses.items()}
            optima = {factor: best for factor, best in found.items() if best is not None}
            bracketed = {factor: each for factor, each in optima.items() if each.is_bracketed}
            gamma = _gamma(bracketed) if len(bracketed) > 1 else None
            rows.append(
                (
                    loss,
                    *(
                        format_estimate(optima[f].place) + ("" if optima[f].is_bracketed else " (edge)")
                        if f in optima
                        else "–"
                        for f in self.factors
                    ),
                    format_estimate(gamma) if gamma else "–",
                )
            )
            if gamma:
                claims.append(_claim(loss, gamma))
            panels.append(self._panel(loss, losses))
            laws.append(self._law(loss, optima))
        header = ("loss", *(f"{self.base.horizon * factor:,}" for factor in self.factors), "γ")
        table = Table(
            title="log2 κ with the least loss, by horizon in sequences", header=header, rows=tuple(rows)
        )
        return Findings(
            claims=tuple(claims),
            tables=(table,),
            pictures={"horizon": (tuple(panels), tuple(laws))},
        )

    def _at(self, results: Mapping[str, Result], factor: int) -> Iterator[Trial]:
        first, *others = self.seeds
        done = fit_levels(self._losses(list(results.values()), LOSSES[0])[factor])
        for kappa in bracket_optimum(done, factor=_STEP):
            yield self._trial(factor, kappa, first)
        for seed in others:
            for kappa in select_around_best(done):
                yield self._trial(factor, kappa, seed)

    def _trial(self, factor: int, kappa: float, seed: int) -> Trial:
        return Trial(
            factors={"horizon": factor, "kappa": kappa, "seed": seed},
            config=replace(
                self.base,
                num_steps=self.base.num_steps * factor,
                optimizer=rescale(self.base.optimizer, kappa),
                seed=seed,
            ),
        )

    def _losses(self, results: Sequence[Result], loss: str) -> dict[int, dict[float, dict[int, float]]]:
        """horizon -> κ -> seed -> loss."""
        found: dict[int, dict[float, dict[int, float]]] = {factor: {} for factor in self.factors}
        for result in results:
            f = result.factors
            row = found[int(f["horizon"])].setdefault(float(f["kappa"]), {})
            row[int(f["seed"])] = result.figure(loss)
        return found

    def _panel(self, loss: str, losses: Mapping[int, Mapping[float, Mapping[int, float]]]) -> Panel:
        curves = []
        for factor, row in losses.items():
            means = {kappa: float(np.mean(list(seeds.values()))) for kappa, seeds in row.items()}
            finite = sorted(kappa for kappa in means if math.isfinite(means[kappa]))
            label = f"{self.base.horizon * factor:,} sequences"
            curves.append(Curve(label=label, x=finite, y=[means[kappa] for kappa in finite]))
        return Panel(title=loss, x_label="κ", y_label="bits/token", curves=tuple(curves))

    def _law(self, loss: str, optima: Mapping[int, Optimum]) -> Panel:
        places = {self.base.horizon * factor: each.place for factor, each in optima.items()}
        first = next(iter(places.values()), None)
        curves = [
            Curve(
                label="least loss",
                x=list(places),
                y=[2**place.value for place in places.values()],
                low=[2**place.low for place in places.values()],
                high=[2**place.high for place in places.values()],
            )
        ]
        if first is not None:
            curves += [
                Curve(
                    label=f"γ = {gamma:g}",
                    x=list(places),
                    y=[2**first.value * (next(iter(places)) / horizon) ** gamma for horizon in places],
                    is_dashed=True,
                )
                for gamma in (_PAPER, _COMPLETED_P)
            ]
        return Panel(
            title=f"{loss}: best κ", x_label="sequences", y_label="κ", curves=tuple(curves), is_log_y=True
        )


def _gamma(optima: Mapping[int, Optimum]) -> Estimate:
    """Return −slope of log κ over log horizon; the interval comes from the optima's draws if all have some,
    else from the scatter about the line.
    """
    x = [math.log2(factor) for factor in optima]
    slope = fit_line(x, [each.place.value for each in optima.values()])
    draws = [each.draws for each in optima.values()]
    if all(map(len, draws)):
        slope = interval(slope.value, np.polyfit(x, np.stack(draws), 1)[0])
    return Estimate(value=-slope.value, low=-slope.high, high=-slope.low)


def _claim(loss: str, gamma: Estimate) -> Claim:
    """Claim the paper's γ if the interval contains it and not Complete(d)P's."""
    if not math.isfinite(gamma.low):
        return Claim(text=f"{loss}: γ = {format_estimate(gamma)}", holds=None)
    inside = [g for g in (_PAPER, _COMPLETED_P) if gamma.low <= g <= gamma.high]
    verdict = " and ".join(f"{g:g}" for g in inside) or "neither 0.44 nor 1"
    is_told = inside != [_PAPER, _COMPLETED_P]
    return Claim(
        text=f"{loss}: γ = {format_estimate(gamma)}; the interval has {verdict}",
        holds=_PAPER in inside if is_told else None,
    )
