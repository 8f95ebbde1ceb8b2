"""Sampler settings as earlier versions stored them, when an order also said how many slots a step reveals."""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from trimask.config import to_dict
from trimask.sampling.defaults import DEFAULTS, OTHER

logger = logging.getLogger(__name__)

_LINEAR = {"type": "Linear"}
_ANCESTRAL = {"type": "Ancestral"}
_OLD_ORDERS = ("Ancestral", "LeftToRightBlocks")


def convert_old_samplers(run: Any) -> Any:
    """Convert the sampler settings of a run's stored configuration to the form of this version; settings of
    this version stay as they are, and so does what is no run.

    The order `Ancestral` is now a count, in random order; `LeftToRightBlocks` is `block_length`, with the
    order inside a block; and a grid gives fractions of masked slots, as it did with the schedule `Linear`. A
    task with another schedule, or with an order of the user's own, gets its default settings, and a warning
    names it: orders of earlier versions had other methods.
    """
    if not isinstance(run, Mapping) or not isinstance(run.get("sampler"), Mapping):
        return run
    return {**run, "sampler": {task: _convert(task, row) for task, row in run["sampler"].items()}}


def _convert(task: str, row: Any) -> Any:
    if not isinstance(row, Mapping) or ("schedule" not in row and _kind(row.get("order")) not in _OLD_ORDERS):
        return row
    found = _split_order(row)
    if found is None:
        _warn(task)
        return to_dict(DEFAULTS.get(task, OTHER))
    return found


def _split_order(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an old row with its order split into order, count and block length; None if this version has no
    such settings."""
    order = row.get("order", _ANCESTRAL)
    rest = {name: value for name, value in row.items() if name not in ("order", "schedule")}
    if row.get("schedule", _LINEAR) != _LINEAR:
        return None
    if _kind(order) == "LeftToRightBlocks":
        rest["block_length"] = order.get("block_length")
        order = order.get("inner")
    if _kind(order) == "Ancestral":
        return {**rest, "order": {"type": "Random"}, "count": _ANCESTRAL}
    return {**rest, "order": order} if _kind(order) == "Confidence" else None


def _kind(order: Any) -> Any:
    return order.get("type") if isinstance(order, Mapping) else None


@cache
def _warn(task: str) -> None:
    """Warn once: the configuration of a run is read several times."""
    logger.warning(
        "sampler.%s was stored by an earlier version, with settings that this version does not have: the "
        "defaults are used instead",
        task,
    )
