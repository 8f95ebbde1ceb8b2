"""Reduce samples of more than 8 bits to 8, inferring full scale from the brightest sample.

Integers are taken to have the fewest of 8, 10, 12, 14 or 16 bits that hold the brightest sample, since
cameras and microscopes store 12 bits in 16. Floats range to 1, 255 or 65535: the one that the brightest
sample does not exceed and reaches at least a sixteenth of. Other pictures are rejected, since they would come
out black or clipped.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from trimask.media.rejection import Reason, Rejected

DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_BITS = (8, 10, 12, 14, 16)
_SCALES = (1.0, 255.0, 65535.0)
_DARK = 16  # below a sixteenth of full scale, a picture is almost black or has another scale
_ROUNDING = 1 + 1 / 255


def to_eight_bits(picture: PIL.Image.Image, *, is_inverted: bool = False) -> PIL.Image.Image:
    """Convert a greyscale picture in one of `DEEP_MODES` to RGB. Transparent pixels become white.

    Args:
        is_inverted: whether 0 is white.

    Raises:
        Rejected: samples are negative or not finite, or their full scale is unclear.
    """
    values = np.asarray(picture)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Rejected(Reason.CORRUPT, "samples are not finite")
    low, high = values.min(), values.max()
    if low < 0:
        raise Rejected(
            Reason.RANGE, f"samples range from {low:g} to {high:g}: save it with 8 bits per sample"
        )
    if values.dtype.kind == "f":
        grey = _scale_floats(values, float(high))
    else:
        grey = _scale_integers(values, int(high))
    if is_inverted:
        grey = 255 - grey
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return PIL.Image.fromarray(grey).convert("RGB")


def check_depth(picture: PIL.Image.Image, tile: Sequence[Any]) -> None:
    """Reject a loaded picture with 16 bits per channel, of which Pillow keeps the upper 8, that is too dark.

    If the top two bits are unused, the samples probably have fewer bits than the file says.

    Args:
        tile: the picture's `tile` attribute before it was loaded.

    Raises:
        Rejected: the top two bits are unused.
    """
    kinds = [part[3] if isinstance(part[3], str) else part[3][0] for part in tile if part[3]]
    if picture.mode in DEEP_MODES or not any(";16" in str(kind) for kind in kinds):
        return
    colours = picture.convert("RGB").getextrema()
    brightest = max(high for _, high in colours)  # pyright: ignore[reportGeneralTypeIssues]  (a pair a channel: RGB has three)
    if brightest < 64:  # 14 bits, as in cameras, or fewer
        raise Rejected(
            Reason.RANGE,
            f"its brightest sample is under {256 * (brightest + 1)} of 65535: it has fewer bits than "
            "it says; save it with 8 bits per sample",
        )


def is_white_zero(picture: PIL.Image.Image) -> bool:
    """Return whether 0 is white in a TIFF; Pillow inverts only those with 8 bits."""
    return getattr(picture, "tag_v2", {}).get(262) == 0


def _scale_integers(values: np.ndarray, high: int) -> np.ndarray:
    bits = next((bits for bits in _BITS if high < 1 << bits), None)
    if bits is None or high < 256 // _DARK:
        raise Rejected(
            Reason.RANGE,
            f"its brightest sample is {high}, not of 8 to 16 bits: save it with 8 bits per sample",
        )
    return (values >> (bits - 8)).astype(np.uint8)


def _scale_floats(values: np.ndarray, high: float) -> np.ndarray:
    for full in _SCALES:
        if full / _DARK < high <= full * _ROUNDING:
            return np.rint(values * np.float32(255 / full)).clip(0, 255).astype(np.uint8)
    raise Rejected(
        Reason.RANGE,
        f"its brightest sample is {high:g}, which fits no range of 0 to 1, 255 or 65535: save it with 8 "
        "bits per sample",
    )
