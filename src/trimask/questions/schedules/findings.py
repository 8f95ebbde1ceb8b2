"""What the trials of the study of schedules tell."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import final

import numpy as np

from trimask.diffusion.schedule import Cosine, Tabulated
from trimask.estimate import Estimate
from trimask.questions.schedules.arms import EARLY, FINAL, OPTIMAL, Arm
from trimask.questions.schedules.profile import optimal_density, strata
from trimask.questions.schedules.samples import MEASURES
from trimask.studies.findings import Claim, Curve, Findings, Panel, Table, format_estimate
from trimask.studies.paired import describe_intervals, paired_differences, verdict
from trimask.studies.study import ALL
from trimask.studies.trial import Result
from trimask.training.run import RunConfig
from trimask.training.weighting import Bound

_NORMAL = 1.96  # standard errors of a 95 % interval
_RARE = 0.02  # mask ratios below are rare: how much of the noise is theirs is shown


def measured_density(result: Result, when: str, modality: str, *, num_strata: int) -> Tabulated | None:
    """Return the density of least variance that a result measured; None if it measured none."""
    moments = [result.figures.get(f"moment/{when}/{modality}/{j}") for j in range(num_strata)]
    known = [moment for moment in moments if moment is not None and moment > 0]
    if len(known) < num_strata:
        return None
    return optimal_density(strata(num_strata).tolist(), known)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Results by arm, compared with the reference arm. Fields as in `Schedules`."""

    base: RunConfig
    arms: Mapping[str, Arm]
    reference: str
    modalities: tuple[str, ...]
    ratios: tuple[float, ...]
    num_strata: int
    results: tuple[Result, ...]

    def findings(self) -> Findings:
        tables, claims = [], []
        for loss in (ALL, *self.modalities):
            losses = self._by_arm(loss)
            differences = paired_differences(losses, self.reference)
            if losses:
                tables.append(self._table(loss, losses, differences))
                claims += self._claims(loss, losses, differences)
        tables += [table for table in (self._noise_table(),) if table]
        return Findings(
            claims=tuple(claims),
            tables=tuple(tables),
            pictures={"optimal_density": (self._density_panels(),)},
            notes=self._notes(),
        )

    def _notes(self) -> tuple[str, ...]:
        base = self.base
        return (
            f"Held fixed in all arms: {base.horizon:,} training sequences, the same ones in the same order "
            f"for each seed, {base.num_updates:,} updates, and the learning rate, tuned for none of the "
            "arms. Each model is judged by the same exact NELBO, on the same held-out sequences and "
            f"masks, in bits per target token. {describe_intervals(self.results)}",
            "Gradient variance is E|g − ḡ|² of a sequence's NELBO over times and masks alone, with times "
            f"independent, relative to {self.reference}: all arms from the same gradients, weighted by their "
            "densities. That of the optimal density is measured on sequences that did not choose it. "
            "Unweighted arms have another gradient, and no ratio. Training spreads times evenly over a "
            "batch, which takes away a part of the variance in every arm.",
            "The bound's gradient has a tail: masks with few hidden tokens are rare and weigh much. What "
            "comes from them is felt as rare large updates, not in each one.",
            *self._note_on_samples(),
            "These are small models, trained for minutes: differences say what a schedule does to the "
            "first updates of a run, not where long training ends.",
        )

    def _note_on_samples(self) -> tuple[str, ...]:
        """Say what samples are of, if some were drawn."""
        if not any(figure.startswith("samples/") for each in self.results for figure in each.figures):
            return ()
        return (
            "Samples are of held-out sequences' targets, by the plain sampler (random order, temperature 1). "
            + "; ".join(f"{name}: {text}" for name, text in MEASURES.items())
            + ". Small sets are biased upward, all alike; compare arms, not with other tables.",
        )

    def _by_arm(self, figure: str) -> dict[str, dict[int, float]]:
        """Return arm -> seed -> a figure, infinite if the run diverged; no arm that is not run."""
        found: dict[str, dict[int, float]] = {}
        for result in self.results:
            if figure in result.figures or not result.figures:
                found.setdefault(str(result.factors["arm"]), {})[int(result.factors["seed"])] = result.figure(
                    figure
                )
        return {name: found[name] for name in (*self.arms, OPTIMAL) if name in found}

    def _variance(self, when: str, arm: str, modality: str) -> Estimate | None:
        """Return the mean over seeds of an arm's variance relative to the reference's."""
        name = f"{when}/{arm}/{modality}"
        found = [
            (value, error)
            for result in self.results
            if (value := result.figures.get(f"variance/{name}")) is not None
            and (error := result.figures.get(f"variance_error/{name}")) is not None
        ]
        if not found:
            return None
        values, errors = np.array(found).T
        margin = _NORMAL * float(np.sqrt((errors**2).sum())) / len(values)
        value = float(values.mean())
        return Estimate(value=value, low=value - margin, high=value + margin)

    def _table(
        self,
        loss: str,
        losses: Mapping[str, Mapping[int, float]],
        differences: Mapping[str, Estimate],
    ) -> Table:
        at = {r: self._by_arm(f"cross_entropy/{r:g}/{loss}") for r in self.ratios}
        whens = () if loss == ALL else (EARLY, FINAL)
        samples = {name: self._by_arm(f"samples/{name}/{loss}") for name in MEASURES}
        rows = []
        for name, seeds in losses.items():
            cells = [name, _mean(seeds)]
            cells.append("0" if name == self.reference else _format(differences.get(name), 3))
            cells += [_format(self._variance(when, name, loss), 2) for when in whens]
            cells += [_mean(at[r].get(name, {})) for r in self.ratios if at[r] and loss != ALL]
            cells += [_mean(found.get(name, {})) for found in samples.values() if found]
            rows.append(tuple(cells))
        return Table(
            title=f"{loss}: bits per token after {self.base.num_updates:,} updates of "
            f"{self.base.update_batch}, the difference from {self.reference}, and gradient variance "
            "relative to it",
            header=(
                "arm",
                "NELBO",
                "difference",
                *(f"variance, {when}" for when in whens),
                *(f"−log p at ratio {r:g}" for r in self.ratios if at[r] and loss != ALL),
                *(f"samples: {measure}" for measure, found in samples.items() if found),
            ),
            rows=tuple(rows),
        )

    def _claims(
        self,
        loss: str,
        losses: Mapping[str, Mapping[int, float]],
        differences: Mapping[str, Estimate],
    ) -> list[Claim]:
        def compare(name: str, reference: str, figure: str = loss) -> Estimate | None:
            rows = losses if figure == loss else self._by_arm(figure)
            return paired_differences(rows, reference).get(name)

        arms = {**self.arms, OPTIMAL: self.arms[self.reference]}
        bounds = {
            name: each for name, each in differences.items() if arms[name].is_bound and name != self.reference
        }
        claims = []
        if bounds:
            best = min(bounds, key=lambda name: bounds[name].value)
            signs = [verdict(each) for each in bounds.values()]  # True: lower than the reference
            holds = False if True in signs else True if set(signs) == {False} else None
            claims.append(
                Claim(
                    text=f"{loss}: {self.reference} has the lowest NELBO of the bounds; the best other, "
                    f"{best}, differs by {format_estimate(bounds[best], 3)} bits per token",
                    holds=holds,
                )
            )
        for name, arm in self.arms.items():
            # The bound with the same density: the weight alone differs.
            twin = next(
                (k for k, v in self.arms.items() if v == replace(arm, weighting=Bound())), self.reference
            )
            found = None if arm.is_bound else compare(name, twin)
            if found is not None:
                claims.append(
                    Claim(
                        text=f"{loss}: {name} has a lower exact NELBO than {twin}: it differs by "
                        f"{format_estimate(found, 3)} bits per token",
                        holds=verdict(found),
                    )
                )
        if loss == ALL:
            return claims
        ratios = {name: self._variance(FINAL, name, loss) for name in bounds}
        known = {name: each for name, each in ratios.items() if each is not None}
        if known:
            calmest = min(known, key=lambda name: known[name].value)
            claims.append(
                Claim(
                    text=f"{loss}: {self.reference} has the least gradient variance of the bounds; that of "
                    f"{calmest} is {format_estimate(known[calmest])} of it at the final weights",
                    holds=_invert(verdict(_minus_one(known[calmest]))),
                )
            )
        highest = max(self.ratios, default=0.0)
        for name, arm in self.arms.items():
            found = compare(name, self.reference, f"cross_entropy/{highest:g}/{loss}")
            if isinstance(arm.of(loss), Cosine) and found is not None:
                claims.append(
                    Claim(
                        text=f"{loss}: {name} predicts better than {self.reference} at mask ratio "
                        f"{highest:g}: −log p differs by {format_estimate(found, 3)} bits per token",
                        holds=verdict(found),
                    )
                )
            for measure in ("divergence", "distance"):
                found = compare(name, self.reference, f"samples/{measure}/{loss}")
                if isinstance(arm.of(loss), Cosine) and found is not None:
                    claims.append(
                        Claim(
                            text=f"{loss}: samples of {name} are nearer to the originals than those of "
                            f"{self.reference}: the {measure} differs by {format_estimate(found, 3)}",
                            holds=verdict(found),
                        )
                    )
        ratio = self._variance(FINAL, OPTIMAL, loss)
        if ratio is not None:
            claims.append(
                Claim(
                    text=f"{loss}: the optimal density lowers the variance of the gradient; it is "
                    f"{format_estimate(ratio)} of {self.reference}'s at the final weights",
                    holds=verdict(_minus_one(ratio)),
                )
            )
        if OPTIMAL in differences:
            claims.append(
                Claim(
                    text=f"{loss}: the optimal density lowers the NELBO: it differs by "
                    f"{format_estimate(differences[OPTIMAL], 3)} bits per token",
                    holds=verdict(differences[OPTIMAL]),
                )
            )
        return claims

    def _noise_table(self) -> Table | None:
        edges, rows = strata(self.num_strata), []
        rare = edges[1:] <= _RARE
        for result in self.results:
            for when in (EARLY, FINAL):
                for modality in self.modalities:
                    keys = [f"moment/{when}/{modality}/{j}" for j in range(self.num_strata)]
                    if not all(key in result.figures for key in keys):
                        continue
                    moments = np.array([result.figure(key) for key in keys])
                    share = result.figures.get(f"mean/{when}/{modality}")
                    rows.append(
                        (
                            f"{result.factors['seed']}",
                            when,
                            modality,
                            f"{moments[rare].sum() / moments.sum():.0%}",
                            "–" if share is None else f"{share:.1%}",
                        )
                    )
        if not rows:
            return None
        return Table(
            title="The gradient of a sequence under linear ratios: how much of E|g|² comes from rare, small "
            "mask ratios, and how much is the mean gradient, which is no noise",
            header=("seed", "weights", "modality", f"mask ratios below {edges[1:][rare][-1]:.2g}", "mean"),
            rows=tuple(rows),
        )

    def _density_panels(self) -> tuple[Panel, ...]:
        edges, panels = strata(self.num_strata), []
        middles = [float(np.mean(pair)) for pair in pairwise(edges)]
        for modality in self.modalities:
            curves = []
            for result in self.results:
                for when in (EARLY, FINAL):
                    density = measured_density(result, when, modality, num_strata=self.num_strata)
                    if density is not None:
                        label = f"{when}, seed {result.factors['seed']}"
                        curves.append(Curve(label=label, x=middles, y=list(density.densities)))
            if curves:
                curves.append(Curve(label="linear", x=middles, y=[1.0] * len(middles), is_dashed=True))
                panels.append(
                    Panel(
                        title=f"{modality}: density of least variance",
                        x_label="mask ratio",
                        y_label="density",
                        curves=tuple(curves),
                        is_log_y=True,
                    )
                )
        return tuple(panels)


def _mean(seeds: Mapping[int, float]) -> str:
    value = float(np.mean(list(seeds.values()))) if seeds else math.nan
    return "–" if math.isnan(value) else f"{value:.3f}" if math.isfinite(value) else "diverged"


def _format(estimate: Estimate | None, digits: int) -> str:
    return "–" if estimate is None else format_estimate(estimate, digits)


def _invert(holds: bool | None) -> bool | None:
    return None if holds is None else not holds


def _minus_one(each: Estimate) -> Estimate:
    return Estimate(value=each.value - 1, low=each.low - 1, high=each.high - 1)
