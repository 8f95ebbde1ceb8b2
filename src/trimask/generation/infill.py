"""Targets that are given in part: the rest is generated.

A text has gaps, `the [____] of the king`, one token for each underscore; a picture has a mask, which is white
where it is to be painted; a recording has seconds from A to B; and the codes of any modality may be −1.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import PIL.Image
from jaxtyping import Bool, Int

from trimask.errors import UserError
from trimask.generation.given import Encoded, load_pixels
from trimask.sampling.length import LONGEST_SPAN

MaskInput = PIL.Image.Image | Encoded | np.ndarray
"""A picture that is white where something is to be generated, or one boolean per cell (rows × columns)."""
_GAP = re.compile(r"\[(_+)\]")
_WHITE = 128


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Partial:
    """Codes of a target, and which of them to generate; these are 0.

    Raises: UserError for more frames than a span may have.
    """

    codes: Int[np.ndarray, "frames codebooks"]
    fill: Bool[np.ndarray, "frames codebooks"]

    def __post_init__(self) -> None:
        if len(self.codes) > LONGEST_SPAN:
            raise UserError(
                f"a target that is given in part has {len(self.codes):,} frames or tokens: give at most "
                f"{LONGEST_SPAN:,}"
            )

    @classmethod
    def of_codes(cls, codes: Int[np.ndarray, "frames codebooks"]) -> "Partial":
        """From codes that are −1 where they are to be generated."""
        fill = codes == -1
        return cls(codes=np.where(fill, 0, codes).astype(np.int64), fill=fill)


def has_gaps(text: str) -> bool:
    """Return whether a text has gaps to fill."""
    return _GAP.search(text) is not None


def read_gaps(text: str, encode: Callable[[str], list[int]], *, is_spelled: bool = False) -> Partial:
    """Encode the parts of a text around its gaps.

    In merged text the blanks before a gap belong to it, since tokens begin with theirs; in spelled text,
    where each letter is a token, they stay.
    """
    pieces = _GAP.split(text)  # text, underscores, text, …
    codes: list[int] = []
    for place, piece in enumerate(pieces):
        if place % 2:
            codes += [-1] * len(piece)
        else:
            is_before_gap = place + 1 < len(pieces)
            codes += encode(piece.rstrip() if is_before_gap and not is_spelled else piece)
    return Partial.of_codes(np.array(codes, dtype=np.int64).reshape(-1, 1))


def read_mask(
    mask: MaskInput, codes: Int[np.ndarray, "cells codebooks"], grid: tuple[int, int], size: int
) -> Partial:
    """Mark the cells of a picture of `size` pixels that a mask touches.

    A mask picture is cropped to its middle square like the picture itself.

    Raises:
        UserError: the mask cannot be read, has another shape than the grid, or is white nowhere.
    """
    if isinstance(mask, np.ndarray):
        if mask.dtype != bool or mask.shape != grid:
            raise UserError(
                f"the mask is an array of {mask.dtype} of shape {mask.shape}: give booleans, one for each of "
                f"{grid[0]} × {grid[1]} cells, or a picture"
            )
        cells = mask
    else:
        white = load_pixels(mask, size).max(-1) >= _WHITE
        rows, columns = (np.arange(size) * side // size for side in grid)
        cells = np.zeros(grid, dtype=bool)
        np.logical_or.at(cells, (rows[:, None], columns[None, :]), white)
    if not cells.any():
        raise UserError("the mask is white nowhere: paint white what is to be generated")
    fill = np.repeat(cells.reshape(-1, 1), codes.shape[1], axis=1)
    return Partial(codes=np.where(fill, 0, codes), fill=fill)


def read_seconds(
    seconds: tuple[float, float], codes: Int[np.ndarray, "frames codebooks"], frame_rate: float
) -> Partial:
    """Mark the frames of a recording from one second to another.

    Raises:
        UserError: they are not in order, or not within the recording.
    """
    start, stop = seconds
    length = len(codes) / frame_rate
    if not (math.isfinite(start) and math.isfinite(stop) and 0 <= start < stop and start < length):
        raise UserError(
            f"seconds are {start:g} to {stop:g}, and the recording lasts {length:.3g} s: give a start and a "
            "later end within it"
        )
    fill = np.zeros(codes.shape, dtype=bool)
    fill[math.floor(start * frame_rate) : math.ceil(stop * frame_rate)] = True
    return Partial(codes=np.where(fill, 0, codes), fill=fill)
