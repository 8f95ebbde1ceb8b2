"""A line chart as inline SVG, which needs no library in the page."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import final

from trimask.report.block import Block

_WIDTH, _HEIGHT = 360.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 38.0, 12.0, 18.0, 34.0

_Place = Callable[[float | int, float | int], tuple[float, float]]
"""Maps a point (x, y) of the data to pixels."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """A baseline to beat, drawn as a dashed line."""

    label: str
    value: float | int


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Chart(Block):
    """A curve (x, y) with its floors. Points that are not finite are left out; one point is enough."""

    title: str
    x: Sequence[float | int]
    y: Sequence[float | int]
    x_label: str
    y_label: str
    floors: Sequence[Floor] = ()
    colour: str = "#2563a8"

    def html(self) -> str:
        points = [(x, y) for x, y in zip(self.x, self.y, strict=True) if math.isfinite(x + y)]
        if not points:
            return f"<figure class=chart><b>{escape(self.title)}</b>: nothing measured yet</figure>"
        heights = [y for _, y in points] + [floor.value for floor in self.floors]
        x_ticks = _ticks(0.0, max(x for x, _ in points))
        y_ticks = _ticks(min(0.0, *heights), max(heights))
        across = (x_ticks[0], max(x_ticks[-1], max(x for x, _ in points)))
        up = (y_ticks[0], y_ticks[-1])

        def place(x: float | int, y: float | int) -> tuple[float, float]:
            inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
            right = (x - across[0]) / ((across[1] - across[0]) or 1.0)
            high = (y - up[0]) / ((up[1] - up[0]) or 1.0)
            return _LEFT + right * inner_width, _TOP + (1 - high) * inner_height

        parts = [*self._axes(x_ticks, y_ticks, place), *self._floors(place)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (place(x, y) for x, y in points))
        parts.append(f"<polyline points='{path}' fill='none' stroke='{self.colour}' stroke-width='2'/>")
        end_x, end_y = place(*points[-1])
        parts.append(f"<circle cx='{end_x:.1f}' cy='{end_y:.1f}' r='3' fill='{self.colour}'/>")
        label = escape(f"{self.title}: {self.y_label} over {self.x_label}", quote=True)
        box = f"viewBox='0 0 {_WIDTH:.0f} {_HEIGHT:.0f}' role='img' aria-label='{label}'"
        last = f"{points[-1][1]:.2f} {escape(self.y_label)} at the end"
        caption = f"<figcaption><b>{escape(self.title)}</b> <span>{last}</span></figcaption>"
        return f"<figure class=chart>{caption}<svg {box}>{''.join(parts)}</svg></figure>"

    def _axes(self, x_ticks: list[float], y_ticks: list[float], place: _Place) -> list[str]:
        parts = []
        for value in y_ticks:
            x, y = place(x_ticks[0], value)
            parts.append(
                f"<line x1='{x:.1f}' x2='{_WIDTH - _RIGHT:.1f}' y1='{y:.1f}' y2='{y:.1f}' class='grid'/>"
            )
            parts.append(f"<text x='{x - 6:.1f}' y='{y + 3.5:.1f}' text-anchor='end'>{value:g}</text>")
        for value in x_ticks:
            x, y = place(value, y_ticks[0])
            parts.append(f"<text x='{x:.1f}' y='{y + 15:.1f}' text-anchor='middle'>{value:g}</text>")
        x = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(
            f"<text x='{x:.1f}' y='{_HEIGHT - 4:.1f}' text-anchor='middle'>{escape(self.x_label)}</text>"
        )
        return parts

    def _floors(self, place: _Place) -> list[str]:
        parts = []
        for floor in self.floors:
            _, y = place(0.0, floor.value)
            end = _WIDTH - _RIGHT
            parts.append(f"<line x1='{_LEFT}' x2='{end:.1f}' y1='{y:.1f}' y2='{y:.1f}' class='floor'/>")
            text = escape(f"{floor.label} {floor.value:.1f}")
            parts.append(
                f"<text x='{end:.1f}' y='{max(y - 4, 9.0):.1f}' text-anchor='end' class='floor'>{text}</text>"
            )
        return parts


def _ticks(low: float | int, high: float | int) -> list[float]:
    """Return about five round values that cover [low, high]."""
    span = (high - low) or 1.0
    rough = span / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]
