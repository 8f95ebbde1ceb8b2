"""What the likelihoods of samplers say: fronts of likelihood against passes, and presets."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from trimask.estimate import Estimate, ratio
from trimask.runs.presets import PRESETS
from trimask.sampling.config import SamplerConfig
from trimask.sampling.count import AdaptiveCount
from trimask.sampling.order import EvidenceOrder, FixedOrder
from trimask.sampling.recompute import Everything
from trimask.studies.findings import Claim, Curve, Findings, Panel, Table, format_estimate
from trimask.studies.trial import Result, trial_name
from trimask.tuning.judged import column
from trimask.tuning.trial import BACKEND

PROFILE, MEASURED, LIMIT = "profile", "measured", "limit"
"""Rules of trials: an information profile, the grid that follows from it, and one slot per pass."""
_USE = (
    f"The presets are in `{PRESETS}`: use them with `--preset DIR/{PRESETS}:balanced`, or copy the file into "
    "the run's directory and name the preset alone; an export takes them along. They hold for these weights."
)
LOSSES = {"fast": 0.10, "balanced": 0.05, "best": 0.02}
"""Nats per token that a preset may lose to the task's lowest likelihood bound [D]."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A sampler with what it cost and lost.

    Attributes:
        nats: per token, with the interval over sequences.
        excess: nats per token above the task's lowest, paired by sequence.
        passes: per sequence, in the mean.
        position_passes: per target token: positions that the network computed.
        cpu_seconds: of the whole measurement.
        is_front: whether no other sampler has fewer position-passes and no more nats, or the reverse.
    """

    result: Result
    sampler: SamplerConfig
    nats: Estimate
    excess: Estimate
    passes: float
    position_passes: float
    cpu_seconds: float
    is_front: bool

    @property
    def order(self) -> str:
        return str(self.result.factors["order"])

    @property
    def rule(self) -> str:
        return str(self.result.factors["rule"])

    @property
    def recompute(self) -> str:
        return str(self.result.factors.get("recompute", "Everything"))

    @property
    def steps(self) -> int | None:
        steps = self.result.factors.get("steps")
        return None if steps is None else int(steps)


def report_samplers(
    results: Sequence[Result],
    samplers: Mapping[str, SamplerConfig],
    *,
    unfinished: Collection[str],
) -> Findings:
    """Return the findings.

    Args:
        samplers: by name of the result.
        unfinished: tasks with trials that are still to run; they get no presets.
    """
    by_task: dict[str, list[Result]] = {}
    for result in results:
        if result.factors["rule"] != PROFILE:
            by_task.setdefault(str(result.factors["task"]), []).append(result)
    ranked = {task: [row for row in rows if BACKEND not in row.factors] for task, rows in by_task.items()}
    measured = {task: measure_excess(rows, samplers) for task, rows in ranked.items() if rows}
    presets = {
        task: {name: choose(rows, loss) for name, loss in LOSSES.items()}
        for task, rows in measured.items()
        if task not in unfinished
    }
    claims = [claim for task, rows in measured.items() for claim in _claims(task, rows, task in unfinished)]
    return Findings(
        claims=tuple(claims),
        tables=(
            _presets_table(presets),
            *_backends_table(by_task),
            *(_table(task, rows) for task, rows in measured.items()),
        ),
        pictures={"fronts": tuple(_panels(task, rows) for task, rows in measured.items())},
        notes=(
            _USE,
            "Nats per token of held-out sequences, all targets of a task together, end tokens included, "
            "given the noise of the order. `excess` is paired by sequence with the sampler that has the "
            "fewest nats. No sampler has filters or guidance: the likelihood rewards coverage and says "
            "nothing of temperatures below 1 and of guidance. CPU seconds are those of scoring, in which "
            "nothing is drawn.",
        ),
    )


def measure_excess(results: Sequence[Result], samplers: Mapping[str, SamplerConfig]) -> list[Measured]:
    """Compare the samplers of one task with the one of the fewest nats."""
    nats = [column(result, "nats") for result in results]
    tokens = column(results[0], "tokens")
    best = nats[int(np.argmin([each.sum() for each in nats]))]
    cost = [result.figure("position_passes_per_token") for result in results]
    points = [(passes, float(each.sum())) for passes, each in zip(cost, nats, strict=True)]
    return [
        Measured(
            result=result,
            sampler=samplers[result.name],
            nats=ratio(own, tokens),
            excess=ratio(own - best, tokens),
            passes=result.figure("passes"),
            position_passes=cost[number],
            cpu_seconds=result.figure("cpu_seconds"),
            is_front=not any(_dominates(other, points[number]) for other in points),
        )
        for number, (result, own) in enumerate(zip(results, nats, strict=True))
    ]


def choose(rows: Sequence[Measured], loss: float) -> Measured:
    """Return the sampler of the fewest position-passes among those that lose at most `loss` nats per
    token."""
    good = [row for row in rows if row.excess.value <= loss]
    return min(good, key=lambda row: (row.position_passes, row.nats.value))


def _dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return whether one point (passes, nats) is at least as good in both, and another."""
    return one != other and one[0] <= other[0] and one[1] <= other[1]


def _claims(task: str, rows: Sequence[Measured], is_unfinished: bool) -> list[Claim]:
    """State what the plan of a sampler hangs on: the measured grid, fixed orders, planned counts."""
    rows = [row for row in rows if row.sampler.recompute == Everything()]
    fixed = [row for row in rows if isinstance(row.sampler.order, FixedOrder) and row.steps]
    evidence = [row for row in rows if isinstance(row.sampler.order, EvidenceOrder)]
    claims = []
    by_grid = {(row.order, row.steps, row.rule): row for row in fixed}
    pairs = [
        (row, other)
        for (order, steps, rule), row in by_grid.items()
        for other in by_grid.values()
        if rule == MEASURED and (other.order, other.steps) == (order, steps) and other.rule != rule
    ]
    if pairs:
        gaps = [_gap(row, other) for row, other in pairs]
        worst = max(range(len(gaps)), key=lambda i: gaps[i].value)
        row, other = pairs[worst]
        claims.append(
            Claim(
                text=f"{task}: the measured grid loses to no other: at worst {format_estimate(gaps[worst])} "
                f"nats more than {other.rule} ({row.order}, {row.steps} steps)",
                holds=None if is_unfinished else not any(gap.low > 0 for gap in gaps),
            )
        )
    by_steps = {steps: [row for row in fixed if row.steps == steps] for steps in {row.steps for row in fixed}}
    rivals = [
        (row, min(by_steps[row.steps], key=lambda each: each.nats.value))
        for row in evidence
        if by_steps.get(row.steps)
    ]
    if rivals:
        gaps = [_gap(row, fixed_row) for row, fixed_row in rivals]
        closest = min(range(len(gaps)), key=lambda i: gaps[i].value)
        row, other = rivals[closest]
        claims.append(
            Claim(
                text=f"{task}: at equal steps a fixed order beats all by evidence: the best of these, "
                f"{row.order} at {row.steps} steps, has {format_estimate(gaps[closest])} nats more than "
                f"{other.order}, {other.rule}",
                holds=None if is_unfinished else all(gap.value > 0 for gap in gaps),
            )
        )
    adaptive = [row for row in evidence if row.steps is None]
    if adaptive:
        front = [row for row in adaptive if row.is_front]
        named = ", ".join(f"{row.rule} ({row.passes:.0f} passes)" for row in front) or "none is"
        claims.append(
            Claim(
                text=f"{task}: no count that looks at the prediction is on the front: {named}",
                holds=None if is_unfinished else not front,
            )
        )
    return claims


def _gap(row: Measured, other: Measured) -> Estimate:
    """Return the nats per token that `row` has more than `other`, paired by sequence."""
    nats = column(row.result, "nats") - column(other.result, "nats")
    return ratio(nats, column(row.result, "tokens"))


def _presets_table(presets: Mapping[str, Mapping[str, Measured]]) -> Table:
    return Table(
        title="Presets: the fewest position-passes within "
        + ", ".join(f"{loss:.2f} ({name})" for name, loss in LOSSES.items())
        + " nats per token of the lowest",
        header=(
            *("task", "preset", "order", "rule", "steps", "recompute"),
            *("excess", "passes", "position-passes a token"),
        ),
        rows=tuple(
            (task, name, *_cells(row)[:4], format_estimate(row.excess, 3), *_cells(row)[4:])
            for task, found in presets.items()
            for name, row in found.items()
        ),
    )


def _backends_table(by_task: Mapping[str, Sequence[Result]]) -> list[Table]:
    """Tabulate what other backends cost, beside the same sampler with torch."""
    rows = []
    for task, results in by_task.items():
        by_name = {result.name: result for result in results}
        for result in results:
            factors = {name: value for name, value in result.factors.items() if name != BACKEND}
            same = by_name.get(trial_name(factors))
            if BACKEND in result.factors and same is not None:
                gap = ratio(column(result, "nats") - column(same, "nats"), column(same, "tokens"))
                saved = same.figure("cpu_seconds") / result.figure("cpu_seconds")
                cells = (task, str(result.factors[BACKEND]), format_estimate(gap, 4), f"{saved:.2f}")
                rows.append(cells)
    header = ("task", "backend", "nats more than torch", "torch's CPU time / its own")
    return (
        [Table(title="Precision, of the balanced sampler", header=header, rows=tuple(rows))] if rows else []
    )


def _table(task: str, rows: Sequence[Measured]) -> Table:
    """Tabulate all samplers of a task, by cost; those on the front are marked."""
    return Table(
        title=f"{task}: {rows[0].nats.n} held-out sequences, "
        f"{int(column(rows[0].result, 'tokens').sum()):,} target tokens",
        header=(
            *("front", "order", "rule", "steps", "recompute", "nats", "excess", "passes"),
            "position-passes a token",
            "CPU s",
        ),
        rows=tuple(
            (
                "×" if row.is_front else "",
                *_cells(row)[:4],
                format_estimate(row.nats),
                format_estimate(row.excess, 3),
                *_cells(row)[4:],
                f"{row.cpu_seconds:.1f}",
            )
            for row in sorted(rows, key=lambda row: (row.position_passes, row.nats.value))
        ),
    )


def _cells(row: Measured) -> tuple[str, str, str, str, str, str]:
    steps = "–" if row.steps is None else str(row.steps)
    return row.order, row.rule, steps, row.recompute, f"{row.passes:.1f}", f"{row.position_passes:.2f}"


def _panels(task: str, rows: Sequence[Measured]) -> tuple[Panel, ...]:
    """Draw nats over passes beside the front: fixed orders by grid, orders by evidence, adaptive counts."""
    front = [row for row in rows if row.is_front]
    adaptive = [row for row in rows if isinstance(row.sampler.count, AdaptiveCount)]
    planned = [row for row in rows if not isinstance(row.sampler.count, AdaptiveCount)]
    parts = {
        "fixed orders": [row for row in planned if isinstance(row.sampler.order, FixedOrder)],
        "orders by evidence": [row for row in planned if isinstance(row.sampler.order, EvidenceOrder)],
        "adaptive counts": adaptive,
    }
    return tuple(
        Panel(
            title=f"{task}: {what}",
            x_label="passes a sequence",
            y_label=f"{task}: nats per token",
            curves=(*_curves(some), _curve("front", front, is_dashed=True)),
        )
        for what, some in parts.items()
    )


def _curves(rows: Sequence[Measured]) -> list[Curve]:
    """Draw one curve for each order and rule; an adaptive count's strengths are one curve."""
    found: dict[str, list[Measured]] = {}
    for row in [each for each in rows if each.sampler.recompute == Everything()]:
        rule = type(row.sampler.count).__name__ if row.steps is None else row.rule
        found.setdefault(f"{row.order}, {rule}", []).append(row)
    return [_curve(label, each) for label, each in found.items()]


def _curve(label: str, rows: Sequence[Measured], *, is_dashed: bool = False) -> Curve:
    ordered = sorted(rows, key=lambda row: row.passes)
    return Curve(
        label=label,
        x=[row.passes for row in ordered],
        y=[row.nats.value for row in ordered],
        is_dashed=is_dashed,
    )
