"""Does the best learning rate of a small network hold for a wider and a deeper one?"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from trimask.model.parametrization import Parametrization, Standard
from trimask.studies.findings import Claim, Curve, Findings, Panel, Table, format_estimate
from trimask.studies.fit import Optimum, fit_additive, fit_levels, fit_optimum
from trimask.studies.pretraining import evaluate_held_out, train
from trimask.studies.search import bracket_optimum, select_around_best
from trimask.studies.study import LOSSES, Study, small_run
from trimask.studies.trial import Result, Trial
from trimask.training.run import RunConfig

COMPLETED_P, STANDARD = "Complete(d)P", "standard"
_STEP = 2.0  # between learning rates
_CLAIMED = 0.5  # octaves: a factor of √2


def lr_transfer() -> "LearningRateTransfer":
    """Is the best learning rate the same at any width and depth, under Complete(d)P and the standard one?

    Widths 64 to 512 and depths 3 to 12, 200 updates of 8 sequences.
    """
    return LearningRateTransfer(
        base=replace(small_run(learning_rate=2.0**-6), logical_batch=8, num_steps=200),
        widths=(64, 128, 256, 512),
        depths=(3, 6, 12),
        seeds=(0, 1),
    )


def lr_transfer_short() -> "LearningRateTransfer":
    """The same in minutes: widths 64 and 256, depths 3 and 12, one seed."""
    full = lr_transfer()
    return replace(full, base=replace(full.base, num_steps=100), widths=(64, 256), depths=(3, 12), seeds=(0,))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LearningRateTransfer(Study):
    """Learning rates around the base's in factors of 2, for networks of other widths (at the base's depth)
    and depths (at the base's width), until the best is bracketed; further seeds run only the best and its
    neighbours.
    """

    base: RunConfig
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    seeds: tuple[int, ...]

    def trials(self, results: Mapping[str, Result]) -> tuple[Trial, ...]:
        return tuple(
            trial
            for parametrization in (COMPLETED_P, STANDARD)
            for width, depth in self._sizes()
            for trial in self._of_size(results, parametrization, width, depth)
        )

    def measure(self, trial: Trial, folder: Path, tokens: Path) -> dict[str, float]:
        step, _ = train(trial.config, folder, tokens)
        return evaluate_held_out(trial.config, step.denoiser, tokens)

    def findings(self, results: Sequence[Result]) -> Findings:
        tables, claims = [], []
        for loss in LOSSES:
            found = {size: fit_optimum(losses) for size, losses in self._losses(results, loss).items()}
            optima = {size: best for size, best in found.items() if best is not None}
            if not optima:
                continue
            tables.append(self._table(results, loss, optima))
            claims += [
                claim
                for name in (COMPLETED_P, STANDARD)
                for claim in self._claims(name, loss, {k[1:]: v for k, v in optima.items() if k[0] == name})
            ]
        return Findings(
            claims=tuple(claims),
            tables=tuple(tables),
            pictures={"lr_transfer": tuple(self._panels(results, name) for name in (COMPLETED_P, STANDARD))},
        )

    def _sizes(self) -> list[tuple[int, int]]:
        """Return the base's size, then wider ones, then deeper ones."""
        width, depth = self.base.model.width, self.base.model.depth
        wider = [(w, depth) for w in self.widths if w != width]
        deeper = [(width, d) for d in self.depths if d != depth]
        return [(width, depth), *wider, *deeper]

    def _of_size(
        self, results: Mapping[str, Result], parametrization: str, width: int, depth: int
    ) -> Iterator[Trial]:
        first, *others = self.seeds
        losses = self._losses(list(results.values()), LOSSES[0])
        done = fit_levels(losses.get((parametrization, width, depth), {}))
        for rate in bracket_optimum(done, factor=_STEP):
            yield self._trial(parametrization, width, depth, rate, first)
        for seed in others:
            for rate in select_around_best(done):
                yield self._trial(parametrization, width, depth, rate, seed)

    def _trial(self, name: str, width: int, depth: int, rate: float, seed: int) -> Trial:
        model = self.base.model.resized(width=width, depth=depth)
        rule: Parametrization = model.parametrization if name == COMPLETED_P else Standard()
        optimizer = replace(self.base.optimizer, learning_rate=self.base.optimizer.learning_rate * rate)
        return Trial(
            factors={
                "parametrization": name,
                "width": width,
                "depth": depth,
                "rate": rate,
                "seed": seed,
            },
            config=replace(
                self.base, model=replace(model, parametrization=rule), optimizer=optimizer, seed=seed
            ),
        )

    def _losses(
        self, results: Sequence[Result], loss: str
    ) -> dict[tuple[str, int, int], dict[float, dict[int, float]]]:
        """(parametrization, width, depth) -> rate -> seed -> loss."""
        found: dict[tuple[str, int, int], dict[float, dict[int, float]]] = {}
        for result in results:
            f = result.factors
            size = (str(f["parametrization"]), int(f["width"]), int(f["depth"]))
            rates = found.setdefault(size, {})
            rates.setdefault(float(f["rate"]), {})[int(f["seed"])] = result.figure(loss)
        order = [(name, width, depth) for name in (COMPLETED_P, STANDARD) for width, depth in self._sizes()]
        return {size: found[size] for size in order if size in found}

    def _claims(self, name: str, loss: str, optima: Mapping[tuple[int, int], Optimum]) -> Iterator[Claim]:
        base = optima.get((self.base.model.width, self.base.model.depth))
        if base is None or len(optima) < 2:
            return
        moved = {size: each.place.value - base.place.value for size, each in optima.items()}
        farthest = max(moved, key=lambda size: abs(moved[size]))
        is_certain = all(each.is_bracketed for each in optima.values())
        text = (
            f"{name}, {loss}: over {len(optima)} sizes the best learning rate stays within a factor of √2 of "
            f"the base's; farthest at width {farthest[0]}, depth {farthest[1]}: × {2 ** moved[farthest]:.2f}"
        )
        yield Claim(text=text, holds=abs(moved[farthest]) <= _CLAIMED if is_certain else None)

    def _table(
        self, results: Sequence[Result], loss: str, optima: Mapping[tuple[str, int, int], Optimum]
    ) -> Table:
        losses = self._losses(results, loss)
        rows = []
        for (name, width, depth), best in optima.items():
            at_base = losses[name, width, depth]
            base = optima.get((name, self.base.model.width, self.base.model.depth), best)
            carried = min(at_base, key=lambda rate: abs(math.log2(rate) - base.place.value))
            finite = {rate: row for rate, row in at_base.items() if all(map(math.isfinite, row.values()))}
            means = dict(zip(finite, fit_additive(list(finite.values()))[0], strict=True))
            cost = means.get(carried, math.inf) / min(means.values()) - 1
            rows.append(
                (
                    name,
                    f"{width}",
                    f"{depth}",
                    f"{max(len(row) for row in at_base.values())}",
                    format_estimate(best.place) + ("" if best.is_bracketed else " (edge)"),
                    f"{best.loss:.4f}",
                    f"{100 * cost:+.2f} %",
                )
            )
        return Table(
            title=f"Best learning rate by the loss of {loss}: log2 of the factor on "
            f"{self.base.optimizer.learning_rate:.4g}",
            header=(
                "parametrization",
                "width",
                "depth",
                "seeds",
                "log2 factor",
                "bits/token",
                "base's rate costs",
            ),
            rows=tuple(rows),
        )

    def _panels(self, results: Sequence[Result], name: str) -> tuple[Panel, ...]:
        panels = []
        for loss in LOSSES:
            curves = []
            for (parametrization, width, depth), rates in self._losses(results, loss).items():
                if parametrization == name:
                    means = {rate: sum(row.values()) / len(row) for rate, row in rates.items()}
                    finite = sorted(rate for rate in means if math.isfinite(means[rate]))
                    curves.append(
                        Curve(
                            label=f"{width} × {depth}",
                            x=[rate * self.base.optimizer.learning_rate for rate in finite],
                            y=[means[rate] for rate in finite],
                            is_dashed=depth != self.base.model.depth,
                        )
                    )
            panels.append(
                Panel(
                    title=f"{name}: {loss}",
                    x_label="learning rate",
                    y_label="bits/token",
                    curves=tuple(curves),
                )
            )
        return tuple(panels)
