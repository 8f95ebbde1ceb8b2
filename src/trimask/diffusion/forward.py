"""The forward process: each maskable token is replaced by its mask token independently."""

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor


def mask_tokens(
    x: Int[Tensor, "*shape"],
    *,
    mask_ratio: Float[Tensor, "*shape"],
    maskable: Bool[Tensor, "*shape"],
    mask_id: Int[Tensor, "*shape"],
    uniforms: Float64[Tensor, "*shape"],
) -> Int[Tensor, "*shape"]:
    """z_t ~ q(z_t | x): masked is what is maskable and has its uniform below its mask ratio.

    `mask_ratio` = 1 - alpha(t) at each position; `mask_id` is the mask token of each position's modality;
    `uniforms` are in [0, 1) from a named stream. With the same uniforms, a larger ratio masks a superset
    (MDLM's forward process) [L].
    """
    return torch.where(maskable & (uniforms < mask_ratio), mask_id, x)


def is_masked(
    z: Int[Tensor, "*shape"], *, maskable: Bool[Tensor, "*shape"], mask_id: Int[Tensor, "*shape"]
) -> Bool[Tensor, "*shape"]:
    """Return where `z` hides a maskable token; mask tokens elsewhere (a dropped condition) do not count."""
    return maskable & (z == mask_id)


def complement(
    x: Int[Tensor, "*shape"],
    z_t: Int[Tensor, "*shape"],
    *,
    maskable: Bool[Tensor, "*shape"],
    mask_id: Int[Tensor, "*shape"],
) -> Int[Tensor, "*shape"]:
    """Return the complementary view of anti-masking: masked exactly where `z_t` is maskable and visible.

    If z_t was masked with ratio u, this is a draw with ratio 1 - u, and each maskable token is masked in
    exactly one of the two. Tokens that are not maskable equal `x` in both. Clean data has no mask tokens at
    maskable positions.
    """
    return torch.where(maskable & (z_t != mask_id), mask_id, x)
