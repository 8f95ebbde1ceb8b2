"""Fit the results of a grid of sizes and lengths, and say what they tell of each loss."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trimask.laws.budgets import PARABOLA_WARNING, fit_parabolas
from trimask.laws.fitting import Fit
from trimask.laws.scaling import FLOPS_PER_TOKEN, share_of_data, share_of_size
from trimask.questions.scaling.findings import (
    CHECKS,
    PARABOLA_HEADER,
    check_future,
    check_otherwise,
    draw_law,
    draw_optimum,
    draw_parabolas,
    find_budgets,
    format_interval,
    format_number,
    optimum_at,
    parabola_rows,
)
from trimask.questions.scaling.fits import (
    BLOCKS,
    DATA,
    EPOCHS,
    FLOPS,
    OTHER_DRAWS,
    SIZE,
    TARGETS,
    Fitted,
    find_ceiling,
    find_done,
    fit_loss,
    split_noise,
)
from trimask.questions.scaling.published import compare_exponents, draw_published
from trimask.questions.scaling.repeats import tabulate_repeats
from trimask.studies.findings import Claim, Findings, Panel, Table, format_estimate
from trimask.studies.study import ALL
from trimask.studies.trial import Result

_CONSTRAINED = 4.0  # epochs: repeats up to here are nearly worth new data (Muennighoff et al. 2023)
_LAWS = "forecast.json"


def report_runs(
    inside: Sequence[Result],
    fitted: Fitted,
    repeated: Mapping[str, Fit],
    *,
    ceilings: Mapping[str, float],
    num_planned: int,
) -> Findings:
    """Say what the grid's runs `inside` tell: of those that have not diverged, `fitted` has the laws, and
    `repeated` the laws of repeated data. `ceilings`: by modality, the bits per token of knowing nothing.
    """
    done, fits, reasons = find_done(inside), fitted.fits, fitted.reasons
    notes = list(_notes(inside, done, num_planned))
    if not done:
        return Findings(claims=(), tables=(), pictures={}, notes=tuple(notes))
    if not fits:
        return Findings(
            claims=tuple(_identified(reasons)), tables=(_counts(done),), pictures={}, notes=tuple(notes)
        )
    loss = ALL if ALL in fits else next(iter(fits))
    fit = fits[loss]
    budgets = find_budgets(fit)
    parabolas = fit_parabolas(fit.inputs["n"], fit.losses, budgets)
    future, trend = check_future(fit, budgets, loss)
    shown = [float(budgets.flops[0]), float(budgets.flops[-1]), 100 * float(budgets.flops[-1])]
    tables = [
        _parameters(fits),
        _countings(done, fits),
        _optima(fits, shown),
        future,
        _checks(done[0], fits, ceilings),
        Table(
            title=f"isoFLOP parabolas ({loss}), for comparison",
            header=PARABOLA_HEADER,
            rows=tuple(parabola_rows(fit, parabolas)),
        ),
        compare_exponents({loss: each.derive(share_of_size) for loss, each in fits.items()}),
        _counts(done),
    ]
    repeats = tabulate_repeats(repeated, fits)
    tables[1:1] = [repeats] if repeats else []
    panels: tuple[Panel, ...] = tuple(
        draw_law(each, loss, "D, target tokens", "bits/token") for loss, each in fits.items()
    )
    second = (
        draw_optimum(fits, np.geomspace(shown[0], shown[1], 7).tolist()),
        draw_parabolas(parabolas, "bits/token"),
        draw_published(fit),
    )
    notes += [*trend, *_describe_noise(done, fits), PARABOLA_WARNING]
    notes += fit.law.procedure
    return Findings(
        claims=(*_identified(reasons), *_shares(fits)),
        tables=tuple(tables),
        pictures={"losses": (panels[:2], panels[2:]), "optimum": (second,)},
        notes=tuple(notes),
        files={_LAWS: _describe_laws(fits, reasons)},
    )


def _describe_noise(results: Sequence[Result], fits: Mapping[str, Fit]) -> Iterator[str]:
    """Yield how much of the residuals is common to the sizes of one length and seed."""
    for loss, fit in fits.items():
        noise = split_noise(results, fit)
        if noise is None:
            return
        own, common = noise
        size, share = 100 * math.sqrt(common + own), 100 * common / (common + own or 1.0)
        yield (
            f"{loss}: residuals of {size:.2f} %; {share:.0f} % of their variance is common to all sizes of "
            "one length and seed, which see the same data in the same order."
        )


def _identified(reasons: Mapping[str, Sequence[str]]) -> Iterator[Claim]:
    for loss, each in reasons.items():
        text = f"{loss}: the runs identify L = E + A/N^alpha + B/D^beta"
        yield Claim(text=f"{text}; {'; '.join(each)}" if each else text, holds=None if each else True)


def _shares(fits: Mapping[str, Fit]) -> Iterator[Claim]:
    """Claim whether the best size grows faster with compute than the data."""
    for loss, fit in fits.items():
        share = fit.derive(share_of_size)
        is_told = share.has_interval and not share.low <= 0.5 <= share.high and not fit.doubts
        yield Claim(
            text=f"{loss}: with more compute the best size grows faster than the data: N* ∝ C^a, a = "
            f"{format_estimate(share)}",
            holds=share.value > 0.5 if is_told else None,
        )


def _parameters(fits: Mapping[str, Fit]) -> Table:
    names = next(iter(fits.values())).law.parameters
    rows = [
        (
            loss,
            *(format_interval(each) for each in fit.parameters.values()),
            f"{100 * float(np.sqrt((fit.residuals**2).mean())):.2f} %",
        )
        for loss, fit in fits.items()
    ]
    return Table(
        title="L = E + A/N^alpha + B/D^beta in bits per target token; N: parameters in blocks, D: target "
        "tokens of all modalities; 95 % by bootstrap, runs of one length and seed together",
        header=("loss", *names, "rms error"),
        rows=tuple(rows),
    )


def _countings(results: Sequence[Result], fits: Mapping[str, Fit]) -> Table:
    """Tabulate a and b under each way of counting N. Every D is in proportion to the others, since the
    mixture is fixed: their exponents are the same.
    """
    ways = [name for name in results[0].figures if name.startswith(f"{SIZE}/")]
    rows = []
    for loss in fits:
        cells = []
        for way in ways:
            fit = fits[loss]
            if way != BLOCKS:
                fit = fit_loss(results, loss, way, num_draws=min(len(fit.draws), OTHER_DRAWS))
            cells += [format_estimate(fit.derive(share_of_size)), format_estimate(fit.derive(share_of_data))]
        rows.append((loss, *cells))
    header = [
        f"{letter}, N of {way.removeprefix(f'{SIZE}/')}" for way in ways for letter in ("a (N*)", "b (D*)")
    ]
    return Table(
        title="Exponents of N* ∝ C^a and D* ∝ C^b by what N counts; what D counts is a factor, as the "
        "mixture is fixed",
        header=("loss", *header),
        rows=tuple(rows),
    )


def _optima(fits: Mapping[str, Fit], budgets: Sequence[float]) -> Table:
    rows = [
        (loss, format_number(flops), *(format_interval(each) for each in optimum_at(fit, flops)))
        for loss, fit in fits.items()
        for flops in budgets
    ]
    return Table(
        title="Best size and data at compute C = 6 N D; the last budget is 100 times the largest measured",
        header=("loss", "C", "N*", "D*"),
        rows=tuple(rows),
    )


def _checks(run: Result, fits: Mapping[str, Fit], ceilings: Mapping[str, float]) -> Table:
    rows = [
        (loss, name, f"{share:.3f}", format_estimate(fit.derive(share_of_size), 3), what)
        for loss, fit in fits.items()
        for name, share, what in check_otherwise(fit, ceiling=find_ceiling(run, loss, ceilings))
    ]
    return Table(
        title=CHECKS,
        header=("loss", "fit", "a", "a of the table above", "outside of its interval"),
        rows=tuple(rows),
    )


def _counts(results: Sequence[Result]) -> Table:
    """Tabulate what the smallest and the largest run of each figure count."""
    names = [
        name for name in results[0].figures if name == FLOPS or name.split("/")[0] in (SIZE, DATA, EPOCHS)
    ]
    rows = []
    for name in names:
        values = [each.figure(name) for each in results]
        rows.append((name, format_number(min(values)), format_number(max(values))))
    ratios = [
        each.figure(FLOPS) / (FLOPS_PER_TOKEN * each.figure(BLOCKS) * each.figure(TARGETS))
        for each in results
    ]
    rows.append((f"{FLOPS} / (6 · {BLOCKS} · {TARGETS})", f"{min(ratios):.2f}", f"{max(ratios):.2f}"))
    return Table(
        title="What the grid's runs count. Fixed: the mixture's shares, depth, head dimension",
        header=("figure", "smallest", "largest"),
        rows=tuple(rows),
    )


def _describe_laws(fits: Mapping[str, Fit], reasons: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the laws as JSON: what any (N, D) can be forecast from, before it is run."""
    return {
        loss: {
            "law": fit.law.formula,
            "n": BLOCKS,
            "d": TARGETS,
            "parameters": {name: each.as_json() for name, each in fit.parameters.items()},
            "not_identified": list(reasons[loss]),
        }
        for loss, fit in fits.items()
    }


def _notes(inside: Sequence[Result], done: Sequence[Result], num_planned: int) -> Iterator[str]:
    yield (
        "Every trial is evaluated on the same held-out sequences, masks and times; losses are bits per "
        "target token. Each length has its own learning rate schedule."
    )
    if len(inside) < num_planned:
        missing = num_planned - len(inside)
        yield f"{missing} of the grid's {num_planned} trials are still to run: all figures are preliminary."
    if len(done) < len(inside):
        yield f"{len(inside) - len(done)} trials diverged and are left out."
    repeated = {
        name.removeprefix(f"{EPOCHS}/"): max(each.figure(name) for each in done)
        for name in (done[0].figures if done else {})
        if name.startswith(f"{EPOCHS}/")
    }
    for source, epochs in repeated.items():
        if epochs > _CONSTRAINED:
            yield (
                f"The longest runs see {source} {epochs:.1f} times: beyond {_CONSTRAINED:g} epochs repeats "
                "are worth less than new data, which bends the law of its modality upwards."
            )
