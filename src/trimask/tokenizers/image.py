"""The image tokenizer: a linear code of square cells with convolutional corrections, and a quantizer."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from trimask import modules
from trimask.config import from_dict, to_dict
from trimask.errors import UserError
from trimask.io import keep_modules, load_tensors, save_tensors
from trimask.tokenizers.quantizer import Quantized, Quantizer, QuantizerConfig, ResidualVectorConfig

KIND = "image_tokenizer"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTokenizerConfig:
    """Geometry and size: square images of `image_size` pixels in square cells of `cell_size` pixels.

    The networks have `depth` blocks of `width` channels at half the cell size, and as many blocks of 2
    `width` channels at the full cell size.
    """

    image_size: int = 64
    cell_size: int = 8
    width: int = 64
    depth: int = 2
    quantizer: QuantizerConfig = field(default_factory=ResidualVectorConfig)

    def __post_init__(self) -> None:
        if self.cell_size < 4 or self.cell_size % 4:
            raise UserError(f"cell_size={self.cell_size}: use a multiple of 4 pixels")
        if self.image_size < self.cell_size or self.image_size % self.cell_size:
            raise UserError(f"image_size={self.image_size}: use a multiple of cell_size={self.cell_size}")
        if self.width < 2 or self.width % 2:
            raise UserError(f"width={self.width}: use an even number of channels")
        if self.depth < 1:
            raise UserError(f"depth={self.depth}: use 1 or more")


@final
class ImageTokenizer(nn.Module):
    """RGB images in [-1, 1] <-> codes, one row per cell in row-major order, codebooks coarse to fine.

    encode: z = A (x - 1) + E(x - 1),  codes = quantizer(z)
    decode: x = 1 + S q + D(q),        q = quantizer.decode(codes)

    A and S act linearly on single cells and start from the cells' principal components (white is zero). The
    networks E and D also see neighbouring cells and start at zero. `decode` clips to [-1, 1].
    """

    def __init__(self, config: ImageTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer: Quantizer = config.quantizer.build()
        dim, width, depth = self.quantizer.dim, config.width, config.depth
        half, quarter = config.cell_size // 2, config.cell_size // 4
        self.analysis = nn.Linear(3 * config.cell_size**2, dim, bias=False)
        self.synthesis = nn.Linear(dim, 3 * config.cell_size**2, bias=False)
        self.encoder = nn.Sequential(
            nn.Linear(3 * half**2, width),
            *(_Block(width) for _ in range(depth)),
            _Merge(width, 2 * width),
            *(_Block(2 * width) for _ in range(depth)),
            nn.Linear(2 * width, dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(dim, 2 * width),
            *(_Block(2 * width) for _ in range(depth)),
            _Split(2 * width, width),
            *(_Block(width) for _ in range(depth + 1)),
            _Split(width, width // 2),
            _Block(width // 2),
            nn.Linear(width // 2, 3 * quarter**2),
        )
        for last in (self.encoder[-1], self.decoder[-1]):
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @property
    def image_size(self) -> int:
        """Pixels along each side."""
        return self.config.image_size

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        side = self.config.image_size // self.config.cell_size
        return side, side

    @property
    def num_codebooks(self) -> int:
        """Codes per cell."""
        return self.quantizer.num_codebooks

    @property
    def codebook_size(self) -> int:
        """Values that one code can take."""
        return self.quantizer.codebook_size

    @torch.no_grad()
    def encode(self, images: Shaped[Tensor, "b channels h w"]) -> Int[Tensor, "b cells codebooks"]:
        """Encode RGB images in [-1, 1] (white is 1).

        Raises:
            UserError: the images are integers, have another size, or have values outside [-1, 1].
        """
        check_images(images, self.image_size)
        return self.quantizer.encode(self.analyse(images)).flatten(1, 2)

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "b cells codebooks"]) -> Float[Tensor, "b 3 h w"]:
        """Decode to RGB images in [-1, 1].

        Raises:
            UserError: the number of cells differs, or a code is out of range.
        """
        rows, columns = self.grid
        if codes.shape[1] != rows * columns:
            raise UserError(
                f"codes of {codes.shape[1]} cells; an image of this tokenizer has {rows * columns}"
            )
        return self.synthesise(self.quantizer.decode(codes.unflatten(1, (rows, columns)))).clamp(-1, 1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 3 h w"], Quantized]:
        """Return reconstructed images, not clipped, and the quantizer's output, with gradients."""
        quantized = self.quantizer(self.analyse(images))
        return self.synthesise(quantized.values), quantized

    def analyse(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b rows columns dim"]:
        """Map images to vectors, before quantization."""
        pixels = (images - 1).permute(0, 2, 3, 1)
        cell = self.config.cell_size
        return self.analysis(_to_cells(pixels, cell)) + self.encoder(_to_cells(pixels, cell // 2))

    def synthesise(self, values: Float[Tensor, "b rows columns dim"]) -> Float[Tensor, "b 3 h w"]:
        """Map vectors to images: the approximate inverse of `analyse`."""
        cell = self.config.cell_size
        pixels = _from_cells(self.synthesis(values), cell) + _from_cells(self.decoder(values), cell // 4)
        return pixels.permute(0, 3, 1, 2) + 1

    @torch.no_grad()
    def fit(
        self, images: Float[Tensor, "n 3 h w"], generator: np.random.Generator, max_cells: int = 120_000
    ) -> None:
        """Initialize from data: set A and S to the principal components of the cells that are not white, and
        fit the quantizer to the vectors of the cells from `select_cells`.

        Args:
            images: in [-1, 1].
            max_cells: most cells to use.
        """
        cells = select_cells(images, self.config.cell_size, generator, max_cells)
        coloured = cells[cells.abs().amax(-1) > 0]
        _, vectors = torch.linalg.eigh(coloured.T.double() @ coloured.double())
        basis = vectors.flip(-1)[:, : self.quantizer.dim].T.to(cells.dtype)
        self.analysis.weight.copy_(basis)
        self.synthesis.weight.copy_(basis.T)
        self.quantizer.fit(self.analysis(cells), generator)

    def save(self, path: str | Path, *, half: bool = False, **metadata: str) -> None:
        """Write weights and configuration, in float16 if `half`, and beside them in `modules` the user's code
        that they need.
        """
        tensors = {name: t.half() if half else t for name, t in self.state_dict().items()}
        config = to_dict(self.config)
        keep_modules(config, Path(path).parent)
        save_tensors(path, tensors, kind=KIND, config=config, **metadata)

    @classmethod
    def load(cls, path: str | Path) -> "ImageTokenizer":
        """Load a tokenizer that `save` wrote, as float32 in evaluation mode.

        Raises:
            UserError, OSError: the file is missing, damaged, or something else.
        """
        artifact = load_tensors(path, kind=KIND)
        modules.load_all(artifact.config, Path(path).parent)
        tokenizer = cls(from_dict(ImageTokenizerConfig, artifact.config))
        try:
            tokenizer.load_state_dict({name: t.float() for name, t in artifact.tensors.items()})
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise UserError(
                f"{path} does not fit its own configuration ({first}): write or fetch it again"
            ) from error
        return tokenizer.eval()


def select_cells(
    images: Float[Tensor, "n 3 h w"], cell_size: int, generator: np.random.Generator, max_cells: int
) -> Float[Tensor, "cells values"]:
    """Select at most `max_cells` cells of `images` to initialize a tokenizer from, relative to white.

    White cells are omitted, since they would take most of the codebooks; a few are added back so that white
    gets a code of its own.
    """
    cells = _to_cells((images - 1).permute(0, 2, 3, 1), cell_size).flatten(0, 2)
    cells = cells[cells.abs().amax(-1) > 0.02]
    cells = cells[torch.from_numpy(generator.permutation(len(cells))[:max_cells])]
    return torch.cat([cells, cells.new_zeros(len(cells) // 1000 + 1, cells.shape[1])])


def check_images(images: Shaped[Tensor, "b channels h w"], size: int) -> None:
    """Raise UserError unless `images` are RGB floats in [-1, 1] with `size` pixels along each side."""
    if not images.is_floating_point():
        raise UserError(f"images are {images.dtype}; give float pixels in [-1, 1] (bytes: x / 127.5 - 1)")
    if images.shape[1:] != (3, size, size):
        raise UserError(
            f"images have the shape {tuple(images.shape)}; "
            f"this tokenizer takes (batch, 3, {size}, {size}): resize them first"
        )
    if images.numel() and not -1.001 <= float(images.min()) <= float(images.max()) <= 1.001:
        low, high = float(images.min()), float(images.max())
        raise UserError(f"pixels lie in [{low:g}, {high:g}]; scale them to [-1, 1] (bytes: x / 127.5 - 1)")


class _Block(nn.Module):
    """ConvNeXt block (Liu et al. 2022, arXiv 2201.03545), channels last: depthwise 3 x 3, RMS norm, two
    linear layers.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.RMSNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, x: Float[Tensor, "b h w width"]) -> Float[Tensor, "b h w width"]:
        y = self.spatial(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        # Under autocast the convolution returns bfloat16, but the fused norm needs the dtype of its weight.
        y = self.norm(y.to(self.norm.weight.dtype))
        return x + self.narrow(F.gelu(self.widen(y), approximate="tanh"))


class _Merge(nn.Module):
    """Merges each square of 2 x 2 positions into one."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.mix = nn.Linear(4 * width_in, width_out)

    def forward(self, x: Float[Tensor, "b h w _"]) -> Float[Tensor, "b h2 w2 _"]:
        return self.mix(_to_cells(x, 2))


class _Split(nn.Module):
    """Splits each position into 2 x 2."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width_in, 4 * width_out)

    def forward(self, x: Float[Tensor, "b h w _"]) -> Float[Tensor, "b h2 w2 _"]:
        return _from_cells(self.mix(x), 2)


def _to_cells(x: Float[Tensor, "b h w c"], size: int) -> Float[Tensor, "b rows columns _"]:
    """Flatten each square of `size` x `size` positions into one vector."""
    b, h, w, c = x.shape
    squares = x.reshape(b, h // size, size, w // size, size, c).transpose(2, 3)
    return squares.reshape(b, h // size, w // size, size * size * c)


def _from_cells(x: Float[Tensor, "b rows columns _"], size: int) -> Float[Tensor, "b h w _"]:
    """Invert `_to_cells`."""
    b, rows, columns, c = x.shape
    squares = x.reshape(b, rows, columns, size, size, c // size**2).transpose(2, 3)
    return squares.reshape(b, rows * size, columns * size, c // size**2)
