"""What one request may ask for. What is more is refused, with the field and the bound."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of a request [D: a request at all of them takes minutes on a laptop, and no more memory than the
    model itself], and of all that arrive at the same time.

    Attributes:
        num_steps: unmasking steps of a result.
        num_results: results of a request, over all its prompts.
        tokens: tokens or frames that a text or a recording may be generated with, and frames of given codes.
        characters: of a prompt.
        file_bytes: of a picture or recording.
        body_bytes: of a request, before anything is read of it.
        pixels: of a picture.
        seconds: of a recording.
        receive_seconds: for the head of a request to arrive, and as long for its body.
        num_active: requests that are being received or answered.
        held_bytes: of the bodies of all these.
    """

    num_steps: int = 1024
    num_results: int = 16
    tokens: int = 2048
    characters: int = 32_768
    file_bytes: int = 25_000_000
    body_bytes: int = 64_000_000
    pixels: int = 25_000_000
    seconds: float = 60.0
    receive_seconds: float = 30.0
    num_active: int = 1024
    held_bytes: int = 512_000_000


DEFAULT = Limits()
