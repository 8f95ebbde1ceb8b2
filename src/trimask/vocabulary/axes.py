"""Rotary coordinates of the positions of a span."""

import enum

import numpy as np
from jaxtyping import Float


class PictureAxes(enum.Enum):
    """The coordinates of a picture's positions: row and column [D, as M-RoPE], or, as on a line, the position
    on both axes.
    """

    GRID = "grid"
    LINE = "line"


def span_coordinates(
    grid: tuple[int, int] | None, num_positions: int, num_frames: int, axes: PictureAxes
) -> tuple[Float[np.ndarray, "positions 2"], float]:
    """Return the coordinates of a span's positions from 0, and the offset of the next span.

    A line has equal coordinates on both axes, as in ordinary RoPE; what `axes` says is of spans on a `grid`.
    Codebooks at separate positions share their cell's row and column.
    """
    if grid is None or axes is PictureAxes.LINE:
        line = np.arange(num_positions, dtype=np.float64)
        return np.stack([line, line], axis=1), float(num_positions)
    cell = np.minimum(np.arange(num_positions) * num_frames // max(num_positions, 1), num_frames - 1)
    return np.stack([cell // grid[1], cell % grid[1]], axis=1).astype(np.float64), float(max(grid))
