"""The tokenizer interfaces: declare a geometry, encode a raw signal into codes, and decode codes."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class TextCodec(Protocol):
    """Text <-> ids. `is_spelled` gives one id per UTF-8 byte (for speech, where letters matter), else merged
    units.
    """

    @property
    def vocabulary_size(self) -> int: ...
    def encode(self, text: str, *, is_spelled: bool = False) -> list[int]: ...
    def decode(self, ids: list[int]) -> str: ...


@runtime_checkable
class ImageCodec(Protocol):
    """Images in [-1, 1] <-> codes, cells in row-major order, coarse codebook first."""

    @property
    def image_size(self) -> int: ...
    @property
    def grid(self) -> tuple[int, int]: ...
    @property
    def num_codebooks(self) -> int: ...
    @property
    def codebook_size(self) -> int: ...
    def encode(self, images: Float[Tensor, "b 3 h w"], /) -> Int[Tensor, "b cells codebooks"]: ...
    def decode(self, codes: Int[Tensor, "b cells codebooks"]) -> Float[Tensor, "b 3 h w"]: ...


@runtime_checkable
class SpeechCodec(Protocol):
    """Mono waveform at `sample_rate` (Hz) <-> codes at `frame_rate` (frames/s), coarse codebook first."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def frame_rate(self) -> float: ...
    @property
    def num_codebooks(self) -> int: ...
    @property
    def codebook_size(self) -> int: ...
    def encode(self, waveform: Float[Tensor, "samples"], /) -> Int[Tensor, "frames codebooks"]: ...
    def decode(self, codes: Int[Tensor, "frames codebooks"]) -> Float[Tensor, "samples"]: ...
