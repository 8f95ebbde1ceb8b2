"""Synthesize speech by flite and encode it as Ogg Opus, reproducibly."""

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from trimask.errors import UserError

VOICES = ("slt", "rms")
SAMPLE_RATE = 16_000
# libsndfile maps this level, from 0 to 1, linearly to the bit rate of Opus. From 0.99 on, Opus drops the band
# above 4 kHz, which saves 14 % of the bytes but adds 5 points of word error rate (measure_audio.py, data
# card).
COMPRESSION_LEVEL = 0.985


def require_flite() -> str:
    """Return the path of the `flite` program. Raise UserError if it is not installed."""
    program = shutil.which("flite")
    if program is None:
        raise UserError(
            "no program `flite` on PATH: run `apt-get install flite wordnet-base` (Debian or Ubuntu)"
        )
    return program


def speak(text: str, voice: str) -> np.ndarray:
    """Synthesize `text` in a flite voice: int16 samples at 16 kHz, the same for each call."""
    if voice not in VOICES:
        raise UserError(f"unknown voice {voice!r}: choose from {', '.join(VOICES)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(
            [require_flite(), "-voice", voice, "-t", text, "-o", str(path)], check=True, capture_output=True
        )
        samples, rate = soundfile.read(path, dtype="int16")
    assert rate == SAMPLE_RATE and samples.ndim == 1, (rate, samples.shape)
    return samples


def encode_opus(samples: np.ndarray, *, compression_level: float = COMPRESSION_LEVEL) -> bytes:
    """Encode mono 16 kHz samples as Ogg Opus, with the random stream serial of libsndfile set to 0."""
    out = io.BytesIO()
    soundfile.write(
        out, samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=compression_level
    )
    return with_serial_zero(out.getvalue())


def decode_opus(data: bytes, num_samples: int) -> np.ndarray:
    """Decode Ogg Opus to float32 samples in [-1, 1] at 16 kHz; return the first `num_samples`."""
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    if rate != SAMPLE_RATE or samples.ndim != 1 or len(samples) < num_samples:
        raise UserError(
            f"expected {num_samples} mono samples at {SAMPLE_RATE} Hz, decoded {samples.shape} at {rate} Hz"
        )
    return samples[:num_samples]


def with_serial_zero(ogg: bytes) -> bytes:
    """Set the serial number of all pages of an Ogg stream to 0 and fix checksums (RFC 3533, section 6)."""
    pages = bytearray(ogg)
    start = 0
    while start < len(pages):
        assert pages[start : start + 4] == b"OggS", f"no Ogg page at byte {start}"
        num_segments = pages[start + 26]
        end = start + 27 + num_segments + sum(pages[start + 27 : start + 27 + num_segments])
        pages[start + 14 : start + 18] = bytes(4)
        pages[start + 22 : start + 26] = bytes(4)
        pages[start + 22 : start + 26] = ogg_checksum(pages[start:end]).to_bytes(4, "little")
        start = end
    return bytes(pages)


def _checksum_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = ((value << 1) ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
        table.append(value)
    return tuple(table)


_TABLE = _checksum_table()


def ogg_checksum(page: bytes | bytearray) -> int:
    """Compute the CRC-32 of a page with a zeroed checksum: polynomial 0x04C11DB7, not reflected."""
    value = 0
    for byte in page:
        value = ((value << 8) & 0xFFFFFFFF) ^ _TABLE[(value >> 24) ^ byte]
    return value
