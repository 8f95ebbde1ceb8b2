"""Samples of more than eight bits -> eight: how bright white is, is told from the brightest sample.

Whole numbers have the least of 8, 10, 12, 14 and 16 bits that holds the brightest, as cameras and microscopes
put twelve bits into sixteen. Floats go to 1, 255 or 65535, whichever the brightest lies under and within a
sixteenth of. What is neither is refused: it would come out black, or clipped.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from trimask.media.rejection import Reason, Rejected

DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_BITS = (8, 10, 12, 14, 16)
_SCALES = (1.0, 255.0, 65535.0)
_DARK = 16  # what has less than a sixteenth of full scale is black to the eye, or of another scale
_ROUNDING = 1 + 1 / 255


def to_eight_bits(picture: PIL.Image.Image, *, is_inverted: bool = False) -> PIL.Image.Image:
    """A grey picture of one of `DEEP_MODES` as RGB. What is transparent is white.

    Raises:
        Rejected: samples below 0, not finite, or of no range that can be told.
    """
    values = np.asarray(picture)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Rejected(Reason.CORRUPT, "samples that are not finite")
    low, high = values.min(), values.max()
    if low < 0:
        raise Rejected(Reason.RANGE, f"samples from {low:g} to {high:g}: save it with 8 bits a sample")
    if values.dtype.kind == "f":
        grey = _scaled_floats(values, float(high))
    else:
        grey = _scaled_integers(values, int(high))
    if is_inverted:
        grey = 255 - grey
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return PIL.Image.fromarray(grey).convert("RGB")


def check_depth(picture: PIL.Image.Image, tile: Sequence[Any]) -> None:
    """Refuse a loaded picture of 16 bits a channel, of which Pillow keeps the upper eight, if the highest two
    are not used.

    Args:
        tile: the `tile` that the picture had before it was loaded.
    """
    kinds = [part[3] if isinstance(part[3], str) else part[3][0] for part in tile if part[3]]
    if picture.mode in DEEP_MODES or not any(";16" in str(kind) for kind in kinds):
        return
    colours = picture.convert("RGB").getextrema()
    brightest = max(high for _, high in colours)  # pyright: ignore[reportGeneralTypeIssues]  (a pair a channel: RGB has three)
    if brightest < 64:  # 14 bits, as cameras have, or fewer
        raise Rejected(
            Reason.RANGE,
            f"its brightest sample is under {256 * (brightest + 1)} of 65535: it has fewer bits than "
            "it says, save it with 8 bits a sample",
        )


def is_white_zero(picture: PIL.Image.Image) -> bool:
    """Whether a TIFF counts from white to black; Pillow turns round those of eight bits only."""
    return getattr(picture, "tag_v2", {}).get(262) == 0


def _scaled_integers(values: np.ndarray, high: int) -> np.ndarray:
    bits = next((bits for bits in _BITS if high < 1 << bits), None)
    if bits is None or high < 256 // _DARK:
        raise Rejected(
            Reason.RANGE, f"its brightest sample is {high}, not of 8 to 16 bits: save it with 8 bits a sample"
        )
    return (values >> (bits - 8)).astype(np.uint8)


def _scaled_floats(values: np.ndarray, high: float) -> np.ndarray:
    for full in _SCALES:
        if full / _DARK < high <= full * _ROUNDING:
            return np.rint(values * np.float32(255 / full)).clip(0, 255).astype(np.uint8)
    raise Rejected(
        Reason.RANGE,
        f"its brightest sample is {high:g}, which fits no range of 0 to 1, 255 or 65535: save it with 8 "
        "bits a sample",
    )
