"""Encoded pictures -> pixels, under guard: what the header says is believed only to refuse it."""

import io
import warnings

import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import UInt8

from trimask.data.prepare.options import Limits
from trimask.data.prepare.rejection import Reason, Rejected, first_line

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # the other decoders see less care and less use
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def decode_picture(data: bytes, *, size: int, limits: Limits) -> UInt8[np.ndarray, "size size 3"]:
    """RGB pixels of the middle square of a picture, over white, resized to `size`.

    Raises:
        Rejected: with what is wrong with the picture.
    """
    if not data:
        raise Rejected(Reason.EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise Rejected(Reason.OVERSIZED, f"{len(data)} bytes, the limit is {limits.max_bytes}")
    try:
        with warnings.catch_warnings():
            # What Pillow warns of is no matter of the user's, except for its own check of the size.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
                _check_header(opened, limits)
                opened.draft("RGB", (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size
                picture = PIL.ImageOps.exif_transpose(opened)
            pixels = np.asarray(
                PIL.ImageOps.fit(_on_white(picture), (size, size), PIL.Image.Resampling.BICUBIC)
            )
    except Rejected:
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning, MemoryError) as error:
        raise Rejected(Reason.OVERSIZED, first_line(error)) from error
    except Exception as error:  # decoders raise whatever their parser trips over: struct, zlib, KeyError …
        raise Rejected(Reason.CORRUPT, first_line(error)) from error
    if (pixels == pixels[:1, :1]).all():
        raise Rejected(Reason.BLANK, f"every pixel is {tuple(pixels[0, 0].tolist())}")
    return pixels


def _check_header(opened: PIL.Image.Image, limits: Limits) -> None:
    width, height = opened.size
    if width * height > limits.max_pixels:
        raise Rejected(
            Reason.OVERSIZED, f"{width} x {height} pixels by its header, the limit is {limits.max_pixels}"
        )
    if min(width, height) < limits.min_side:
        raise Rejected(Reason.TOO_SMALL, f"{width} x {height} pixels, the least is {limits.min_side}")


def _on_white(picture: PIL.Image.Image) -> PIL.Image.Image:
    if picture.mode in _DEEP:  # 16 bits of grey: Pillow's own conversion clips them
        return PIL.Image.fromarray((np.asarray(picture) / 256).clip(0, 255).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    page = PIL.Image.new("RGBA", picture.size, "white")
    page.alpha_composite(picture.convert("RGBA"))
    return page.convert("RGB")
