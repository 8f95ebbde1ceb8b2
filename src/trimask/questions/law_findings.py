"""What a law fitted to a table says: whether it is identified, its parameters, its residuals, how it was
fitted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from trimask.laws.fitting import Fit
from trimask.laws.mixing_law import MixingLaw
from trimask.laws.scaling import PowerLaw
from trimask.questions.mixing.left_out import describe_mixing_law
from trimask.questions.scaling.findings import describe_power_law, format_change, format_number
from trimask.studies.findings import Claim, Curve, Findings, Panel, Table


def describe_fit(fit: Fit) -> Findings:
    """Describe a fit of any law; a `PowerLaw` with its optimum and its checks too, a `MixingLaw`
    with its errors where mixtures are left out.
    """
    doubts = fit.doubts
    text = f"the table identifies {fit.law.formula}"
    claim = Claim(text=f"{text}; {'; '.join(doubts)}" if doubts else text, holds=None if doubts else True)
    own = Findings(claims=(), tables=(), pictures={})
    if isinstance(fit.law, PowerLaw):
        own = describe_power_law(fit)
    elif isinstance(fit.law, MixingLaw):
        own = describe_mixing_law(fit.law, fit)
    return Findings(
        claims=(claim, *own.claims),
        tables=(_parameters(fit), _quality(fit), *own.tables),
        pictures={**own.pictures, "residuals": ((_residuals(fit),),)},
        notes=(*own.notes, *fit.law.procedure, _describe_bootstrap(fit)),
        files=own.files,
    )


def describe_projections(findings: Findings, fit: Fit, points: Sequence[Mapping[str, float]]) -> Findings:
    """Add the loss that the law gives at `points`, with the interval of the law and of one more run there."""
    rows = []
    for point in points:
        inputs = {name: np.array([value]) for name, value in point.items()}
        (law,), (run,) = fit.project(inputs), fit.project(inputs, is_run=True)
        place = ", ".join(f"{name} {format_number(value)}" for name, value in point.items())
        rows.append((place, *(f"{value:.4g}" for value in (law.value, law.low, law.high, run.low, run.high))))
    header = ("at", "loss", "low", "high", "low of a run", "high of a run")
    table = Table(title="The law elsewhere", header=header, rows=tuple(rows))
    return replace(findings, tables=(table, *findings.tables))


def _parameters(fit: Fit) -> Table:
    rows = tuple(
        (name, *(format_number(value) for value in (each.value, each.low, each.high)))
        for name, each in fit.parameters.items()
    )
    return Table(title=fit.law.formula, header=("parameter", "estimate", "low", "high"), rows=rows)


def _quality(fit: Fit) -> Table:
    residuals = fit.residuals
    worst = int(np.abs(residuals).argmax())
    place = ", ".join(f"{name} {format_number(float(each[worst]))}" for name, each in fit.inputs.items())
    return Table(
        title="How well it fits",
        header=("rows", "runs", "rms error", "largest error", "at"),
        rows=(
            (
                f"{len(residuals)}",
                f"{fit.num_units}",
                f"{100 * float(np.sqrt((residuals**2).mean())):.2f} %",
                format_change(float(residuals[worst])),
                f"row {worst + 1} ({place})",
            ),
        ),
    )


def _residuals(fit: Fit) -> Panel:
    order = np.argsort(fit.losses, kind="stable")
    curve = Curve(
        label="",
        x=fit.losses[order].tolist(),
        y=(100 * fit.residuals[order]).tolist(),
        is_points=True,
    )
    return Panel(
        title="residuals", x_label="measured loss", y_label="predicted − measured, %", curves=(curve,)
    )


def _describe_bootstrap(fit: Fit) -> str:
    return (
        f"Intervals: 95 %, percentiles of {len(fit.draws):,} bootstrap draws of the {fit.num_units} runs; "
        "rows of one run, or of equal inputs where no run is named, are drawn together."
    )
