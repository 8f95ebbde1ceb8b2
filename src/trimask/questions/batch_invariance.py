"""Does the loss stay the same when the physical batch changes at a fixed horizon?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import final

from trimask.estimate import Estimate
from trimask.studies.findings import Claim, Curve, Findings, Panel, Table, format_estimate
from trimask.studies.fit import fit_differences
from trimask.studies.pretraining import evaluate_held_out, measure_noise_scales, train
from trimask.studies.study import LOSSES, Study, small_run
from trimask.studies.trial import Result, Trial
from trimask.training.logical_batch import BatchRule, LinearRule, NoRule, SquareRootRule, Tuned
from trimask.training.run import RunConfig

KAPPA = "κ"
OTHERS: Mapping[str, BatchRule] = MappingProxyType(
    {"√": SquareRootRule(), "linear": LinearRule(), "none": NoRule()}
)
_CLAIMED = 1.0  # percent
_FACTOR = 16  # over which the claim is made


def batch_invariance() -> "BatchInvariance":
    """Does the κ rule keep the loss at any physical batch, and where does it break?

    8,000 sequences in batches of 4 to 128, beside scaling the rate by the root, in proportion, or not.
    """
    return BatchInvariance(
        base=replace(small_run(learning_rate=2.0**-6), num_steps=500),
        batches=(4, 8, 16, 32, 64, 128),
        others=(4, 64),
        seeds=(0, 1),
    )


def batch_invariance_short() -> "BatchInvariance":
    """The same in minutes: 3,200 sequences in batches of 4 to 64, one seed."""
    full = batch_invariance()
    return replace(full, base=replace(full.base, num_steps=200), batches=(4, 16, 64), seeds=(0,))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class BatchInvariance(Study):
    """Runs of one horizon with different physical batches, under the κ rule and others. Values are tuned at
    the base's batch; the logical batch is the smallest of `batches`, so that all runs draw the same times and
    modality counts.
    """

    base: RunConfig
    batches: tuple[int, ...]
    """Physical batches under the κ rule."""
    others: tuple[int, ...]
    """Those of them that the other rules are run at."""
    seeds: tuple[int, ...]
    noise_batches: int = 16
    """The gradient noise is measured from pairs of one batch and so many of the base's size."""
    noise_pairs: int = 16
    """Late in a run the noise is thousands of sequences: with few batches |G|² cannot be told from 0."""

    def trials(self, results: Mapping[str, Result]) -> tuple[Trial, ...]:
        return tuple(
            self._trial(rule, batch, seed)
            for seed in self.seeds
            for rule, batches in ((KAPPA, self.batches), *((other, self.others) for other in OTHERS))
            for batch in batches
            if rule == KAPPA or batch != self.base.logical_batch
        )

    def measure(self, trial: Trial, folder: Path, tokens: Path) -> dict[str, float]:
        step, stream = train(trial.config, folder, tokens)
        figures = evaluate_held_out(trial.config, step.denoiser, tokens)
        if trial.config.update_batch == self.base.logical_batch:
            figures |= measure_noise_scales(
                step, stream, num_small=self.noise_batches, num_pairs=self.noise_pairs
            )
        return figures

    def findings(self, results: Sequence[Result]) -> Findings:
        tables, panels, claims = [], [], []
        for loss in LOSSES:
            changes = self._changes(results, loss)
            if not changes:
                continue
            tables.append(self._table(loss, changes))
            panels.append(_panel(loss, changes))
            claims += self._claims(loss, changes)
        noise = _noise_table(results)
        return Findings(
            claims=tuple(claims),
            tables=(*tables, *([noise] if noise else [])),
            pictures={"batch_invariance": (tuple(panels),)},
        )

    def _trial(self, rule: str, batch: int, seed: int) -> Trial:
        smallest = min(self.batches)
        return Trial(
            factors={"rule": rule, "batch": batch, "seed": seed},
            config=replace(
                self.base,
                logical_batch=smallest,
                num_steps=math.ceil(self.base.horizon / smallest),
                physical_batch=batch,
                tuned=Tuned(logical_batch=self.base.logical_batch, num_steps=self.base.num_steps),
                batch_rule=OTHERS.get(rule, self.base.batch_rule),
                seed=seed,
            ),
        )

    def _changes(self, results: Sequence[Result], loss: str) -> dict[str, dict[int, Estimate]]:
        """Return rule -> batch -> change of the loss from the base's batch in percent (100 × the log ratio),
        with seed effects removed.
        """
        found: dict[tuple[str, int], dict[int, float]] = {}
        for result in results:
            f = result.factors
            found.setdefault((str(f["rule"]), int(f["batch"])), {})[int(f["seed"])] = result.figure(loss)
        base = (KAPPA, self.base.logical_batch)
        finite = {at: row for at, row in found.items() if all(map(math.isfinite, row.values()))}
        if base not in finite:
            return {}
        # In logarithms changes are ratios, and noise is similar for all losses.
        logs = [{seed: 100 * math.log(loss) for seed, loss in row.items()} for row in finite.values()]
        above = dict(zip(finite, fit_differences(logs, list(finite).index(base)), strict=True))
        never = Estimate(value=math.inf, low=math.inf, high=math.inf)
        changes: dict[str, dict[int, Estimate]] = {}
        for rule, batch in sorted(found, key=lambda at: at[1]):
            if (rule, batch) != base:
                changes.setdefault(rule, {})[batch] = above.get((rule, batch), never)
        return {rule: changes[rule] for rule in (KAPPA, *OTHERS) if rule in changes}

    def _table(self, loss: str, changes: Mapping[str, Mapping[int, Estimate]]) -> Table:
        columns = [batch for batch in self.batches if batch != self.base.logical_batch]
        rows = tuple(
            (rule, *(format_estimate(row[batch]) if batch in row else "–" for batch in columns))
            for rule, row in changes.items()
        )
        return Table(
            title=f"Loss of {loss}: change from batch {self.base.logical_batch} in percent "
            f"({self.base.horizon:,} sequences)",
            header=("rule", *(f"{batch}" for batch in columns)),
            rows=rows,
        )

    def _claims(self, loss: str, changes: Mapping[str, Mapping[int, Estimate]]) -> list[Claim]:
        row = changes.get(KAPPA, {})
        if not row:
            return []
        own = self.base.logical_batch
        order = sorted({*row, own})
        kept = [own, *(batch for batch, change in row.items() if abs(change.value) <= _CLAIMED)]
        low = high = order.index(own)  # the stretch around the base's batch that is kept
        while low > 0 and order[low - 1] in kept:
            low -= 1
        while high < len(order) - 1 and order[high + 1] in kept:
            high += 1
        runs, beyond = order[low : high + 1], order[high + 1 :]
        span = runs[-1] / runs[0]
        text = (
            f"{loss}: the κ rule keeps the loss within 1 % over batches {runs[0]} to {runs[-1]} (× {span:g})"
        )
        if beyond:
            text += (
                f"; it breaks at {beyond[0]} ({format_estimate(row[beyond[0]])} %), where "
                f"{self.base.horizon // beyond[0]} updates are left: S_crit between that and "
                f"{self.base.horizon // runs[-1]}"
            )
        is_told = order[-1] / order[0] >= _FACTOR
        return [Claim(text=text, holds=span >= _FACTOR if is_told else None)]


def _panel(loss: str, changes: Mapping[str, Mapping[int, Estimate]]) -> Panel:
    curves = []
    for rule, row in changes.items():
        kept = {batch: change for batch, change in row.items() if math.isfinite(change.value)}
        has_interval = all(math.isfinite(change.low) for change in kept.values())
        curves.append(
            Curve(
                label=rule,
                x=list(kept),
                y=[change.value for change in kept.values()],
                low=[change.low for change in kept.values()] if has_interval else None,
                high=[change.high for change in kept.values()] if has_interval else None,
                is_dashed=rule != KAPPA,
            )
        )
    return Panel(title=loss, x_label="physical batch", y_label="change of the loss, %", curves=tuple(curves))


def _noise_table(results: Sequence[Result]) -> Table | None:
    """Tabulate B_simple of each seed at the end of the base's run."""

    def cell(result: Result, loss: str) -> str:
        scale, error = (result.figure(f"{name}/{loss}") for name in ("noise_scale", "noise_scale_error"))
        if math.isinf(scale):
            return "drowned"  # |G|² came out below 0
        return f"{scale:,.0f}" + (f" ± {error:,.0f}" if math.isfinite(error) else "")

    rows = [
        (f"{result.factors['seed']}", *(cell(result, loss) for loss in LOSSES))
        for result in results
        if f"noise_scale/{LOSSES[0]}" in result.figures
    ]
    if not rows:
        return None
    return Table(
        title="Gradient noise scale B_simple at the end of the base's run, sequences (± standard error)",
        header=("seed", *LOSSES),
        rows=tuple(rows),
    )
