"""Ordinary pictures and recordings in less ordinary encodings, as cameras, recorders and pipes leave them."""

import io
import struct
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.PngImagePlugin
import soundfile

SIDE = 96
RATE = 16_000
_NONSENSE = b"Exif\0\0II*\0\xff\xff\xff\xff"


def motif() -> np.ndarray:
    """A dark disc on light ground, and a bright corner; grey, 0 to 1."""
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = (x - 48) ** 2 + (y - 48) ** 2 < 900
    return (0.8 - 0.6 * disc + 0.2 * ((x < 20) & (y < 20))).astype(np.float32)


def grey() -> np.ndarray:
    return (motif() * 255).astype(np.uint8)


def coloured() -> np.ndarray:
    return (np.stack([motif(), motif() * 0.7, motif() * 0.4], -1) * 255).astype(np.uint8)


def saved(image: PIL.Image.Image | np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    (PIL.Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(out, form, **options)
    return out.getvalue()


def over(pixels: np.ndarray, alpha: np.ndarray, ground: int) -> np.ndarray:
    return np.where(alpha[..., None] > 0, pixels, np.uint8(ground)).astype(np.uint8)


def odd_pictures() -> dict[str, tuple[bytes, np.ndarray, int]]:
    """By name: the file, the pixels that are right for it, and how far a lossy encoding may be from them."""
    light = motif()
    rgb, three = coloured(), np.stack([grey()] * 3, -1)
    image = PIL.Image.fromarray(rgb)
    blank = PIL.Image.new("RGB", image.size, "white")
    clear = ((np.mgrid[:SIDE, :SIDE][1] > 30) * 255).astype(np.uint8)
    veiled = image.convert("RGBA")
    veiled.putalpha(PIL.Image.fromarray(clear))
    veiled_grey = PIL.Image.fromarray(grey()).convert("LA")
    veiled_grey.putalpha(PIL.Image.fromarray(clear))
    few = image.quantize(32)
    indices, shades = np.asarray(few), np.asarray(few.convert("RGB"))
    logo = np.full((SIDE, SIDE, 4), 255, dtype=np.uint8)
    logo[..., 3] = (light < 0.5) * 255
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 2_000_000, zip=True)
    lab = PIL.ImageCms.profileToProfile(
        image, PIL.ImageCms.createProfile("sRGB"), PIL.ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    wrong = PIL.Image.Exif()
    wrong[0x0112] = 77
    several: dict[str, Any] = {"save_all": True, "duration": 100}
    return {
        "rgb8.png": (saved(rgb), rgb, 0),
        "grey16.png": (saved((light * 65535).astype(np.uint16)), three, 1),
        "grey12_in_16.png": (saved((light * 4095).astype(np.uint16)), three, 1),
        "grey10_in_16.tif": (saved((light * 1023).astype(np.uint16), "TIFF"), three, 1),
        "grey16.tif": (saved((light * 65535).astype(np.uint16), "TIFF"), three, 1),
        "white_is_zero.tif": (
            saved((65535 - light * 65535).astype(np.uint16), "TIFF", tiffinfo={262: 0}),
            three,
            1,
        ),
        "float_1.tif": (saved(light, "TIFF"), three, 1),
        "float_255.tif": (saved(light * 255, "TIFF"), three, 1),
        "float_65535.tif": (saved(light * 65535, "TIFF"), three, 1),
        "int32_255.tif": (saved((light * 255).astype(np.int32), "TIFF"), three, 0),
        "int32_65535.tif": (saved((light * 65535).astype(np.int32), "TIFF"), three, 1),
        "cmyk.jpg": (saved(image.convert("CMYK"), "JPEG", quality=95), rgb, 40),
        "cmyk.tif": (saved(image.convert("CMYK"), "TIFF"), rgb, 1),
        "lab.tif": (saved(lab, "TIFF"), rgb, 6),
        "palette.gif": (saved(few, "GIF"), shades, 0),
        "palette_alpha.png": (
            saved(few, transparency=int(indices[48, 48])),
            over(shades, indices != indices[48, 48], 255),
            0,
        ),
        "grey_alpha.png": (saved(veiled_grey), over(three, clear, 255), 0),
        "alpha.webp": (saved(veiled, "WEBP", lossless=True), over(rgb, clear, 255), 0),
        "blank_first.gif": (saved(blank, "GIF", append_images=[image], **several), rgb, 0),
        "blank_first.webp": (saved(blank, "WEBP", append_images=[image], lossless=True, **several), rgb, 0),
        "animated.png": (saved(image, append_images=[blank], **several), rgb, 0),
        "phone.mpo.jpg": (saved(image, "MPO", append_images=[image], quality=95, **several), rgb, 40),
        "modern.avif": (saved(image, "AVIF", quality=95), rgb, 40),
        "white_logo.png": (saved(logo), over(np.full_like(rgb, 255), logo[..., 3], 0), 0),
        "long_text.png": (saved(image, pnginfo=info), rgb, 0),
        "without_end.jpg": (saved(image, "JPEG", quality=95)[:-2], rgb, 40),
        "padded_with_zeros.jpg": (saved(image, "JPEG", quality=95)[:-2] + bytes(5000), rgb, 40),
        "turned.jpg": (saved(image, "JPEG", quality=95, exif=turned), np.rot90(rgb, -1), 40),
        "wrong_turn.jpg": (saved(image, "JPEG", quality=95, exif=wrong), rgb, 40),
        "damaged_exif.jpg": (saved(image, "JPEG", quality=95, exif=_NONSENSE), rgb, 40),
        "damaged_exif.png": (saved(image, exif=b"Exif\0\0MM\0*nonsense"), rgb, 0),
    }  # fmt: skip


def tone(seconds: float = 2.0) -> np.ndarray:
    """Like a vowel, with a beginning that tells it from its end."""
    t = np.arange(round(seconds * RATE)) / RATE
    swell = (0.5 + 0.5 * np.sin(2 * np.pi * 3 * t)) * np.linspace(0.4, 1, len(t))
    return ((0.4 * np.sin(2 * np.pi * 140 * t) + 0.2 * np.sin(2 * np.pi * 700 * t)) * swell).astype(
        np.float32
    )


ENCODINGS: dict[str, dict[str, Any]] = {
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "float.wav": {"format": "WAV", "subtype": "FLOAT"},
    "24.wav": {"format": "WAVEX", "subtype": "PCM_24"},
    "rf64.wav": {"format": "RF64", "subtype": "PCM_16"},
    "aiff": {"format": "AIFF", "subtype": "PCM_16"},
    "au": {"format": "AU", "subtype": "PCM_16"},
    "flac": {"format": "FLAC"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
    "vbr.mp3": {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.7},
}


def sounded(samples: np.ndarray, name: str = "wav", rate: int = RATE, **options: Any) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, **ENCODINGS[name] | options)
    return out.getvalue()


def with_sizes(wav: bytes, sound: int, whole: int) -> bytes:
    """A WAV whose header states other sizes."""
    made, place = bytearray(wav), wav.find(b"data")
    struct.pack_into("<I", made, place + 4, sound)
    struct.pack_into("<I", made, 4, whole)
    return bytes(made)


def with_total(flac: bytes, total: int) -> bytes:
    """A FLAC whose header states another number of samples."""
    made = bytearray(flac)
    made[21] = made[21] & 0xF0 | total >> 32
    made[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(made)


def odd_sounds() -> dict[str, tuple[bytes, np.ndarray, float]]:
    """By name: the file, the samples that are right for it, and how far a lossy encoding may be from them."""
    one = tone()
    twice = np.concatenate([one, one])
    wav, mp3 = sounded(one), sounded(one, "mp3")
    id3 = b"ID3\x03\0\0" + bytes([0, 0, 16, 0]) + bytes(2048)
    length = len(wav) - wav.find(b"data") - 8
    aiff, au = bytearray(sounded(one, "aiff")), bytearray(sounded(one, "au"))
    place = aiff.find(b"SSND")
    aiff[place + 4 : place + 8] = bytes(4)
    au[8:12] = b"\xff" * 4
    floats: dict[str, Any] = {"format": "WAV", "subtype": "FLOAT"}
    found = {
        "float_of_integers.wav": (sounded(one * 32768, **floats), one, 1e-6),
        "float_hot.wav": (sounded(one * 3, **floats), one / np.abs(one).max(), 1e-6),
        "8.wav": (sounded(one, subtype="PCM_U8"), one, 0.01),
        "offset.wav": (sounded(one * 0.3 + 0.5), one * 0.3, 1e-3),
        "opposed.wav": (sounded(np.stack([one, -one], 1)), one, 1e-4),
        "left_only.wav": (sounded(np.stack([one, 0 * one], 1)), one, 1e-4),
        "stereo.wav": (sounded(np.stack([one, 0.5 * one], 1)), 0.75 * one, 1e-4),
        "stream_ff.wav": (with_sizes(wav, 0xFFFFFFFF, 0xFFFFFFFF), one, 1e-4),
        "stream_0.wav": (with_sizes(wav, 0, 0), one, 1e-4),
        "stream_7f.wav": (with_sizes(wav, 0x7FFFFFFF, 0x7FFFFFFF), one, 1e-4),
        "stream_80.wav": (with_sizes(wav, 0x80000000, 0x80000024), one, 1e-4),
        "short_riff.wav": (with_sizes(wav, length, 36), one, 1e-4),
        "stream.aiff": (bytes(aiff), one, 1e-4),
        "stream.au": (bytes(au), one, 1e-4),
        "stream.flac": (with_total(sounded(one, "flac"), 0), one, 1e-4),
        "states_half.flac": (with_total(sounded(one, "flac"), len(one) // 2), one, 1e-4),
        "list_chunk.wav": (wav + b"LIST" + struct.pack("<I", 5) + b"INFOx", one, 1e-4),
        "id3.mp3": (id3 + mp3, one, 0.08),
        "id3v1.mp3": (mp3 + b"TAG" + bytes(125), one, 0.08),
        "id3.flac": (id3 + sounded(one, "flac") + b"TAG" + bytes(125), one, 1e-4),
    }
    for name in ENCODINGS:
        tolerance = 0.12 if name in ("ogg", "opus", "mp3", "vbr.mp3") else 1e-4
        found[f"whole.{name}"] = (sounded(one, name), one, tolerance)
        found[f"twice.{name}"] = (sounded(one, name) * 2, twice, tolerance)
    return found
