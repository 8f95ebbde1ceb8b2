"""Times and mask ratios for a batch, spread evenly: the weighted loss varies far more with t than with the
masks."""

import torch
from jaxtyping import Float64
from torch import Tensor

from trimask.diffusion.schedule import MINIMUM_MASK_RATIO
from trimask.errors import UserError


def low_discrepancy_times(num_sequences: int, *, offset: float) -> Float64[Tensor, "n"]:
    """One time in [0, 1) per sequence: t_i = (offset + i / n) mod 1 (MD4; VDM) [L].

    With `offset` ~ U(0, 1), drawn anew for each batch, each t_i is uniform by itself, and together they hit
    each interval of length 1/n exactly once. Only the whole set is even, not a run of neighbours: when a
    batch lists its tasks one after another, call this once per task (with offsets of their own), or each
    task sees a narrow range of times.

    Raises: UserError when the offset is not in [0, 1).
    """
    if not 0 <= offset < 1:
        raise UserError(f"the offset of low-discrepancy times is {offset}; draw it from [0, 1)")
    return (offset + torch.arange(num_sequences, dtype=torch.float64) / max(num_sequences, 1)) % 1.0


def mask_ratio_pairs(t: Float64[Tensor, "n"]) -> tuple[Float64[Tensor, "n"], Float64[Tensor, "n"]]:
    """Mask ratios (u, 1 - u) for anti-masking: one for a mask, one for its complement, both in (0, 1).

    Of u ~ U(0, 1) [D], from times `t` ~ U(0, 1), one per pair. A pair is the same under u <-> 1 - u with its
    two views exchanged, so u = t/2: the same law of pairs, and with n evenly spread times the 2n ratios of
    the batch are evenly spaced over (0, 1). These are mask ratios, not times: use them with
    `mask_ratio_weight`, never with a schedule's `loss_weight`. u is held above `MINIMUM_MASK_RATIO`, with the
    same reading as in `schedule`.
    """
    u = (t / 2).clamp(min=MINIMUM_MASK_RATIO)
    return u, 1 - u
