"""LLaDA's loop (Nie et al., arXiv 2502.09992; ML-GSAI/LLaDA, generate.py): blocks from left to right; draws
at all positions, of which the most confident are kept.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from benchmarks.sampling.network import Network


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LLaDA:
    """Reveal equally many tokens a pass: those whose drawn token has the largest probability.

    Attributes:
        num_steps: passes in all, divided equally among the blocks, at least one in each; None for as many as
            targets, as published.
        block_length: targets of a block; 32 in the authors' example.
        temperature: of the draws; their example has 0. The probabilities that tokens are chosen by are those
            at temperature 1.
    """

    num_steps: int | None = None
    block_length: int = 32
    temperature: float = 0.0

    def __call__(self, network: Network, generator: torch.Generator) -> Int[Tensor, "rows slots"]:
        canvas = network.canvas
        z, block = canvas.tokens.clone(), canvas.blocks(self.block_length)
        num_blocks = int(block.max()) + 1
        for number in range(num_blocks):
            size = int((block == number).sum(1).max())
            steps = size if self.num_steps is None else max(self.num_steps // num_blocks, 1)
            counts = numbers_to_reveal(canvas.masked(z) & (block == number), min(steps, size))
            for step in range(counts.shape[1]):
                masked = canvas.masked(z) & (block == number)
                drawn, confidence = draw_everywhere(network.logits(z), self.temperature, generator)
                revealed = most_confident(confidence, masked, counts[:, step])
                z = torch.where(revealed, drawn, z)
        return z


def numbers_to_reveal(masked: Bool[Tensor, "rows slots"], num_steps: int) -> Int[Tensor, "rows steps"]:
    """Divide each row's masked slots into `num_steps` equal numbers; what is left over comes first."""
    total = masked.sum(1, keepdim=True)
    return total // num_steps + (torch.arange(num_steps) < total % num_steps)


def draw_everywhere(
    logits: Float[Tensor, "rows slots vocabulary"], temperature: float, generator: torch.Generator
) -> tuple[Int[Tensor, "rows slots"], Float64[Tensor, "rows slots"]]:
    """Draw a token at every slot by the Gumbel trick in float64, with one uniform for each token of the
    vocabulary; return the tokens and their probabilities at temperature 1.

    exp(logit) / (-log u)^temperature is largest with probability proportional to exp(logit / temperature).
    """
    logits = logits.to(torch.float64)
    uniforms = torch.rand(logits.shape, dtype=torch.float64, generator=generator)
    drawn = (logits.exp() / (-uniforms.log()) ** temperature).argmax(-1)
    probability = torch.softmax(logits, dim=-1)
    return drawn, probability.gather(-1, drawn[..., None]).squeeze(-1)


def most_confident(
    confidence: Float64[Tensor, "rows slots"], masked: Bool[Tensor, "rows slots"], count: Int[Tensor, "rows"]
) -> Bool[Tensor, "rows slots"]:
    """Return the `count` masked slots of each row with the largest confidence."""
    best_first = confidence.masked_fill(~masked, -torch.inf).argsort(dim=1, descending=True)
    rank = best_first.argsort(dim=1)
    return masked & (rank < count[:, None])
