"""A denoiser that is exactly right: every conditional of a small joint table, by enumeration, in float64.

Nothing is learned and nothing is sampled, so what the mathematics promises can be asked for to the last
digits.
"""

import itertools
import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Oracle:
    """p(x) over sequences of `length` tokens from `vocabulary_size`; the mask token is id
    `vocabulary_size`."""

    vocabulary_size: int
    length: int
    sequences: Int[Tensor, "x n"]
    probability: Float64[Tensor, "x"]

    @classmethod
    def random(
        cls, *, vocabulary_size: int = 3, length: int = 3, seed: int = 0, sharpness: float = 1.5
    ) -> "Oracle":
        """A random, strictly positive table; a larger `sharpness` makes the tokens more dependent."""
        ids = torch.tensor(list(itertools.product(range(vocabulary_size), repeat=length)))
        logits = torch.from_numpy(np.random.default_rng(seed).normal(size=len(ids)) * sharpness)
        return cls(
            vocabulary_size=vocabulary_size,
            length=length,
            sequences=ids,
            probability=torch.softmax(logits, dim=0),
        )

    @property
    def mask_id(self) -> int:
        return self.vocabulary_size

    @property
    def entropy(self) -> float:
        """In nats per sequence."""
        return float(-(self.probability * self.probability.log()).sum())

    @property
    def masks(self) -> Bool[Tensor, "masks n"]:
        """All 2^n masks."""
        return torch.tensor(list(itertools.product((False, True), repeat=self.length)))

    def mask_probability(self, mask_ratio: Float64[Tensor, "*m"]) -> Float64[Tensor, "*m masks"]:
        """P(each of `masks`) when each token is masked independently with `mask_ratio`."""
        num_masked = self.masks.sum(-1)
        ratio = mask_ratio[..., None]
        return ratio**num_masked * (1 - ratio) ** (self.length - num_masked)

    def probabilities(self, z: Int[Tensor, "b n"]) -> Float64[Tensor, "b n v"]:
        """p(x_i = v | the visible tokens of z) at every position; a visible token has probability 1."""
        agrees = ((z[:, None] == self.sequences) | (z[:, None] == self.mask_id)).all(-1)
        joint = agrees * self.probability
        one_hot = torch.nn.functional.one_hot(self.sequences, self.vocabulary_size).to(torch.float64)
        return torch.einsum("bx,xnv->bnv", joint, one_hot) / joint.sum(-1)[:, None, None]

    def log_probabilities(self, z: Int[Tensor, "b n"]) -> Float64[Tensor, "b n v"]:
        """Logits of the exact denoiser (already normalized)."""
        return self.probabilities(z).clamp(min=1e-300).log()

    def views(self) -> Int[Tensor, "x masks n"]:
        """Every sequence under every mask."""
        return torch.where(self.masks, self.mask_id, self.sequences[:, None])

    def cross_entropy(self, log_probabilities: Float64[Tensor, "x masks n v"]) -> Float64[Tensor, "x masks"]:
        """The sum over masked positions of -log p, in nats, for each of `views` under any predictor."""
        target = self.sequences[:, None, :, None].expand(-1, len(self.masks), -1, 1)
        nats = -log_probabilities.gather(-1, target)[..., 0]
        return torch.where(self.masks, nats, 0.0).sum(-1)


def double_exponential(
    start: float, end: float, *, num_nodes: int = 200
) -> tuple[Float64[Tensor, "nodes"], Float64[Tensor, "nodes"]]:
    """Nodes and weights of tanh-sinh quadrature on (start, end): integrands may have algebraic
    singularities at either end."""
    y = torch.linspace(-3.8, 3.8, num_nodes, dtype=torch.float64)
    inner = math.pi / 2 * torch.sinh(y)
    # Distance from the nearer end, so that nodes close to it keep their digits.
    near = (end - start) / (1 + torch.exp(2 * inner.abs()))
    nodes = torch.where(y < 0, start + near, end - near)
    step = 7.6 / (num_nodes - 1)
    weights = step * (end - start) * math.pi / 4 * torch.cosh(y) / torch.cosh(inner) ** 2
    return nodes, weights
