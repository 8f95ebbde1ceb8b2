"""Pictures -> the pixels that a tokenizer sees, and the guard of encoded ones: what a header says is believed
only to refuse it.

A picture is turned upright, laid over white, cut to its middle square and resized: here alone, for training
data and for what a user gives.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
from jaxtyping import UInt8

from trimask.media.depth import DEEP_MODES, check_depth, is_white_zero, to_eight_bits
from trimask.media.limits import Limits
from trimask.media.picture_mends import (
    is_progressive,
    jpeg_with_end,
    jpeg_without_end,
    png_without_metadata,
)
from trimask.media.quiet import quiet_libraries
from trimask.media.rejection import Reason, Rejected, first_line

SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
)
# The other decoders see less care and less use; some start other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_MOST_SCANS = 100  # of a JPEG: each costs as much as a picture, and encoders make about ten
_MOST_FRAMES = 16
_LIMITS = Limits()
_FLAT = 8  # levels of 255: what differs by less is not seen
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
    """As `read_picture`, for training.

    Raises:
        Rejected: also where there is nothing to be seen.
    """
    pixels = read_picture(data, size=size, limits=limits)
    if _is_flat(pixels):
        raise Rejected(Reason.BLANK, f"every pixel of its middle square is {tuple(pixels[0, 0].tolist())}")
    return pixels


def read_picture(data: bytes, *, size: int, limits: Limits) -> UInt8[np.ndarray, "size size 3"]:
    """Decode a picture and apply `crop_square`.

    Raises:
        Rejected: with what is wrong with the picture.
    """
    if not data:
        raise Rejected(Reason.EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise Rejected(Reason.OVERSIZED, f"{len(data)} bytes, the limit is {limits.max_bytes}")
    if jpeg_without_end(data):
        # Whole, if what would follow makes no difference.
        one, other = (_decoded(mended, size, limits) for mended in jpeg_with_end(data))
        if is_progressive(data) or (one != other).any():
            raise Rejected(Reason.CORRUPT, "cut short: a JPEG without its end")
        return one
    try:
        return _decoded(data, size, limits)
    except Rejected as error:
        bare = png_without_metadata(data)
        if error.reason is not Reason.CORRUPT or bare is None:
            raise
    return _decoded(bare, size, limits)


def crop_square(
    picture: PIL.Image.Image, size: int, limits: Limits = _LIMITS
) -> UInt8[np.ndarray, "size size 3"]:
    """What a tokenizer sees of a picture: RGB pixels of its middle square, over white, resized to `size`.

    Turned as its EXIF data says, if that can be read. Over black where over white nothing can be seen of it
    (a white logo). Of an animation the first frame with something in it. Samples of more than eight bits are
    scaled as `depth` says; colour profiles are left alone.

    Raises:
        Rejected: samples whose range cannot be told.
        Exception: whatever Pillow's decoders trip over, where the picture is not loaded yet.
    """
    first = None
    for frame in _frames(picture, limits):
        tile = getattr(frame, "tile", None) or []
        frame.load()
        check_depth(frame, tile)
        upright = _upright(_on_ground(frame))
        fitted = PIL.ImageOps.fit(upright, (size, size), PIL.Image.Resampling.BICUBIC)
        pixels = np.asarray(fitted)
        if not _is_flat(pixels):
            return pixels
        first = pixels if first is None else first
    assert first is not None
    return first


@contextmanager
def guarded() -> Iterator[None]:
    """Within this, whatever Pillow raises is `Rejected`."""
    try:
        with warnings.catch_warnings():
            # What Pillow warns of is no matter of the user's, except for its own check of the size.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            yield
    except Rejected:
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning, MemoryError) as error:
        raise Rejected(Reason.OVERSIZED, first_line(error)) from error
    except Exception as error:  # decoders raise whatever their parser trips over: struct, zlib, KeyError …
        raise Rejected(Reason.CORRUPT, first_line(error)) from error


def _decoded(data: bytes, size: int, limits: Limits) -> UInt8[np.ndarray, "size size 3"]:
    is_tiff = data.startswith((b"II", b"MM"))
    quiet = quiet_libraries() if is_tiff else nullcontext()  # libtiff prints what it trips over
    with quiet, guarded(), PIL.Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        _check_header(opened, limits)
        if opened.format in ("JPEG", "MPO") and (scans := data.count(b"\xff\xda")) > _MOST_SCANS:
            raise Rejected(Reason.OVERSIZED, f"a JPEG of {scans} scans, the limit is {_MOST_SCANS}")
        opened.draft("RGB", (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size
        return crop_square(opened, size, limits)


def _check_header(opened: PIL.Image.Image, limits: Limits) -> None:
    width, height = opened.size
    if width * height > limits.max_pixels:
        raise Rejected(
            Reason.OVERSIZED, f"{width} x {height} pixels by its header, the limit is {limits.max_pixels}"
        )
    if min(width, height) < limits.min_side:
        raise Rejected(Reason.TOO_SMALL, f"{width} x {height} pixels, the least is {limits.min_side}")
    tags = getattr(opened, "tag_v2", {})
    tile = [
        tags.get(tag, 1) for tag in (322, 323)
    ]  # width and height of a TIFF's tiles, which are held whole
    if tile[0] * tile[1] > limits.max_pixels:
        raise Rejected(Reason.OVERSIZED, f"tiles of {tile[0]} x {tile[1]} pixels by its header")


def _frames(picture: PIL.Image.Image, limits: Limits) -> Iterator[PIL.Image.Image]:
    """The picture, then the frames that follow in an animation; it is left as it was."""
    yield picture
    if picture.format not in ("GIF", "WEBP", "PNG", "AVIF") or not getattr(picture, "is_animated", False):
        return
    began = picture.tell()
    most = min(_MOST_FRAMES, limits.max_pixels // (picture.width * picture.height))
    try:
        for number in range(began + 1, began + most):
            try:
                picture.seek(number)
            except (EOFError, OSError, ValueError):  # the last one, or the file is closed by now
                return
            _check_header(picture, limits)
            yield picture
    finally:
        if picture.tell() != began:
            picture.seek(began)


def _upright(picture: PIL.Image.Image) -> PIL.Image.Image:
    try:
        turn = _TURNS.get(picture.getexif().get(0x0112, 1))
    except Exception:  # a damaged note on the picture, not a damaged picture
        return picture
    return picture if turn is None else picture.transpose(turn)


def _on_ground(picture: PIL.Image.Image) -> PIL.Image.Image:
    """RGB, over white or else black."""
    if picture.mode in DEEP_MODES:
        return _with_notes(to_eight_bits(picture, is_inverted=is_white_zero(picture)), picture)
    if picture.mode == "LAB":
        rgb = PIL.ImageCms.profileToProfile(
            picture, PIL.ImageCms.createProfile("LAB"), PIL.ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        assert rgb is not None
        return _with_notes(rgb, picture)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    straight = picture.convert("LA") if picture.mode == "La" else picture
    layer = straight.convert("RGBA")
    white, black = (_over(layer, ground) for ground in ("white", "black"))
    return _with_notes(black if _spread(white) < _FLAT <= _spread(black) else white, picture)


def _with_notes(made: PIL.Image.Image, picture: PIL.Image.Image) -> PIL.Image.Image:
    """`made` with the EXIF data of what it was made of."""
    made.info.update({key: picture.info[key] for key in ("exif", "xmp") if key in picture.info})
    return made


def _over(layer: PIL.Image.Image, ground: str) -> PIL.Image.Image:
    page = PIL.Image.new("RGBA", layer.size, ground)
    page.alpha_composite(layer)
    return page.convert("RGB")


def _spread(picture: PIL.Image.Image) -> int:
    pixels = np.asarray(picture)
    return int(np.ptp(pixels, axis=(0, 1)).max())


def _is_flat(pixels: UInt8[np.ndarray, "size size 3"]) -> bool:
    return bool((pixels == pixels[:1, :1]).all())
