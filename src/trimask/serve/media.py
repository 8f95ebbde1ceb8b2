"""Pictures and recordings between their files and the models, within bounds.

Files are decoded outside the thread of the models, and the models get what training had: a square of pixels,
or samples at their rate.
"""

import asyncio
import base64
import binascii
import io
import re
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import PIL.Image
import soundfile
from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from trimask.errors import UserError
from trimask.generation.generate import Generator
from trimask.generation.given import load_pixels
from trimask.media.limits import Limits as Bounds
from trimask.media.picture import FORMATS
from trimask.media.recording import decode_recording
from trimask.media.rejection import Rejected
from trimask.serve.errors import ApiError
from trimask.serve.limits import Limits

PICTURE_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
SOUND_TYPES = {
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "pcm": "audio/pcm",
}
_FORMS = {
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "opus": ("OGG", "OPUS"),
}
_RATES = {
    "mp3": (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "opus": (8000, 12_000, 16_000, 24_000, 48_000),
}
_FIELD_BYTES = 4_000_000  # of a text field: a million characters
_OPAQUE = 128
_NESTED = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]")


@final
@dataclass(frozen=True, kw_only=True)
class Form:
    """A multipart form: its text fields, those of `sampler[order]` within a dict, and its files by name."""

    fields: dict[str, Any]
    files: dict[str, bytes]


async def read_form(request: Request, limits: Limits, *, files: tuple[str, ...]) -> Form:
    """Read a multipart form. `image[]` is `image`: clients send lists so.

    Raises: ApiError for something else than a form, a field given twice, and a file that is too large, or
        that the request does not have.
    """
    found = Form(fields={}, files={})
    try:
        form = await _parse_form(request, limits)
    except (MultiPartException, UnicodeDecodeError) as error:
        reason = error.message if isinstance(error, MultiPartException) else "it is not UTF-8"
        raise ApiError(400, f"the form cannot be read: {reason}", code="invalid_form") from error
    try:
        await _gather(form, found, limits, files)
    finally:
        await form.close()
    for name in files:
        if name in found.fields:
            raise ApiError(400, f"{name} is text: give a file", param=name, code="invalid_value")
    return found


async def _gather(form: FormData, found: Form, limits: Limits, files: tuple[str, ...]) -> None:
    for name, value in form.multi_items():
        name, nested = _split(name)
        holder = found.fields if nested is None else found.fields.setdefault(name, {})
        if not isinstance(holder, dict) or name in found.files or (nested or name) in holder:
            raise ApiError(400, f"{name[:100]} is given twice: give it once", param=name[:100])
        if isinstance(value, UploadFile):
            if name not in files:
                message = f"{name[:100]} is no file of this request: leave it out"
                raise ApiError(400, message, param=name[:100])
            if (value.size or 0) > limits.file_bytes:
                message = f"{name} has {value.size:,} bytes: give at most {limits.file_bytes:,}"
                raise ApiError(400, message, param=name, code="file_too_large")
            found.files[name] = await value.read()
        else:
            holder[nested or name] = value


async def _parse_form(request: Request, limits: Limits) -> FormData:
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        message = f"the body is {kind[:80] or 'of no type'}: send multipart/form-data"
        raise ApiError(400, message, code="invalid_form")
    parser = MultiPartParser(
        request.headers, request.stream(), max_files=8, max_fields=64, max_part_size=_FIELD_BYTES
    )
    parser.spool_max_size = limits.body_bytes + 1  # in memory: nothing that is sent here is written to a disk
    return await parser.parse()


def _split(name: str) -> tuple[str, str | None]:
    """Split `sampler[order]`; `image[]` is `image`."""
    match = _NESTED.fullmatch(name)
    return (match[1], match[2] or None) if match else (name, None)


def read_base64(field: str, text: str, limits: Limits) -> bytes:
    """Decode a file within JSON; a data URL is one, too."""
    if len(text) > limits.file_bytes * 4 // 3 + 1024:
        raise ApiError(400, f"{field} has more than {limits.file_bytes:,} bytes: give less", param=field)
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, f"{field} is not base64: {error}", param=field, code="invalid_value") from error


async def read_picture(field: str, data: bytes, generator: Generator, limits: Limits) -> PIL.Image.Image:
    """Decode a picture as the model sees it: its middle square, at its size."""
    return await asyncio.to_thread(_read_picture, field, data, generator, limits)


def _read_picture(field: str, data: bytes, generator: Generator, limits: Limits) -> PIL.Image.Image:
    size = _size_of(generator)
    measure(field, data, limits)
    return _load(field, data, size)


def measure(field: str, data: bytes, limits: Limits) -> tuple[int, int]:
    """Return the width and height that a picture's header states, in pixels. ApiError: it is none, or too
    large.
    """
    try:
        with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
    except Exception as error:  # any of Pillow's decoders
        message = f"{field} is no picture that can be read: give one of {', '.join(FORMATS)}"
        raise ApiError(400, message, param=field, code="invalid_image") from error
    if width * height > limits.pixels:
        message = f"{field} has {width} x {height} pixels: give at most {limits.pixels:,} in all"
        raise ApiError(400, message, param=field, code="image_too_large")
    return width, height


async def read_mask(
    field: str, data: bytes, generator: Generator, limits: Limits, *, like: tuple[int, int]
) -> PIL.Image.Image:
    """Decode a mask for a picture of the size `like`: the result is white where it is to be painted, which is
    where the mask is transparent, or, if it has no transparency, where it is white.
    """
    return await asyncio.to_thread(_read_mask, field, data, generator, limits, like)


def _read_mask(
    field: str, data: bytes, generator: Generator, limits: Limits, like: tuple[int, int]
) -> PIL.Image.Image:
    size = _size_of(generator)
    found = measure(field, data, limits)
    if found != like:
        message = f"the mask has {found[0]} x {found[1]} pixels, and the picture {like[0]} x {like[1]}: make "
        raise ApiError(400, f"{message}them equal", param=field, code="invalid_value")
    alpha = read_alpha(data)
    picture = (
        data if alpha is None else PIL.Image.fromarray(np.where(alpha < _OPAQUE, 255, 0).astype(np.uint8))
    )
    return _load(field, picture, size)


def _load(field: str, picture: PIL.Image.Image | bytes, size: int) -> PIL.Image.Image:
    try:
        return PIL.Image.fromarray(load_pixels(picture, size))
    except UserError as error:
        raise ApiError(400, f"{field}: {error}", param=field, code="invalid_image") from error


def read_alpha(data: bytes) -> np.ndarray | None:
    """Return the opacity of a picture, rows × columns; None if it is opaque everywhere.

    Raises: ApiError if it cannot be read.
    """
    try:
        with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if not picture.has_transparency_data:
                return None
            alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    except Exception as error:  # any of Pillow's decoders
        message = f"the mask is no picture that can be read: give one of {', '.join(FORMATS)}"
        raise ApiError(400, message, param="mask", code="invalid_image") from error
    return alpha if (alpha < _OPAQUE).any() else None


def _size_of(generator: Generator) -> int:
    if generator.codecs.image is None:
        raise ApiError(400, "the model has no pictures", param="model")
    return generator.codecs.image.image_size


async def read_recording(field: str, data: bytes, generator: Generator, limits: Limits) -> np.ndarray:
    """Decode a recording: samples at the model's rate."""
    speech = generator.codecs.speech
    if speech is None:
        raise ApiError(400, "the model has no speech", param="model")
    bounds = Bounds(min_seconds=1e-3, max_seconds=limits.seconds, silence=0.0)
    try:
        return await asyncio.to_thread(decode_recording, data, sample_rate=speech.sample_rate, limits=bounds)
    except Rejected as error:
        message = f"{field} cannot be read: {error.detail}"
        raise ApiError(400, message, param=field, code="invalid_audio") from error


def write_picture(picture: PIL.Image.Image, kind: str) -> str:
    """Return a picture's file as base64: the same pixels, but for JPEG."""
    file = io.BytesIO()
    options: dict[str, Any] = {"webp": {"lossless": True}, "jpeg": {"quality": 95}}.get(kind, {})
    picture.save(file, format=kind.upper(), **options)
    return base64.b64encode(file.getvalue()).decode()


def check_sound(kind: str, sample_rate: int) -> None:
    """Raise ApiError for a format that cannot be made here at this rate: another is never given for it."""
    possible = [name for name in SOUND_TYPES if _can_make(name, sample_rate)]
    if kind not in possible:
        message = f"response_format {kind[:40]!r} cannot be made here at {sample_rate} Hz: choose one of "
        raise ApiError(400, f"{message}{', '.join(possible)}", param="response_format", code="invalid_value")


def _can_make(kind: str, sample_rate: int) -> bool:
    return kind == "pcm" or (
        soundfile.check_format(*_FORMS[kind]) and sample_rate in _RATES.get(kind, (sample_rate,))
    )


def write_sound(waveform: np.ndarray, sample_rate: int, kind: str) -> bytes:
    """Return a recording's file; `pcm` is 16-bit samples, little-endian, without a header."""
    if kind == "pcm":
        return (np.clip(waveform, -1, 1) * 32767).round().astype("<i2").tobytes()
    form, subtype = _FORMS[kind]
    file = io.BytesIO()
    soundfile.write(file, waveform, sample_rate, format=form, subtype=subtype)
    return file.getvalue()
