"""Claims, tables and pictures of the laws in the study of mixtures."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from trimask.estimate import Estimate
from trimask.laws.best_mixture import Best, Goal
from trimask.questions.mixing.answer import Answer, Judged
from trimask.questions.mixing.left_out import claim_less, format_mean_error, tell_sign
from trimask.questions.mixing.runs import ALONE, BEST, FITTED, HELD_OUT, Measured, Shares
from trimask.studies.findings import Claim, Curve, Findings, Panel, Table, format_estimate
from trimask.studies.study import ALL

_POINTS = 40  # of a curve


def mixing_findings(found: Answer, measured: Measured) -> Findings:
    """Say what the laws found, as far as they did."""
    tables, claims = [_fixed_table(measured), _mixture_table(found, measured)], []
    notes = []
    if measured.num_diverged:
        notes.append(f"{measured.num_diverged} runs diverged and are left out.")
    if found.refusal:
        notes.append(f"No {'best mixture' if found.laws else 'law'} yet: {found.refusal}.")
    if not found.laws:
        return Findings(claims=(), tables=tuple(_kept(tables)), pictures={}, notes=tuple(notes))
    claims += [_law_claim(modality, found) for modality in measured.modalities]
    tables.append(_law_table(found, measured))
    if found.goal is not None and found.best is not None:
        claims += _best_claims(found.goal, found.best, measured)
        tables += [_parameter_table(found.goal), _best_table(found, found.goal, found.best)]
        tables.append(_gain_table(found.goal, found.best, measured))
        notes += _best_notes(found.goal, found.best)
    return Findings(
        claims=tuple(claims),
        tables=tuple(_kept(tables)),
        pictures={"mixing": (_predicted_panels(found, measured), _share_panels(found, measured))},
        notes=tuple(notes),
        files={"mixtures.json": _as_json(found, measured)},
    )


def _kept(tables: Sequence[Table]) -> Iterator[Table]:
    return (table for table in tables if table.rows)


def _fixed_table(measured: Measured) -> Table:
    """Tabulate what was held fixed, as it came out."""

    def cell(name: str, role: str) -> str:
        values = [run.figure(name) for run in measured.of(role) if run.figures.get(name)]
        low, high = min(values, default=math.nan), max(values, default=math.nan)
        return (
            "–"
            if not values
            else f"{low:,.0f}"
            if f"{low:,.0f}" == f"{high:,.0f}"
            else f"{low:,.0f} – {high:,.0f}"
        )

    names = ("target_tokens", "tokens_per_update", "num_updates")
    return Table(
        title="What is held fixed: target tokens of a run, and of an update as far as whole sequences allow",
        header=("runs", "number", *(name.replace("_", " ").replace("num ", "") for name in names)),
        rows=tuple(
            (role, f"{len(measured.of(role))}", *(cell(name, role) for name in names))
            for role in (FITTED, HELD_OUT, BEST, ALONE)
            if measured.of(role)
        ),
    )


def _mixture_table(found: Answer, measured: Measured) -> Table:
    """Tabulate the losses of each mixture, and the errors there of laws that were not fitted to it."""

    def cell(role: str, shares: Shares, modality: str, bits: float) -> str:
        if not found.laws:
            return f"{bits:.3f}"
        chosen = found.chosen(modality)
        errors = {FITTED: chosen.left_out, HELD_OUT: chosen.held_out}.get(role, {})
        return f"{bits:.3f} ({100 * errors[shares]:+.1f} %)" if shares in errors else f"{bits:.3f}"

    rows = [
        (
            role,
            *(f"{share:g}" for share in shares),
            f"{len(runs)}",
            *(cell(role, shares, each, measured.mean(runs, each)) for each in measured.modalities),
            f"{measured.mean(runs, ALL):.3f}",
        )
        for (role, shares), runs in measured.rows(FITTED, HELD_OUT, BEST).items()
    ]
    return Table(
        title="Held-out bits per token by shares of target tokens (error of the chosen law, fitted without "
        "the mixture); all: of all tokens, at the default's shares",
        header=("mixture", *measured.tasks, "seeds", *measured.modalities, ALL),
        rows=tuple(rows),
    )


def _law_table(found: Answer, measured: Measured) -> Table:
    rows = []
    for modality in measured.modalities:
        noise = measured.noise(modality)
        rows += [
            (
                modality,
                judged.fit.law.formula + (" (chosen)" if judged is found.chosen(modality) else ""),
                f"{len(judged.fit.law.parameters)}",
                f"{100 * float(np.abs(judged.fit.residuals).mean()):.2f}",
                format_mean_error(list(judged.left_out.values())),
                format_mean_error(list(judged.held_out.values())),
                "–" if noise is None else f"{100 * noise:.2f}",
            )
            for judged in found.laws[modality]
        ]
    number = len(found.laws[measured.modalities[0]][0].left_out)
    return Table(
        title=f"Laws fitted to {number} mixtures: mean relative error in percent",
        header=("loss", "law", "parameters", "of the fit", "left out", "held out", "noise of one run (s.d.)"),
        rows=tuple(rows),
    )


def _law_claim(modality: str, found: Answer) -> Claim:
    """Claim that the chosen law errs less than a linear one at mixtures that neither was fitted to."""
    chosen = found.chosen(modality)
    linear = next(each for each in found.laws[modality] if each.is_baseline)
    return claim_less(f"{modality}: {chosen.fit.law.formula}", chosen.errors, linear.errors)


def _parameter_table(goal: Goal) -> Table:
    return Table(
        title="Parameters of the chosen laws, with intervals over the runs",
        header=("loss", "law", "parameter", "value"),
        rows=tuple(
            (modality, fit.law.formula, name, format_estimate(value, 3))
            for modality, fit in goal.fits.items()
            for name, value in fit.parameters.items()
        ),
    )


def _best_table(found: Answer, goal: Goal, best: Best) -> Table:
    rows = []
    for (task, share), cap in zip(best.shares.items(), goal.limits.bounds[1], strict=True):
        whole = found.epochs.get(task)
        default = goal.limits.default[task]
        epochs = ("–", "–") if whole is None else (f"{default * whole:.2f}", f"{share.value * whole:.2f}")
        rows.append((task, f"{default:.3f}", format_estimate(share, 3), *epochs, f"{cap:.2f}"))
    return Table(
        title=f"The best mixture within {goal.limits.trust:g} nats of the default, for priorities "
        + ", ".join(f"{name} {weight:g}" for name, weight in goal.priorities.items()),
        header=("task", "default", "best share", "epochs at the default", "at the best", "largest share"),
        rows=tuple(rows),
    )


def _gain_table(goal: Goal, best: Best, measured: Measured) -> Table:
    """Tabulate what the best mixture changes, as predicted and as measured."""
    predicted = {name: _percent(change) for name, change in best.changes.items()}
    rows = []
    for name, change in predicted.items():
        found = _measured_change(measured, {name: 1.0})
        rows.append((name, format_estimate(change), "–" if found is None else format_estimate(found)))
    gain = _percent(best.gain)
    found = _measured_change(measured, goal.priorities)
    rows.append(
        ("by priorities", format_estimate(_negative(gain)), "–" if found is None else format_estimate(found))
    )
    return Table(
        title="From the default to the best mixture: change of the loss in percent",
        header=("loss", "predicted", "measured"),
        rows=tuple(rows),
    )


def _best_claims(goal: Goal, best: Best, measured: Measured) -> Iterator[Claim]:
    shares = ", ".join(f"{task} {share.value:.2f}" for task, share in best.shares.items())
    gain = _percent(best.gain)
    sign = tell_sign(gain)
    yield Claim(
        text=f"by the laws, {shares} is better than the default by {format_estimate(gain)} % of the mean "
        "relative loss" + ("" if sign else "; within noise"),
        holds=sign,
    )
    found = _measured_change(measured, goal.priorities)
    if found is not None:
        won = _negative(found)
        sign = tell_sign(won)
        yield Claim(
            text=f"run, it is better by {format_estimate(won)} %"
            + ("; within noise" if sign is None and won.has_interval else ""),
            holds=sign,
        )


def _best_notes(goal: Goal, best: Best) -> Iterator[str]:
    procedures = {fit.law.formula: fit.law.procedure for fit in goal.fits.values()}
    for formula, sentences in procedures.items():
        yield f"{formula}: {'; '.join(sentences)}. Intervals: {_draws(goal)} draws of the runs' residuals."
    yield (
        "The best mixture minimizes the mean of the relative losses, weighted by the priorities: bits per "
        "token of different tokenizers have no common unit, their relative change has none. From its "
        f"predicted gain {100 * best.optimism:.3f} points are taken off for optimism: what choosing by noisy "
        "laws promises too much."
    )


def _draws(goal: Goal) -> int:
    return min(len(fit.draws) for fit in goal.fits.values())


def _measured_change(measured: Measured, weights: Mapping[str, float]) -> Estimate | None:
    """Return the measured change from the default to the best mixture, in percent; None before it has run."""
    changes = measured.changes(weights, (FITTED, measured.default))
    found = [change for (role, _), change in changes.items() if role == BEST]
    return _percent(found[-1]) if found else None


def _percent(estimate: Estimate) -> Estimate:
    return Estimate(value=100 * estimate.value, low=100 * estimate.low, high=100 * estimate.high)


def _negative(estimate: Estimate) -> Estimate:
    return Estimate(value=-estimate.value, low=-estimate.high, high=-estimate.low)


def _predicted_panels(found: Answer, measured: Measured) -> tuple[Panel, ...]:
    panels = []
    for modality in measured.modalities:
        chosen = found.chosen(modality)
        curves, ends = [], []
        for label, role, errors in (
            ("left out", FITTED, chosen.left_out),
            ("held out", HELD_OUT, chosen.held_out),
        ):
            rows = measured.rows(role)
            points = sorted(
                (bits * (1 + error), bits)
                for shares, error in errors.items()
                for bits in [float(measured.adjust(rows[role, shares], modality).mean())]
            )
            ends += [value for point in points for value in point]
            curves.append(
                Curve(label=label, x=[x for x, _ in points], y=[y for _, y in points], is_points=True)
            )
        line = [min(ends), max(ends)]
        curves.append(Curve(label="as predicted", x=line, y=line, is_dashed=True, has_markers=False))
        panels.append(
            Panel(
                title=f"{modality}: {chosen.fit.law.formula}",
                x_label="predicted bits/token",
                y_label="bits/token",
                curves=tuple(curves),
                is_log_x=False,
            )
        )
    return tuple(panels)


def _share_panels(found: Answer, measured: Measured) -> tuple[Panel, ...]:
    """Draw each loss over the share of its own task, and the laws with equal shares of the others."""
    panels = []
    for place, (task, modality) in enumerate(measured.tasks.items()):
        rows = measured.rows(FITTED, HELD_OUT)
        points = sorted(
            (shares[place], float(measured.adjust(runs, modality).mean()))
            for (_, shares), runs in rows.items()
        )
        own = np.geomspace(points[0][0], points[-1][0], _POINTS)
        others = (1 - own) / (len(measured.tasks) - 1)
        curves = [Curve(label="runs", x=[x for x, _ in points], y=[y for _, y in points], is_points=True)]
        curves += [
            _law_curve(judged, {name: own if name == task else others for name in measured.tasks}, own)
            for judged in found.laws[modality]
            if not judged.is_baseline
        ]
        panels.append(
            Panel(title=modality, x_label=f"share of {task}", y_label="bits/token", curves=tuple(curves))
        )
    return tuple(panels)


def _law_curve(judged: Judged, shares: Mapping[str, np.ndarray], own: np.ndarray) -> Curve:
    values = judged.fit.law.predict(shares, judged.fit.estimate[None])[0]
    return Curve(
        label=judged.fit.law.formula, x=own.tolist(), y=values.tolist(), is_dashed=True, has_markers=False
    )


def _as_json(found: Answer, measured: Measured) -> dict[str, object]:
    """Return the laws and the best mixture as JSON values."""
    laws = {
        modality: {
            "law": found.chosen(modality).fit.law.formula,
            "parameters": {
                name: value.as_json() for name, value in _chosen_parameters(found, modality).items()
            },
        }
        for modality in measured.modalities
    }
    if found.best is None:
        return {"laws": laws}
    return {
        "laws": laws,
        "best": {task: share.as_json() for task, share in found.best.shares.items()},
        "gain": found.best.gain.as_json(),
    }


def _chosen_parameters(found: Answer, modality: str) -> Mapping[str, Estimate]:
    fit = found.chosen(modality).fit if found.goal is None else found.goal.fits[modality]
    return fit.parameters
