"""Categorical draws by inversion, in float64."""

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor


def draw(log_probabilities: Float[Tensor, "n codes"], uniforms: Float64[Tensor, "n"]) -> Int[Tensor, "n"]:
    """One code per row: the first whose cumulative probability exceeds the row's uniform.

    Float64 because float32 draws lose rare codes: a silent temperature (arXiv 2409.02908) [L]. One uniform a
    row, where a Gumbel or exponential race needs one per code, is also the quickest. Rows need
    not be normalized; a code at -inf is never drawn.
    """
    cumulative = torch.softmax(log_probabilities.to(torch.float64), dim=-1).cumsum(-1)
    total = cumulative[:, -1:]
    # Below the total, rounding or not: the code found then has a probability above zero.
    threshold = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1)
