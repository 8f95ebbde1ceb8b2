"""Vectors to codes and back: finite scalar quantization and residual vector quantization.

Both map the last dimension of a tensor to `num_codebooks` codes, each in [0, `codebook_size`), and back to a
vector of the same dimension. `forward` also lets gradients pass: the value that it returns is the decoded
one, its gradient that of the input (straight-through, Bengio et al. 2013).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from trimask.errors import UserError

# Partial codes that are searched at once: they bound the memory.
_SEARCHED = 4096
_BLOCK = 64


class Quantized(NamedTuple):
    """What a quantizer made of vectors: decoded values with a gradient, codes, and the auxiliary loss of each
    vector.
    """

    values: Float[Tensor, "*n dim"]
    codes: Int[Tensor, "*n codebooks"]
    loss: Float[Tensor, "*n"]


class Quantizer(nn.Module, ABC):
    """Vectors of `dim` numbers <-> `num_codebooks` codes below `codebook_size`, coarse to fine."""

    dim: int
    num_codebooks: int
    codebook_size: int

    @abstractmethod
    def encode(self, vectors: Float[Tensor, "*n dim"]) -> Int[Tensor, "*n codebooks"]:
        """The codes of each vector."""

    @abstractmethod
    def decode(self, codes: Int[Tensor, "*n codebooks"]) -> Float[Tensor, "*n dim"]:
        """The vector that the codes stand for; UserError for a code out of range."""

    @abstractmethod
    def fit(self, vectors: Float[Tensor, "n dim"], generator: np.random.Generator) -> None:
        """Start from data: scales or codebooks that suit `vectors`."""

    @abstractmethod
    def forward(self, vectors: Float[Tensor, "*n dim"]) -> Quantized:
        """Quantize with a straight-through gradient."""

    @abstractmethod
    def revive(
        self,
        usage: Int[Tensor, "codebooks size"],
        vectors: Float[Tensor, "n dim"],
        generator: np.random.Generator,
    ) -> int:
        """Give codes that `usage` counts as unused a place among `vectors`; returns how many moved."""


def check_codes(codes: Int[Tensor, "*n codebooks"], num_codebooks: int, codebook_size: int) -> None:
    """UserError unless `codes` have `num_codebooks` in the last dimension, each below `codebook_size`."""
    if codes.shape[-1] != num_codebooks:
        raise UserError(
            f"codes have {codes.shape[-1]} codebooks in the last dimension; "
            f"this tokenizer has {num_codebooks}"
        )
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < codebook_size:
        worst = int(codes.min()) if int(codes.min()) < 0 else int(codes.max())
        raise UserError(f"code {worst} is out of range; codes of this tokenizer are 0 … {codebook_size - 1}")


class QuantizerConfig(ABC):
    """Chooses a quantizer by type."""

    __slots__ = ()

    @abstractmethod
    def build(self) -> Quantizer:
        """A quantizer with fresh parameters."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class FiniteScalarConfig(QuantizerConfig):
    """Each codebook is a group of channels, each rounded to `levels` values: codebook_size = product of
    levels.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)
    num_codebooks: int = 2

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2:
            raise UserError(f"levels={self.levels}: name at least one level count, each 2 or more")
        if self.num_codebooks < 1:
            raise UserError(f"num_codebooks={self.num_codebooks}: use 1 or more")

    def build(self) -> "FiniteScalarQuantizer":
        return FiniteScalarQuantizer(self)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ResidualVectorConfig(QuantizerConfig):
    """`num_codebooks` codebooks of `codebook_size` vectors, each coding what those before it left over."""

    dim: int = 64
    codebook_size: int = 1024
    num_codebooks: int = 2
    beam_width: int = 1
    """Partial codes that the search keeps from codebook to codebook; 1 takes the nearest vector of each. The
    codes mean the same for any width: a wider search takes longer to encode and finds better ones.
    """

    def __post_init__(self) -> None:
        for name, least in (("dim", 1), ("codebook_size", 2), ("num_codebooks", 1), ("beam_width", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}: use {least} or more")

    def build(self) -> "ResidualVectorQuantizer":
        return ResidualVectorQuantizer(self)


@final
class FiniteScalarQuantizer(Quantizer):
    """Finite scalar quantization (Mentzer et al. 2023, arXiv 2309.15505), clipped instead of squashed, with
    learned scales.

    Channel i with L levels and scale s: v = s (2 k / (L - 1) - 1), k = round((L - 1) (clip(z / s, -1, 1) + 1)
    / 2): evenly spaced from -s to s for odd and even L alike, and coded again as itself. The k of a group of
    channels make its code, the first channel counting most (mixed radix). The scales learn as in learned step
    sizes (Esser et al. 2019, arXiv 1902.08153); `loss` brings clipped values back, where no gradient passes.
    """

    levels: Tensor
    radix: Tensor

    def __init__(self, config: FiniteScalarConfig) -> None:
        super().__init__()
        self.num_codebooks = config.num_codebooks
        self.codebook_size = math.prod(config.levels)
        self.dim = config.num_codebooks * len(config.levels)
        radix = [math.prod(config.levels[i + 1 :]) for i in range(len(config.levels))]
        self.register_buffer("levels", torch.tensor(config.levels), persistent=False)
        self.register_buffer("radix", torch.tensor(radix), persistent=False)
        self.scale = nn.Parameter(torch.ones(config.num_codebooks, len(config.levels)))

    def encode(self, vectors: Float[Tensor, "*n dim"]) -> Int[Tensor, "*n codebooks"]:
        return (self._steps(vectors.detach()).round().long() * self.radix).sum(-1)

    def decode(self, codes: Int[Tensor, "*n codebooks"]) -> Float[Tensor, "*n dim"]:
        check_codes(codes, self.num_codebooks, self.codebook_size)
        return self._values((codes[..., None] // self.radix) % self.levels)

    def fit(self, vectors: Float[Tensor, "n dim"], generator: np.random.Generator) -> None:
        """Each scale becomes two standard deviations of its channel [D]."""
        with torch.no_grad():
            self.scale.copy_(2 * vectors.std(0).clamp_min(1e-6).view_as(self.scale))

    def forward(self, vectors: Float[Tensor, "*n dim"]) -> Quantized:
        steps = self._steps(vectors)
        rounded = steps.detach().round()
        values = self._values(steps + (rounded - steps).detach())
        bound = self.scale.detach().flatten()
        loss = (vectors - vectors.detach().clamp(-bound, bound)).square().mean(-1)
        return Quantized(values, (rounded.long() * self.radix).sum(-1), loss)

    def revive(
        self,
        usage: Int[Tensor, "codebooks size"],
        vectors: Float[Tensor, "n dim"],
        generator: np.random.Generator,
    ) -> int:
        """Nothing to do: the grid is fixed, a code cannot be moved."""
        return 0

    def _steps(self, vectors: Float[Tensor, "*n dim"]) -> Float[Tensor, "*n codebooks channels"]:
        """Channels in [0, L - 1], not yet rounded."""
        grouped = vectors.unflatten(-1, (self.num_codebooks, -1))
        return ((grouped / self.scale).clamp(-1, 1) + 1) * ((self.levels - 1) / 2)

    def _values(self, steps: Shaped[Tensor, "*n codebooks channels"]) -> Float[Tensor, "*n dim"]:
        return (self.scale * (steps * (2 / (self.levels - 1)) - 1)).flatten(-2)


@final
class ResidualVectorQuantizer(Quantizer):
    """Residual vector quantization: the value is a sum of one vector of each codebook, code j being chosen
    for what codebooks 0 … j - 1 left over.

    The search keeps the `beam_width` best partial sums (LeBlanc et al. 1993, "Efficient search and design
    procedures for robust multi-stage VQ"): the nearest vector now is not always the one that the next
    codebooks complete best.

    The codebooks learn from two gradients: that of the decoder (through the value) and the pull towards the
    vectors coded (`loss`, which also holds the encoder to its codes: van den Oord et al. 2017, arXiv
    1711.00937, eq. 3, with beta = `commitment`).
    """

    # [D] The encoder starts from a linear code that k-means already covers, so it is held rather firmly.
    commitment = 0.5

    def __init__(self, config: ResidualVectorConfig) -> None:
        super().__init__()
        self.num_codebooks = config.num_codebooks
        self.codebook_size = config.codebook_size
        self.dim = config.dim
        self.beam_width = config.beam_width
        self.codebooks = nn.Parameter(torch.zeros(config.num_codebooks, config.codebook_size, config.dim))

    def encode(self, vectors: Float[Tensor, "*n dim"]) -> Int[Tensor, "*n codebooks"]:
        blocks = vectors.reshape(-1, self.dim).split(_SEARCHED // self.beam_width or 1)
        codes = torch.cat([self._search(block) for block in blocks])
        return codes.view(*vectors.shape[:-1], self.num_codebooks)

    def decode(self, codes: Int[Tensor, "*n codebooks"]) -> Float[Tensor, "*n dim"]:
        check_codes(codes, self.num_codebooks, self.codebook_size)
        return self._lookup(codes)

    def fit(self, vectors: Float[Tensor, "n dim"], generator: np.random.Generator) -> None:
        """k-means on the vectors, then on their residuals."""
        residual = vectors
        with torch.no_grad():
            for codebook in self.codebooks:
                codebook.copy_(kmeans(residual, self.codebook_size, generator))
                residual = residual - codebook[nearest(residual, codebook)]

    def forward(self, vectors: Float[Tensor, "*n dim"]) -> Quantized:
        codes = self.encode(vectors.detach())
        decoded = self._lookup(codes)
        pull = (vectors.detach() - decoded).square().mean(-1)
        commit = (vectors - decoded.detach()).square().mean(-1)
        values = decoded + (vectors - vectors.detach())
        return Quantized(values, codes, pull + self.commitment * commit)

    def revive(
        self,
        usage: Int[Tensor, "codebooks size"],
        vectors: Float[Tensor, "n dim"],
        generator: np.random.Generator,
    ) -> int:
        """Move each unused vector onto a random residual of its codebook, with probability by squared length:
        where the error is.
        """
        residual, moved = vectors, 0
        with torch.no_grad():
            for counts, codebook in zip(usage, self.codebooks, strict=True):
                target = residual
                residual = residual - codebook[nearest(residual, codebook)]
                weight = residual.square().sum(-1).double().cpu().numpy()
                dead = (counts == 0).nonzero()[:, 0][: int((weight > 0).sum())]
                if len(dead):
                    chosen = generator.choice(
                        len(weight), size=len(dead), replace=False, p=weight / weight.sum()
                    )
                    codebook[dead] = target[torch.from_numpy(chosen).to(target.device)]
                    moved += len(dead)
        return moved

    @torch.no_grad()
    def _search(self, vectors: Float[Tensor, "n dim"]) -> Int[Tensor, "n codebooks"]:
        """The best complete codes that a beam over the codebooks finds."""
        residual = vectors[:, None]  # [n, beam, dim]: what each partial code leaves over
        codes = vectors.new_zeros(len(vectors), 1, 0, dtype=torch.int64)
        error = vectors.new_zeros(len(vectors), 1, 1)  # half its squared length, less that of the best
        for codebook in self.codebooks:
            half_norms = codebook.square().sum(-1) / 2
            errors = half_norms - residual @ codebook.T
            errors += error
            best, place = _smallest(errors.flatten(1), self.beam_width)
            parent, code = place // self.codebook_size, place % self.codebook_size
            codes = torch.cat([_rows(codes, parent), code[..., None]], dim=-1)
            residual = _rows(residual, parent) - codebook[code]
            error = (best - best[:, :1])[..., None]
        return codes[:, 0]

    def _lookup(self, codes: Int[Tensor, "*n codebooks"]) -> Float[Tensor, "*n dim"]:
        parts = [nn.functional.embedding(codes[..., i], self.codebooks[i]) for i in range(self.num_codebooks)]
        return torch.stack(parts).sum(0)


def _smallest(values: Float[Tensor, "n size"], count: int) -> tuple[Tensor, Int[Tensor, "n count"]]:
    """The `count` smallest numbers of each row in order, fewer where the row is shorter, and their places."""
    if count == 1:
        smallest = values.min(-1, keepdim=True)
        return smallest.values, smallest.indices
    size = values.shape[-1]
    if size % _BLOCK or size < count * _BLOCK:
        smallest = values.topk(min(count, size), largest=False)
        return smallest.values, smallest.indices
    # They lie in the `count` blocks of the smallest minima; sorting those alone takes a fraction of the time.
    blocks = values.unflatten(-1, (-1, _BLOCK))
    chosen = blocks.amin(-1).topk(count, largest=False).indices
    smallest = _rows(blocks, chosen).flatten(1).topk(count, largest=False)
    places = chosen.gather(1, smallest.indices // _BLOCK) * _BLOCK + smallest.indices % _BLOCK
    return smallest.values, places


def _rows(
    values: Shaped[Tensor, "n beam *_"], parent: Int[Tensor, "n count"]
) -> Shaped[Tensor, "n count *_"]:
    """Of each n the rows that `parent` names."""
    return values.gather(1, parent[..., None].expand(-1, -1, values.shape[-1]))


def nearest(vectors: Float[Tensor, "n dim"], codebook: Float[Tensor, "size dim"]) -> Int[Tensor, "n"]:
    """Index of the nearest codebook vector (squared Euclidean distance, the first of equals), in blocks that
    bound the memory.
    """
    half_norms = codebook.square().sum(-1) / 2
    blocks = [(half_norms - block @ codebook.T).argmin(-1) for block in vectors.split(8192)]
    return torch.cat(blocks) if blocks else torch.zeros(0, dtype=torch.int64, device=vectors.device)


def kmeans(
    vectors: Float[Tensor, "n dim"], size: int, generator: np.random.Generator, num_iterations: int = 12
) -> Float[Tensor, "size dim"]:
    """Lloyd's algorithm from random vectors; a centre that lost all its vectors restarts at the worst coded
    ones.

    UserError where there are fewer vectors than centres.
    """
    if len(vectors) < size:
        raise UserError(
            f"{len(vectors)} vectors cannot give {size} centres; pass more vectors or ask for fewer codes"
        )
    # Not k-means++: as a start of the shipped image codebooks it was 0.1 dB worse, and far slower.
    centres = vectors[torch.from_numpy(generator.choice(len(vectors), size, replace=False))].clone()
    for _ in range(num_iterations):
        assigned = nearest(vectors, centres)
        counts = torch.bincount(assigned, minlength=size)
        sums = torch.zeros_like(centres).index_add_(0, assigned, vectors)
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty):
            error = (vectors - centres[assigned]).square().sum(-1)
            sums[empty], counts[empty] = vectors[error.topk(len(empty)).indices], 1
        centres = sums / counts[:, None]
    return centres
