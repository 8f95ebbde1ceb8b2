"""Decode untrusted pictures into the pixels that a tokenizer takes.

A picture is turned upright, put on a white background, cropped to its central square and resized, in the
same way for training data and for users' inputs. Headers are checked against the limits before decoding.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
from jaxtyping import UInt8

from trimask.media.depth import DEEP_MODES, check_depth, is_white_zero, to_eight_bits
from trimask.media.limits import Limits
from trimask.media.picture_repairs import (
    is_progressive,
    jpeg_with_end,
    jpeg_without_end,
    png_without_metadata,
)
from trimask.media.quiet import quiet_libraries, quiet_pillow
from trimask.media.rejection import Reason, Rejected, first_line

SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
)
# Pillow's other decoders are less well maintained, and some start other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_MOST_SCANS = 100  # of a JPEG: each takes as long as decoding a picture, and encoders make about ten
_MOST_FRAMES = 16
_LIMITS = Limits()
_FLAT = 8  # levels of 255: smaller differences are invisible
_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}


def decode_picture(data: bytes, *, size: int, limits: Limits) -> UInt8[np.ndarray, "size size 3"]:
    """Decode a picture for training, as `read_picture` does.

    Raises:
        Rejected: as `read_picture`, or all its pixels are equal.
    """
    pixels = read_picture(data, size=size, limits=limits)
    if _is_flat(pixels):
        raise Rejected(Reason.BLANK, f"every pixel of its central square is {tuple(pixels[0, 0].tolist())}")
    return pixels


def read_picture(data: bytes, *, size: int, limits: Limits) -> UInt8[np.ndarray, "size size 3"]:
    """Decode a picture and apply `crop_square`.

    A JPEG without its end marker is accepted if no picture data is missing, and a PNG is read without its
    metadata if they are damaged.

    Returns:
        RGB pixels.

    Raises:
        Rejected: it is empty, too large, damaged, or not in one of `FORMATS`.
    """
    if not data:
        raise Rejected(Reason.EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise Rejected(Reason.OVERSIZED, f"{len(data)} bytes, the limit is {limits.max_bytes}")
    if jpeg_without_end(data):
        # Complete, if bytes appended to the picture data make no difference.
        one, other = (_decode(completed, size, limits) for completed in jpeg_with_end(data))
        if is_progressive(data) or (one != other).any():
            raise Rejected(Reason.CORRUPT, "cut short: a JPEG without its end")
        return one
    try:
        return _decode(data, size, limits)
    except Rejected as error:
        bare = png_without_metadata(data)
        if error.reason is not Reason.CORRUPT or bare is None:
            raise
    return _decode(bare, size, limits)


def crop_square(
    picture: PIL.Image.Image, size: int, limits: Limits = _LIMITS
) -> UInt8[np.ndarray, "size size 3"]:
    """Crop a picture to its central square and resize it to `size` x `size` RGB pixels.

    It is rotated as its EXIF data says, if they can be read. Transparent pictures are put on white, or on
    black if nothing is visible on white (a white logo). For an animation, the first frame that is not of one
    colour is used. Samples of more than 8 bits are scaled as in `depth`; colour profiles are ignored.

    Raises:
        Rejected: the full scale of the samples is unclear.
        Exception: any error of Pillow's decoders, if the picture is not loaded yet.
    """
    first = None
    for frame in _frames(picture, limits):
        tile = getattr(frame, "tile", None) or []
        frame.load()
        check_depth(frame, tile)
        upright = _apply_orientation(_to_rgb(frame))
        fitted = PIL.ImageOps.fit(upright, (size, size), PIL.Image.Resampling.BICUBIC)
        pixels = np.asarray(fitted)
        if not _is_flat(pixels):
            return pixels
        first = pixels if first is None else first
    assert first is not None
    return first


@contextmanager
def reject_decoder_errors() -> Iterator[None]:
    """Convert exceptions of Pillow in the `with` block to `Rejected`."""
    try:
        with quiet_pillow():
            yield
    except Rejected:
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning, MemoryError) as error:
        raise Rejected(Reason.OVERSIZED, first_line(error)) from error
    except Exception as error:  # decoders raise many types: struct.error, zlib.error, KeyError …
        raise Rejected(Reason.CORRUPT, first_line(error)) from error


def _decode(data: bytes, size: int, limits: Limits) -> UInt8[np.ndarray, "size size 3"]:
    is_tiff = data.startswith((b"II", b"MM"))
    quiet = quiet_libraries() if is_tiff else nullcontext()  # libtiff prints its errors
    with quiet, reject_decoder_errors(), PIL.Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        _check_header(opened, limits)
        if opened.format in ("JPEG", "MPO") and (scans := data.count(b"\xff\xda")) > _MOST_SCANS:
            raise Rejected(Reason.OVERSIZED, f"a JPEG of {scans} scans, the limit is {_MOST_SCANS}")
        opened.draft("RGB", (2 * size, 2 * size))  # decodes a large JPEG at a fraction of its size
        return crop_square(opened, size, limits)


def _check_header(opened: PIL.Image.Image, limits: Limits) -> None:
    width, height = opened.size
    if width * height > limits.max_pixels:
        raise Rejected(
            Reason.OVERSIZED, f"{width} x {height} pixels by its header, the limit is {limits.max_pixels}"
        )
    if min(width, height) < limits.min_side:
        raise Rejected(Reason.TOO_SMALL, f"{width} x {height} pixels, the minimum is {limits.min_side}")
    tags = getattr(opened, "tag_v2", {})
    # Width and height of a TIFF's tiles, each of which is decoded as a whole.
    tile = [tags.get(tag, 1) for tag in (322, 323)]
    if tile[0] * tile[1] > limits.max_pixels:
        raise Rejected(Reason.OVERSIZED, f"tiles of {tile[0]} x {tile[1]} pixels by its header")


def _frames(picture: PIL.Image.Image, limits: Limits) -> Iterator[PIL.Image.Image]:
    """Yield the picture, then the following frames of an animation; restore its position at the end."""
    yield picture
    if picture.format not in ("GIF", "WEBP", "PNG", "AVIF") or not getattr(picture, "is_animated", False):
        return
    began = picture.tell()
    most = min(_MOST_FRAMES, limits.max_pixels // (picture.width * picture.height))
    try:
        for number in range(began + 1, began + most):
            try:
                picture.seek(number)
            except (EOFError, OSError, ValueError):  # no more frames, or the file is closed
                return
            _check_header(picture, limits)
            yield picture
    finally:
        if picture.tell() != began:
            picture.seek(began)


def _apply_orientation(picture: PIL.Image.Image) -> PIL.Image.Image:
    try:
        turn = _TURNS.get(picture.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF data do not make a damaged picture
        return picture
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Convert to RGB, putting transparent pictures on white, or on black if white hides them."""
    if picture.mode in DEEP_MODES:
        return _copy_exif(to_eight_bits(picture, is_inverted=is_white_zero(picture)), picture)
    if picture.mode == "LAB":
        rgb = PIL.ImageCms.profileToProfile(
            picture, PIL.ImageCms.createProfile("LAB"), PIL.ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        assert rgb is not None
        return _copy_exif(rgb, picture)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    straight = picture.convert("LA") if picture.mode == "La" else picture
    layer = straight.convert("RGBA")
    white, black = (_composite_over(layer, ground) for ground in ("white", "black"))
    return _copy_exif(black if _spread(white) < _FLAT <= _spread(black) else white, picture)


def _copy_exif(made: PIL.Image.Image, picture: PIL.Image.Image) -> PIL.Image.Image:
    """Copy the EXIF data of `picture` to `made`."""
    made.info.update({key: picture.info[key] for key in ("exif", "xmp") if key in picture.info})
    return made


def _composite_over(layer: PIL.Image.Image, ground: str) -> PIL.Image.Image:
    page = PIL.Image.new("RGBA", layer.size, ground)
    page.alpha_composite(layer)
    return page.convert("RGB")


def _spread(picture: PIL.Image.Image) -> int:
    pixels = np.asarray(picture)
    return int(np.ptp(pixels, axis=(0, 1)).max())


def _is_flat(pixels: UInt8[np.ndarray, "size size 3"]) -> bool:
    return bool((pixels == pixels[:1, :1]).all())
