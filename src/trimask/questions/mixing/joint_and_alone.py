"""Training tasks together, beside training each alone."""

import math
from collections.abc import Mapping, Sequence

from trimask.estimate import Estimate
from trimask.questions.mixing.runs import ALONE, FITTED, Measured
from trimask.studies.findings import Claim, Findings, Table, format_estimate
from trimask.studies.fit import fit_differences
from trimask.studies.trial import Result


def compare_with_alone(measured: Measured, arms: Mapping[str, tuple[float, float]]) -> Findings:
    """Compare the loss of each modality in runs of the default mixture with that in runs of its task
    alone, paired by seed. `arms`: name -> powers of the task's share that give the updates and the tokens per
    update of the run alone.
    """
    rows, claims = [], []
    for place, (task, modality) in enumerate(measured.tasks.items()):
        joint = measured.rows(FITTED).get((FITTED, measured.default), [])
        share = measured.default[place]
        found = {name: _runs_alone(measured, task, share, powers) for name, powers in arms.items()}
        found = {name: runs for name, runs in found.items() if runs}
        if not joint or not found:
            continue
        levels = [_logs(runs, modality) for runs in (joint, *found.values())]
        changes = fit_differences(levels, 0)[1:]
        rows.append((modality, "together", *_work(joint, share), f"{measured.mean(joint, modality):.3f}", ""))
        for (name, runs), change in zip(found.items(), changes, strict=True):
            bits = f"{measured.mean(runs, modality):.3f}"
            rows.append((modality, name, *_work(runs, 1.0), bits, format_estimate(change)))
            claims.append(_claim(modality, name, change, runs))
    if not rows:
        return Findings(claims=(), tables=(), pictures={})
    table = Table(
        title="Each task alone and all together: held-out bits per token, the same rows and masks for all",
        header=(
            "loss",
            "trained",
            "target tokens of it",
            "target tokens in all",
            "updates",
            "bits/token",
            "alone above together, %",
        ),
        rows=tuple(rows),
    )
    note = (
        "Alone: a task's own run, with its condition (a caption, a transcript) as ever; model, optimizer and "
        "schedule as in the joint run, whatever the batch and the number of updates. Runs of one task are "
        "compared, never fitted: the laws break where a share is 0."
    )
    return Findings(claims=tuple(claims), tables=(table,), pictures={}, notes=(note,))


def _runs_alone(measured: Measured, task: str, share: float, powers: tuple[float, float]) -> list[Result]:
    updates, batch = (round(share**power, 4) for power in powers)
    return [
        run
        for run in measured.of(ALONE)
        if run.factors[task] == 1 and run.factors["updates"] == updates and run.factors["batch"] == batch
    ]


def _logs(runs: Sequence[Result], modality: str) -> dict[int, float]:
    """seed -> 100 × the logarithm of the loss: differences are percents."""
    return {int(run.factors["seed"]): 100 * math.log(run.figure(modality)) for run in runs}


def _work(runs: Sequence[Result], share: float) -> tuple[str, str, str]:
    tokens, updates = runs[0].figures.get("target_tokens"), runs[0].figures.get("num_updates")
    if tokens is None or updates is None:
        return "–", "–", "–"
    return f"{share * tokens:,.0f}", f"{tokens:,.0f}", f"{updates:,.0f}"


def _claim(modality: str, name: str, change: Estimate, runs: Sequence[Result]) -> Claim:
    """Claim that training together is better, if the interval is above 0; that it is not, if it is below."""
    holds = True if change.low > 0 else False if change.high < 0 else None
    return Claim(
        text=f"{modality}: training together is better than alone with {name} ({len(runs)} seeds): alone is "
        f"{format_estimate(change)} % above",
        holds=holds,
    )
