"""MaskGIT (Chang et al., arXiv 2202.04200) as aMUSEd publishes it (Patil et al., arXiv 2401.01808): the loop
around the scheduler of the installed diffusers, which does each step.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.sampling.network import Network


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class MaskGIT:
    """Draw everywhere, keep the largest log p(drawn) + temperature · Gumbel; a cosine says how many.

    Attributes:
        num_steps: aMUSEd's pipeline has 12, other models of pictures 64.
        temperature: of that noise, at the first and the last step.

    The canvas has targets alone, and one mask token.
    """

    num_steps: int = 12
    temperature: tuple[float, float] = (2, 0)

    def __call__(self, network: Network, generator: torch.Generator) -> Int[Tensor, "rows slots"]:
        # Imported here: it takes seconds, and is not always installed.
        from diffusers.schedulers.scheduling_amused import AmusedScheduler

        (mask_id,) = network.canvas.mask_id.unique().tolist()
        scheduler = AmusedScheduler(mask_token_id=mask_id)
        scheduler.set_timesteps(self.num_steps, temperature=list(self.temperature))  # pyright: ignore[reportArgumentType]
        z = network.canvas.tokens
        assert isinstance(scheduler.timesteps, Tensor)
        for timestep in scheduler.timesteps:
            (z, _) = scheduler.step(network.logits(z), timestep, z, generator=generator, return_dict=False)  # pyright: ignore[reportArgumentType]
        return z
