"""Pictures and recordings at the image size and the sample rate of a model's tokenizers."""

from typing import Protocol, runtime_checkable

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float32, Int, UInt8
from torch import Tensor

from trimask.media.picture import crop_square
from trimask.media.recording import resample
from trimask.pixels import to_bytes
from trimask.vocabulary.tokenizer import ImageCodec

_BATCH = 64  # pictures decoded together


@runtime_checkable
class Picture(Protocol):
    """A captioned picture. Its `key` is unique; variants of one thing share a `concept`."""

    @property
    def key(self) -> str: ...
    @property
    def concept(self) -> str: ...
    @property
    def caption(self) -> str: ...
    def pixels(self) -> UInt8[np.ndarray, "h w 3"]: ...


@runtime_checkable
class Recording(Protocol):
    """A recording of `text` with samples at `sample_rate` (Hz).

    `voice` is a voice tag; `language` a language code, "" if unknown.
    """

    @property
    def text(self) -> str: ...
    @property
    def voice(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def sample_rate(self) -> int: ...
    def waveform(self) -> Float32[np.ndarray, "samples"]: ...


def pixels_at(row: Picture, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Return the picture cropped and resized to `size` pixels along each side, as in preparation."""
    return crop_square(PIL.Image.fromarray(row.pixels()), size)


def waveform_at(row: Recording, sample_rate: int) -> Float32[np.ndarray, "samples"]:
    """Return the recording's samples at `sample_rate` (Hz)."""
    return resample(row.waveform(), row.sample_rate, sample_rate)


@torch.inference_mode()
def decode_pixels(
    codec: ImageCodec, codes: Int[Tensor, "n cells codebooks"]
) -> UInt8[np.ndarray, "n size size 3"]:
    """Decode codes into RGB pictures, in batches."""
    starts = range(0, len(codes), _BATCH)
    return np.concatenate([to_bytes(codec.decode(codes[start : start + _BATCH])) for start in starts])
