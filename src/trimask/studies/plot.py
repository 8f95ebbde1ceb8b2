"""Draw panels as pictures."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from trimask.io import atomic_write
from trimask.studies.findings import Curve, Panel

_COLOURS = ("#2563a8", "#b4571f", "#2e7d4f", "#7b4fa3", "#a8862a", "#5c6675", "#c0392b")
_MOST_TICKS = 8
_APART = 1.3


def draw(rows: Sequence[Sequence[Panel]], path: Path) -> None:
    """Write rows of panels as one SVG (text stays text). Panels of a column share a scale if they show the
    same quantity. Equal panels give equal bytes.
    """
    columns = max(len(row) for row in rows)
    is_shared = all(len({panel.y_label for panel in column}) == 1 for column in zip(*rows, strict=False))
    # One font: each text names all of them, and the usual ten are half a file.
    fonts = ["DejaVu Sans"]
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "trimask", "font.size": 9, "font.sans-serif": fonts}
    ):
        figure = Figure(figsize=(3.4 * columns, 2.9 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), columns, squeeze=False, sharey="col" if is_shared else "none")
        for axes_row, row in zip(grid, rows, strict=True):
            for axes in axes_row[len(row) :]:
                axes.set_axis_off()
            for axes, panel in zip(axes_row, row, strict=False):
                _panel(axes, panel)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def _panel(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=9, parse_math=False)  # names are the user's: "$" is no formula
    axes.set_xlabel(panel.x_label, parse_math=False)
    axes.set_ylabel(panel.y_label, parse_math=False)
    axes.grid(visible=True, color="#e2e6ec", linewidth=0.7)
    if panel.is_log_x:
        axes.set_xscale("log", base=2)
    if panel.is_log_y:
        axes.set_yscale("log", base=2)
    number = -1
    for curve in panel.curves:
        number += bool(curve.label) or number < 0  # a curve without a label goes with the one before
        _curve(axes, curve, _COLOURS[number % len(_COLOURS)])
    places = _choose_ticks({float(x) for curve in panel.curves for x in curve.x}) if panel.is_log_x else []
    if places and len(places) <= _MOST_TICKS:
        axes.set_xticks(places, [_format_tick(x) for x in places])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelrotation=30 if len(places) > 4 else 0)
    if any(curve.label for curve in panel.curves):
        for text in axes.legend(fontsize=7, frameon=False).get_texts():
            text.set_parse_math(False)


def _format_tick(x: float) -> str:
    if x < 1000:
        return f"{x:.3g}"
    return f"{x:,.0f}" if x < 1e7 else f"{x:.2g}"


def _choose_ticks(places: Iterable[float]) -> list[float]:
    """Return places in order, without those whose labels would lie over the one before."""
    chosen: list[float] = []
    for place in sorted(places):
        if not chosen or place >= _APART * chosen[-1]:
            chosen.append(place)
    return chosen


def _curve(axes: Axes, curve: Curve, colour: str) -> None:
    style = "" if curve.is_points else "--" if curve.is_dashed else "-"
    marker = "o" if curve.is_points or (curve.label and curve.has_markers) else ""
    axes.plot(curve.x, curve.y, linestyle=style, marker=marker, markersize=3, color=colour, label=curve.label)
    if curve.low is None or curve.high is None:
        return
    if all(map(math.isfinite, (*curve.low, *curve.high))):
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
