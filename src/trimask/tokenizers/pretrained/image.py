"""Public image tokenizers: MoVQ / VQGAN (diffusers) and Emu3's (transformers).

Of the image tokenizers in transformers, only Emu3's both encodes and decodes: Chameleon's has no decoder
there, and Janus's encoder omits the normalization that it was trained with.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from trimask.errors import UserError
from trimask.tokenizers.image import check_images
from trimask.tokenizers.pretrained.saved import Origin, SavedModel, find, from_extra, save
from trimask.tokenizers.quantizer import check_codes

_PIXELS_AT_ONCE = 2**19
"""Eight images of 256 x 256: the first layer of a VQGAN has 128 activations per pixel."""


class PretrainedImageTokenizer(nn.Module, ABC):
    """RGB images in [-1, 1] <-> one code per cell, cells in row-major order, by a frozen public model.

    Results are on the device of the input.
    """

    def __init__(self, model: Any, *, image_size: int, origin: Origin | None = None) -> None:
        super().__init__()
        self.model = model
        self.origin = origin
        self.eval()
        self._image_size = image_size
        if image_size < self.cell_size or image_size % self.cell_size:
            raise UserError(
                f"image_size={image_size}: this tokenizer has cells of {self.cell_size} x {self.cell_size} "
                f"pixels, choose a multiple of {self.cell_size}"
            )

    @property
    @abstractmethod
    def family(self) -> str:
        """The library's name for this type of model."""

    @property
    @abstractmethod
    def cell_size(self) -> int:
        """Pixels along each side of a cell: the stride of the encoder."""

    @property
    @abstractmethod
    def codebook_size(self) -> int:
        """Values that a code can take."""

    @abstractmethod
    def _ids(self, images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b rows columns"]: ...

    @abstractmethod
    def _images(self, ids: Int[Tensor, "b rows columns"]) -> Float[Tensor, "b 3 h w"]: ...

    @property
    def image_size(self) -> int:
        """Pixels along each side."""
        return self._image_size

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        side = self._image_size // self.cell_size
        return side, side

    @property
    def num_codebooks(self) -> int:
        """Codes per cell."""
        return 1

    def encode(self, images: Shaped[Tensor, "b channels h w"]) -> Int[Tensor, "b cells 1"]:
        """Encode RGB images in [-1, 1], with the same codes as the library.

        Raises:
            UserError: the images are integers, have another size, or have values outside [-1, 1].
        """
        check_images(images, self._image_size)
        with torch.inference_mode():
            parts = images.to(self._device, torch.float32).split(self._batch)
            ids = torch.cat([self._ids(part) for part in parts]).flatten(1, 2)[..., None]
        # Copied, as in `decode`: tensors made in inference mode cannot be used in training.
        return ids.to(images.device, copy=True)

    def decode(self, codes: Int[Tensor, "b cells codebooks"]) -> Float[Tensor, "b 3 h w"]:
        """Decode to RGB images, clipped to [-1, 1].

        Raises:
            UserError: the number of cells differs, or a code is out of range.
        """
        rows, columns = self.grid
        if codes.shape[1] != rows * columns:
            raise UserError(
                f"codes of {codes.shape[1]} cells; an image of this tokenizer has {rows * columns}"
            )
        check_codes(codes, self.num_codebooks, self.codebook_size)
        with torch.inference_mode():
            parts = codes[..., 0].unflatten(1, (rows, columns)).to(self._device).split(self._batch)
            images = torch.cat([self._images(part) for part in parts]).clamp(-1, 1)
        return images.to(codes.device, copy=True)

    def save(self, folder: Path) -> None:
        """Save the model in its library's format, with our options in another file."""
        save(folder, self.model, origin=self.origin, image_size=self._image_size)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def _batch(self) -> int:
        return max(_PIXELS_AT_ONCE // self._image_size**2, 1)


@final
class VQGANTokenizer(PretrainedImageTokenizer):
    """diffusers' `VQModel`: SBER-MoVQGAN (`movq` of Kandinsky 2), LDM's VQ-f, aMUSEd's VQGAN."""

    @property
    def family(self) -> str:
        return "VQModel"

    @property
    def cell_size(self) -> int:
        return 2 ** (len(self.model.config.block_out_channels) - 1)

    @property
    def codebook_size(self) -> int:
        return self.model.config.num_vq_embeddings

    @property
    def _has_unit_pixels(self) -> bool:
        """Whether pixels are in [0, 1], as for aMUSEd's VQGAN, which sets this flag; others use [-1, 1]."""
        return self.model.config.lookup_from_codebook

    def _ids(self, images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b rows columns"]:
        latents = self.model.encode((images + 1) / 2 if self._has_unit_pixels else images).latents
        _, _, (_, _, ids) = self.model.quantize(latents)
        return ids.view(len(images), *self.grid)

    def _images(self, ids: Int[Tensor, "b rows columns"]) -> Float[Tensor, "b 3 h w"]:
        shape = (*ids.shape, self.model.quantize.vq_embed_dim)
        if self.model.config.lookup_from_codebook:
            values = ids.flatten()
        else:
            values = self.model.quantize.get_codebook_entry(ids.flatten(), shape)
        images = self.model.decode(values, force_not_quantize=True, shape=shape).sample
        return 2 * images - 1 if self._has_unit_pixels else images


@final
class Emu3Tokenizer(PretrainedImageTokenizer):
    """Emu3's vision tokenizer in transformers. It is made for videos and repeats an image as four frames."""

    @property
    def family(self) -> str:
        return "emu3_vqgan"

    @property
    def cell_size(self) -> int:
        return self.model.vision_spatial_factor

    @property
    def codebook_size(self) -> int:
        return self.model.config.codebook_size

    def _ids(self, images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b rows columns"]:
        sizes = torch.tensor([images.shape[2:]] * len(images))
        return torch.stack(list(self.model.encode(images, image_sizes=sizes).image_tokens))

    def _images(self, ids: Int[Tensor, "b rows columns"]) -> Float[Tensor, "b 3 h w"]:
        return self.model.decode(ids)


def load_image_tokenizer(
    name_or_folder: str | Path,
    *,
    image_size: int | None = None,
    revision: str | None = None,
    device: torch.device | str = "cpu",
) -> PretrainedImageTokenizer:
    """Load a public image tokenizer from a folder or the hub (`owner/name`, `owner/name/subfolder`).

    Args:
        image_size: pixels along each side; may be omitted for a folder that `save` wrote.
        revision: branch, tag or commit on the hub.

    Raises:
        UserError: the type of model is not supported, `image_size` is not a multiple of its stride, or files
            are missing or damaged.
        ImportError: its library is not installed or too old.
        OSError: it cannot be downloaded from the hub.
    """
    saved = find(name_or_folder, revision=revision)
    size = saved.options.get("image_size") if image_size is None else image_size
    if not isinstance(size, int):
        raise UserError(f"{name_or_folder} does not state its image size: give image_size, such as 256")
    return _load(saved, size).to(device)


def _load(saved: SavedModel, image_size: int) -> PretrainedImageTokenizer:
    if saved.family == "VQModel":
        with from_extra("diffusers"):
            from diffusers import VQModel  # pyright: ignore[reportPrivateImportUsage]  (its public name)
        model = saved.load(VQModel, low_cpu_mem_usage=False)
        return VQGANTokenizer(model, image_size=image_size, origin=saved.origin)
    if saved.family == "emu3_vqgan":
        with from_extra("transformers"):
            from transformers import Emu3VQVAE
        return Emu3Tokenizer(saved.load(Emu3VQVAE), image_size=image_size, origin=saved.origin)
    raise UserError(
        f"{saved.folder / 'config.json'} is {saved.family!r}, not a supported image tokenizer: give a "
        "VQModel (diffusers) or an emu3_vqgan (transformers)"
    )
