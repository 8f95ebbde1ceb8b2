"""Format scores with their intervals, and name splits and error rates."""

from collections.abc import Mapping
from typing import Any

from trimask.evaluation.words import BOTH, CHARACTERS, WORDS

_UNITS = {CHARACTERS: ", by character", BOTH: ", by character where a script has no spaces"}
SPLITS = {
    "train": "seen",
    "seen": "seen",
    "composition": "held-out composition",
    "validation": "unseen",
    "test": "unseen",
    "unseen": "unseen",
}


def error_rate_name(scores: Mapping[str, Any]) -> str:
    """Return the name of a word error rate, which depends on its `unit`."""
    if scores.get("unit") == CHARACTERS:
        return "character error rate (a script without spaces)"
    return f"word error rate{unit_suffix(scores)}"


def unit_suffix(scores: Mapping[str, Any]) -> str:
    """Return what to add to the name of a score that is not computed over words only."""
    return _UNITS.get(scores.get("unit", WORDS), "")


def format_figure(estimate: Mapping[str, float] | None, *, is_share: bool = False) -> str:
    """Format a value with its interval; shares as percentages."""
    if estimate is None:
        return "–"
    if "low" not in estimate:
        return _format_number(estimate["value"], is_share) + (" %" if is_share else "")
    low, high = _format_number(estimate["low"], is_share), _format_number(estimate["high"], is_share)
    return f"{_format_number(estimate['value'], is_share)}{' %' if is_share else ''} ({low}–{high})"


def _format_number(value: float, is_share: bool = False) -> str:
    if not is_share:
        return f"{value:.2f}"
    return f"{100 * value:.1f}" if 0 < value < 0.1 else f"{100 * value:.0f}"
