"""MDLM's sampler `ddpm_cache` (Sahoo et al., arXiv 2406.07524; kuleshov-group/mdlm, diffusion.py): the
reverse process as one draw for each slot, from the vocabulary and the mask.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.sampling.network import Network

_LATEST = 1e-5  # the time at which the reverse process ends; what is masked then gets its most probable token
_TINY = 1e-10  # keeps logarithms finite


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class MDLM:
    """From t to s, a masked slot takes token v with probability p(v) (t - s) / t and stays masked with s / t.

    The prediction serves until a slot changes, in whichever row: a pass is spared while nothing happens.

    `num_steps`: 1,000 in the paper's samples.
    """

    num_steps: int = 1000

    def __call__(self, network: Network, generator: torch.Generator) -> Int[Tensor, "rows slots"]:
        canvas = network.canvas
        z = canvas.tokens.clone()
        times = torch.linspace(1, _LATEST, self.num_steps + 1).tolist()
        length = (1 - _LATEST) / self.num_steps
        probability = None
        for t in times[:-1]:
            if probability is None:
                probability = log_probabilities(network, z).exp()
            # Both weights times t: a race needs them up to a factor.
            weight = probability * length
            weight.scatter_(-1, canvas.mask_id[..., None], t - length)
            uniforms = torch.rand(weight.shape, dtype=weight.dtype, generator=generator)
            drawn = (weight / (_TINY - (uniforms + _TINY).log())).argmax(-1)
            after = torch.where(canvas.masked(z), drawn, z)
            if not torch.equal(after, z):
                probability = None
            z = after
        return torch.where(canvas.masked(z), log_probabilities(network, z).argmax(-1), z)


def log_probabilities(
    network: Network, z: Int[Tensor, "rows slots"]
) -> Float[Tensor, "rows slots vocabulary"]:
    """Return log p over the whole vocabulary: none of it for the mask, all of it for what is revealed."""
    canvas, logits = network.canvas, network.logits(z)
    logits.scatter_(-1, canvas.mask_id[..., None], -torch.inf)
    log_p = logits - torch.logsumexp(logits, dim=-1, keepdim=True)
    is_known = ~canvas.masked(z)
    log_p[is_known] = -torch.inf
    log_p[is_known, z[is_known]] = 0
    return log_p
