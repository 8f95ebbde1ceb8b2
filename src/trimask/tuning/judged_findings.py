"""What judged samples say: the rounds of the tuning, and the presets beside other settings on new prompts."""

from collections.abc import Mapping, Sequence

from trimask.sampling.config import SamplerConfig
from trimask.sampling.guidance import ConstantGuidance
from trimask.sampling.recompute import Everything
from trimask.studies.findings import Claim, Curve, Findings, Panel, Table, format_estimate
from trimask.studies.trial import Result
from trimask.tuning.judged import OWN, Sampled, TaskTuning
from trimask.tuning.trial import describe

_PER_PROMPT = ("errors/", "units/")
_SHOWN = ("positions_per_result", "cpu_seconds", "is_sound")


def report_tuning(
    tunings: Sequence[TaskTuning], results: Mapping[str, Result], unjudged: Mapping[str, str]
) -> Findings:
    """Return the findings, of finished and unfinished tunings.

    Args:
        unjudged: tasks that were not tuned, and why.
    """
    claims, tables, panels = [], [], []
    for each in tunings:
        checked = {row.label: row for row in each.checked(results)}
        if each.presets(results) is not None and len(checked) > 1:
            claims += _claims(each, checked)
            tables.append(_check_table(each, list(checked.values())))
            panels.append(_panel(each, list(checked.values())))
        tables += [_round_table(each, *found) for found in each.rounds(results)]
    left_out = "; ".join(f"{task} ({why})" for task, why in unjudged.items())
    return Findings(
        claims=tuple(claims),
        tables=tuple(tables),
        pictures={"judged": tuple((panel,) for panel in panels)} if panels else {},
        notes=(f"Not judged, so with the run's own filters and guidance: {left_out}.",) if left_out else (),
    )


def _claims(tuning: TaskTuning, checked: Mapping[str, Sampled]) -> list[Claim]:
    """State whether the tuned preset is as good as each other setting, at what share of its cost."""
    preset = checked.get(tuning.base)
    if preset is None:
        return []
    claims = []
    for label, row in checked.items():
        if label in tuning.chosen:
            continue
        at = f"at {preset.positions / row.positions:.2f} of its positions"
        if row.is_sound or not preset.is_sound:
            gap = preset.gap(row)
            text = f"{tuning.base} has no more errors than {label}: {format_estimate(gap, 3)} more, {at}"
            claims.append(Claim(text=f"{tuning.task}: on new prompts, {text}", holds=gap.low <= 0))
        else:  # its errors are low for a bad reason
            text = f"{tuning.base} is sound, {at}, and {label} is not"
            claims.append(Claim(text=f"{tuning.task}: on new prompts, {text}", holds=True))
    return claims


def _check_table(tuning: TaskTuning, rows: Sequence[Sampled]) -> Table:
    quality = tuning.tuning.qualities[tuning.task]
    own = next((row for row in rows if row.label == OWN), rows[-1])
    extra = _figures(own.result)
    return Table(
        title=f"{tuning.task}, {own.rate.n} prompts that the choice never saw: {quality.unit}",
        header=(
            *("setting", "sampler", "errors", f"more than {own.label}", "positions a result"),
            *(f"{own.label}'s / its own", "CPU s a result", "sound"),
            *(name.replace("_", " ") for name in extra),
        ),
        rows=tuple(
            (
                *(row.label, summarize(row.sampler), format_estimate(row.rate, 3)),
                "–" if row is own else format_estimate(row.gap(own), 3),
                *(f"{row.positions:,.0f}", f"{own.positions / row.positions:.2f}"),
                f"{row.result.figure('cpu_seconds') / len(row.errors):.2f}",
                "yes" if row.is_sound else "no",
                *(f"{row.result.figure(name):.2f}" for name in extra),
            )
            for row in rows
        ),
    )


def _round_table(tuning: TaskTuning, name: str, tried: Sequence[Sampled], best: Sampled) -> Table:
    """Tabulate what a round tried, beside the best after it."""
    rows = tried if best in tried else [best, *tried]
    extra = _figures(best.result)
    return Table(
        title=f"{tuning.task}, tuning of {name}: {tuning.tuning.qualities[tuning.task].unit}",
        header=(
            *("chosen", "tried", "errors", "more than the chosen", "positions a result", "sound"),
            *(each.replace("_", " ") for each in extra),
        ),
        rows=tuple(
            (
                *("×" if row is best else "", row.label, format_estimate(row.rate, 3)),
                "–" if row is best else format_estimate(row.gap(best), 3),
                *(f"{row.positions:,.0f}", "yes" if row.is_sound else "no"),
                *(f"{row.result.figure(each):.2f}" for each in extra),
            )
            for row in rows
        ),
    )


def _panel(tuning: TaskTuning, rows: Sequence[Sampled]) -> Panel:
    presets = [row for row in rows if row.label in tuning.chosen]
    others = [row for row in rows if row.label not in tuning.chosen]
    return Panel(
        title=f"{tuning.task}: presets and other settings",
        x_label="positions computed for a result",
        y_label=tuning.tuning.qualities[tuning.task].unit,
        curves=(_curve("presets", presets), *(_curve(row.label, [row]) for row in others)),
    )


def _curve(label: str, rows: Sequence[Sampled]) -> Curve:
    ordered = sorted(rows, key=lambda row: row.positions)
    return Curve(label=label, x=[row.positions for row in ordered], y=[row.rate.value for row in ordered])


def _figures(result: Result) -> list[str]:
    """Return the names of the figures of a whole set."""
    return [name for name in result.figures if not name.startswith(_PER_PROMPT) and name not in _SHOWN]


def summarize(sampler: SamplerConfig) -> str:
    """Say in a few words what a sampler does."""
    steps = describe(sampler.count) if sampler.num_steps is None else f"{sampler.num_steps} steps"
    ramp = "" if sampler.guidance_ramp == ConstantGuidance() else f" {describe(sampler.guidance_ramp)}"
    grid = type(sampler.grid).__name__  # a tabulated one has a hundred numbers
    return ", ".join(
        [
            *(describe(sampler.order), steps, grid),
            *([] if sampler.block_length is None else [f"blocks of {sampler.block_length}"]),
            *(["ends last"] if sampler.ends_last else []),
            *([] if sampler.recompute == Everything() else [describe(sampler.recompute)]),
            *(describe(each) for each in sampler.filters),
            *([] if sampler.guidance_scale == 1 else [f"guidance {sampler.guidance_scale:g}{ramp}"]),
            *(f"{modality}: {summarize(other)}" for modality, other in sampler.targets.items()),
        ]
    )
