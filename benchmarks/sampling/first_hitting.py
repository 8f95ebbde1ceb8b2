"""The first-hitting sampler (Zheng et al., arXiv 2409.02908): a pass for each token and none for nothing."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.sampling.mdlm import log_probabilities
from benchmarks.sampling.network import Network


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class FirstHitting:
    """Reveal one masked slot a pass, any with equal probability, by a draw in float64.

    With the time of each event drawn too, this is MDLM's reverse process in continuous time. A denoiser
    without a time input does not read those times, so they are not drawn.
    """

    def __call__(self, network: Network, generator: torch.Generator) -> Int[Tensor, "rows slots"]:
        canvas = network.canvas
        z = canvas.tokens.clone()
        while (masked := canvas.masked(z)).any():
            probability = log_probabilities(network, z).exp()
            rows = masked.any(1).nonzero().squeeze(1)
            slot = torch.multinomial(masked[rows].double(), 1, generator=generator).squeeze(1)
            here = probability[rows, slot].double()
            z[rows, slot] = torch.multinomial(here, 1, generator=generator).squeeze(1)
        return z
