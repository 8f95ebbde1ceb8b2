"""Choose the next points on a grid of powers, until the best one is bracketed."""

import math
from collections.abc import Mapping

_MOST = 10  # points: a loss that keeps falling is a broken setting, not a distant optimum


def bracket_optimum(losses: Mapping[float, float], *, factor: float) -> tuple[float, ...]:
    """Return the points to run: 1 and its two neighbours, and one more beyond the best while it is the first
    or last.

    `losses`: of the points already run, infinite if one diverged. Powers of a `factor` that is a power
    of two are exact, so points can be compared.
    """
    points = {1 / factor, 1.0, factor} | set(losses)
    if points == set(losses) and len(points) < _MOST:
        if not any(map(math.isfinite, losses.values())):
            points.add(min(points) / factor)
        else:
            best = min(losses, key=lambda point: losses[point])
            if best == min(points):
                points.add(best / factor)
            elif best == max(points):
                points.add(best * factor)
    return tuple(sorted(points))


def select_around_best(losses: Mapping[float, float]) -> tuple[float, ...]:
    """Return the best point and its neighbours once it has both; else nothing."""
    points = sorted(losses)
    best = min(points, key=lambda point: losses[point], default=None)
    if best is None or best in (points[0], points[-1]):
        return ()
    place = points.index(best)
    return tuple(points[place - 1 : place + 2])
