"""Quantizers: finite scalar quantization and residual vector quantization.

Both map the last dimension of a tensor to `num_codebooks` codes, each in [0, `codebook_size`), and back to a
vector of the same dimension. `forward` returns the decoded value with a straight-through gradient (Bengio et
al. 2013): the gradient with respect to the value is passed on to the input.
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

# Partial codes searched at once, to bound the memory.
_SEARCHED = 4096
_BLOCK = 64


class Quantized(NamedTuple):
    """The output of a quantizer: decoded values with gradients, codes, and an auxiliary loss per vector."""

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
        """Return the codes of each vector."""

    @abstractmethod
    def decode(self, codes: Int[Tensor, "*n codebooks"]) -> Float[Tensor, "*n dim"]:
        """Return the vectors of the codes. Raise UserError for a code out of range."""

    @abstractmethod
    def fit(self, vectors: Float[Tensor, "n dim"], generator: np.random.Generator) -> None:
        """Initialize scales or codebooks from `vectors`."""

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
        """Move codes whose `usage` is 0 to places among `vectors`; return the number of moved codes."""


def check_codes(codes: Int[Tensor, "*n codebooks"], num_codebooks: int, codebook_size: int) -> None:
    """Raise UserError unless the last dimension is `num_codebooks` and each code is below `codebook_size`."""
    if codes.shape[-1] != num_codebooks:
        raise UserError(
            f"codes have {codes.shape[-1]} codebooks in the last dimension; "
            f"this tokenizer has {num_codebooks}"
        )
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < codebook_size:
        worst = int(codes.min()) if int(codes.min()) < 0 else int(codes.max())
        raise UserError(f"code {worst} is out of range; codes of this tokenizer are 0 … {codebook_size - 1}")


class QuantizerConfig(ABC):
    """Configures a quantizer; the type of the configuration selects the type of the quantizer."""

    __slots__ = ()

    @abstractmethod
    def build(self) -> Quantizer:
        """Return a new quantizer."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class FiniteScalarConfig(QuantizerConfig):
    """Configures `FiniteScalarQuantizer`.

    Each codebook is a group of channels, rounded to `levels[i]` values each; its size is the product of
    `levels`.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)
    num_codebooks: int = 2

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2:
            raise UserError(f"levels={self.levels}: give at least one number of levels, each 2 or more")
        if self.num_codebooks < 1:
            raise UserError(f"num_codebooks={self.num_codebooks}: use 1 or more")

    def build(self) -> "FiniteScalarQuantizer":
        return FiniteScalarQuantizer(self)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ResidualVectorConfig(QuantizerConfig):
    """Configures `ResidualVectorQuantizer`: each codebook encodes the residual of those before it."""

    dim: int = 64
    codebook_size: int = 1024
    num_codebooks: int = 2
    beam_width: int = 1
    """Number of partial codes kept during the search; 1 takes the nearest vector of each codebook. A larger
    width finds better codes but takes longer; decoding does not depend on it."""

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
    / 2). The values are evenly spaced from -s to s for odd and even L, and a decoded value encodes to the
    same code. The k of a group of channels form its code in mixed radix, the first channel being the most
    significant. Scales are learned like learned step sizes (Esser et al. 2019, arXiv 1902.08153). The `loss`
    pulls clipped values back, since clipping blocks their gradients.
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
        """Set each scale to two standard deviations of its channel [D]."""
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
        """Return 0: the grid is fixed, so codes cannot move."""
        return 0

    def _steps(self, vectors: Float[Tensor, "*n dim"]) -> Float[Tensor, "*n codebooks channels"]:
        """Map channels to [0, L - 1], not yet rounded."""
        grouped = vectors.unflatten(-1, (self.num_codebooks, -1))
        return ((grouped / self.scale).clamp(-1, 1) + 1) * ((self.levels - 1) / 2)

    def _values(self, steps: Shaped[Tensor, "*n codebooks channels"]) -> Float[Tensor, "*n dim"]:
        return (self.scale * (steps * (2 / (self.levels - 1)) - 1)).flatten(-2)


@final
class ResidualVectorQuantizer(Quantizer):
    """Residual vector quantization: the value is a sum of one vector from each codebook, and code j encodes
    the residual left by codebooks 0 … j - 1.

    Encoding is a beam search that keeps the `beam_width` best partial sums (LeBlanc et al. 1993, "Efficient
    search and design procedures for robust multi-stage VQ"), since the nearest vector of a codebook does not
    always lead to the best sum.

    The codebooks receive two gradients: the decoder's, through the value, and that of `loss`, which pulls
    them towards the encoded vectors and the encoder towards its codes (van den Oord et al. 2017, arXiv
    1711.00937, eq. 3, with beta = `commitment`).
    """

    # [D] Rather large: the encoder starts from a linear code that k-means already fits.
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
        """Fit each codebook by k-means, the first to the vectors and the others to the residuals."""
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
        """Move each unused code to a random input of its codebook, drawn with probability proportional to its
        squared quantization error.
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
        """Return the best codes found by a beam search over the codebooks."""
        residual = vectors[:, None]  # [n, beam, dim]: residual of each partial code
        codes = vectors.new_zeros(len(vectors), 1, 0, dtype=torch.int64)
        error = vectors.new_zeros(len(vectors), 1, 1)  # half the squared norm, minus that of the best
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
    """Return the `count` smallest numbers of each row in order (all if it has fewer), and their indices."""
    if count == 1:
        smallest = values.min(-1, keepdim=True)
        return smallest.values, smallest.indices
    size = values.shape[-1]
    if size % _BLOCK or size < count * _BLOCK:
        smallest = values.topk(min(count, size), largest=False)
        return smallest.values, smallest.indices
    # They are all in the `count` blocks with the smallest minima; sorting only these is much faster.
    blocks = values.unflatten(-1, (-1, _BLOCK))
    chosen = blocks.amin(-1).topk(count, largest=False).indices
    smallest = _rows(blocks, chosen).flatten(1).topk(count, largest=False)
    places = chosen.gather(1, smallest.indices // _BLOCK) * _BLOCK + smallest.indices % _BLOCK
    return smallest.values, places


def _rows(
    values: Shaped[Tensor, "n beam *_"], parent: Int[Tensor, "n count"]
) -> Shaped[Tensor, "n count *_"]:
    """Select the rows with indices `parent` for each n."""
    return values.gather(1, parent[..., None].expand(-1, -1, values.shape[-1]))


def nearest(vectors: Float[Tensor, "n dim"], codebook: Float[Tensor, "size dim"]) -> Int[Tensor, "n"]:
    """Return the index of the nearest codebook vector (Euclidean distance, the first of equals).

    Vectors are processed in blocks to bound the memory.
    """
    half_norms = codebook.square().sum(-1) / 2
    blocks = [(half_norms - block @ codebook.T).argmin(-1) for block in vectors.split(8192)]
    return torch.cat(blocks) if blocks else torch.zeros(0, dtype=torch.int64, device=vectors.device)


def kmeans(
    vectors: Float[Tensor, "n dim"], size: int, generator: np.random.Generator, num_iterations: int = 12
) -> Float[Tensor, "size dim"]:
    """Run Lloyd's algorithm from random vectors; empty clusters restart at the worst coded vectors.

    Returns:
        `size` cluster centres.

    Raises:
        UserError: there are fewer vectors than centres.
    """
    if len(vectors) < size:
        raise UserError(
            f"{len(vectors)} vectors cannot give {size} centres; give more vectors or ask for fewer codes"
        )
    # Not k-means++: for the shipped image codebooks it was 0.1 dB worse, and far slower.
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
