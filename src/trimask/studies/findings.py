"""The findings of a study: claims, tables and pictures, as values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from trimask.estimate import Estimate


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A sentence with its figures, and whether it holds; None if the runs cannot decide."""

    text: str
    holds: bool | None


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """y over x; `low` and `high` are the ends of intervals; `is_points`: no line joins them."""

    label: str
    x: Sequence[float | int]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    is_dashed: bool = False
    is_points: bool = False
    has_markers: bool = True


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One diagram; logarithmic axes have base 2."""

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    is_log_y: bool = False
    is_log_x: bool = True


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """`pictures`: name -> rows of panels. `files`: name -> JSON values to write beside the report."""

    claims: tuple[Claim, ...]
    tables: tuple[Table, ...]
    pictures: Mapping[str, tuple[tuple[Panel, ...], ...]]
    notes: tuple[str, ...] = ()
    files: Mapping[str, Any] = field(default_factory=dict)


def format_estimate(estimate: Estimate, digits: int = 2) -> str:
    """Format as `0.44 [0.30, 0.58]`, or without an interval if there is none."""
    value = f"{estimate.value:.{digits}f}"
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return value
    return f"{value} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
