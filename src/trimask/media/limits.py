"""Bounds beyond which pictures, recordings and texts are rejected."""

from dataclasses import dataclass
from typing import final

from trimask.errors import UserError


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds beyond which an item is set aside rather than tokenized.

    Attributes:
        max_bytes: size of an encoded picture or recording, or of a text document.
        max_pixels: width × height in the picture's header, checked before decoding.
        min_side: smallest width and height in pixels.
        min_seconds, max_seconds: duration of a recording by its header.
        min_rate, max_rate: samples per second.
        max_channels: channels of a recording.
        silence: a recording whose loudest sample is below this is silent (−60 dB of full scale).
        max_characters_per_second: a higher rate means a wrong sample rate in the header, or the transcript
            of another recording [D: fast English is 25].
        max_caption: length of a caption or transcript in characters.
    """

    max_bytes: int = 64_000_000
    max_pixels: int = 64_000_000
    min_side: int = 8
    min_seconds: float = 0.1
    max_seconds: float = 30.0
    min_rate: int = 4000
    max_rate: int = 384_000
    max_channels: int = 16
    silence: float = 1e-3
    max_characters_per_second: float = 40.0
    max_caption: int = 2000

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds < self.max_seconds:
            raise UserError(f"max_seconds {self.max_seconds}: must be above {self.min_seconds}")
        if self.max_pixels < 1:
            raise UserError(f"max_pixels {self.max_pixels}: must be at least 1")
