"""Categorical draws by inversion, in float64."""

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor


def draw(log_probabilities: Float[Tensor, "n codes"], uniforms: Float64[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Draw one code per row: the first whose cumulative probability exceeds the row's uniform.

    Float32 draws lose rare codes, which lowers the temperature silently (arXiv 2409.02908) [L], hence
    float64. Inversion needs one uniform per row, a Gumbel or exponential race one per code. Rows need not be
    normalized; a code at -inf is never drawn.
    """
    cumulative = torch.softmax(log_probabilities.to(torch.float64), dim=-1).cumsum(-1)
    total = cumulative[:, -1:]
    # Kept below the total despite rounding, so that the code found has a probability above zero.
    threshold = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1)
