"""Measure whether generated pictures match their captions: rank their originals in a gallery by distance.

The distance is the mean squared difference of CIE L*a*b* pixels averaged to 32 x 32. It is perceptually
motivated and needs no network. It is not invariant to shifts, so the scores are conservative.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int, UInt8

from trimask.errors import UserError
from trimask.estimate import Estimate, mean, proportion

MEASURE = "mean squared difference of CIE L*a*b* pixels at 32 x 32"
_SIZE = 32
# sRGB primaries to XYZ, over the D65 white point (IEC 61966-2-1, CIE 15).
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
) / np.array([[0.95047], [1.0], [1.08883]])


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How often a picture's original is the nearest of a gallery, or among the 5 nearest, and its mean rank.

    `rank_fraction` is (rank - 1) / (gallery - 1): 0 for the nearest, 0.5 on average for unrelated pictures.
    """

    top1: Estimate
    top5: Estimate
    rank_fraction: Estimate
    gallery: int

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON, with the chance level of each score."""
        return {
            "top1": self.top1.as_json(),
            "top5": self.top5.as_json(),
            "rank_fraction": self.rank_fraction.as_json(),
            "gallery": self.gallery,
            "chance": {"top1": 1 / self.gallery, "top5": min(5 / self.gallery, 1.0), "rank_fraction": 0.5},
        }


def lab_features(pixels: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n features"]:
    """Compute L*a*b* values of pictures averaged to 32 x 32 in linear light; channels in their usual units.

    Raises:
        UserError: the sides are not multiples of 32.
    """
    n, height, width, _ = pixels.shape
    if height % _SIZE or width % _SIZE:
        raise UserError(f"pictures of {height} x {width}: resize to a multiple of {_SIZE} x {_SIZE} first")
    linear = _LINEAR[pixels]
    small = linear.reshape(n, _SIZE, height // _SIZE, _SIZE, width // _SIZE, 3).mean((2, 4))
    xyz = small @ _TO_XYZ.T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    lab = np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )
    return lab.reshape(n, -1)


def ranks(
    pictures: Float[np.ndarray, "n features"],
    gallery: Float[np.ndarray, "m features"],
    own: Int[np.ndarray, "n"] | Sequence[int],
) -> Float[np.ndarray, "n"]:
    """Rank (from 1) gallery[own[i]] in the gallery by distance to pictures[i]; ties count half."""
    squared = (
        (pictures**2).sum(1)[:, None] - 2 * pictures @ gallery.T + (gallery**2).sum(1)[None, :]
    ) / gallery.shape[1]
    mine = squared[np.arange(len(pictures)), np.asarray(own)][:, None]
    tolerance = 1e-6 * (1 + np.abs(mine))
    nearer = (squared < mine - tolerance).sum(1)
    equal = (np.abs(squared - mine) <= tolerance).sum(1) - 1
    return 1 + nearer + equal / 2


def agreement(
    pictures: UInt8[np.ndarray, "n h w 3"],
    gallery: Float[np.ndarray, "m features"],
    own: Int[np.ndarray, "n"] | Sequence[int],
) -> Agreement:
    """Measure the agreement of `pictures` with their originals, whose `lab_features` are gallery[own].

    Raises:
        UserError: a gallery of fewer than two pictures.
    """
    if len(gallery) < 2:
        raise UserError(f"a gallery of {len(gallery)} pictures is too small: give at least 2")
    return agreement_of(ranks(lab_features(pictures), gallery, own), len(gallery))


def agreement_of(places: Float[np.ndarray, "n"], gallery: int) -> Agreement:
    """Compute the agreement from the ranks `places` (from 1) of originals in a gallery of this size."""
    return Agreement(
        top1=proportion(places < 1.5),
        top5=proportion(places < 5.5),
        rank_fraction=mean((places - 1) / (gallery - 1), is_share=True),
        gallery=gallery,
    )


def _linear_light() -> Float[np.ndarray, "256"]:
    """Convert the 256 sRGB values to linear light (IEC 61966-2-1)."""
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


_LINEAR = _linear_light()
