"""Align the words of a recording with its frames, in rotary coordinates.

Speech is read in order at a nearly constant rate. So a transcript has coordinates on the speech's axis: a
letter is near the frames that say it, and attention can find them by distance.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from trimask.errors import UserError

TEXT, SPEECH = "text", "speech"
"""What is aligned, and with what."""


class TextAlignment(ABC):
    """Coordinates of a transcript's tokens, without parameters."""

    __slots__ = ()

    @abstractmethod
    def frames(self, num_tokens: int, num_frames: int) -> Float[np.ndarray, "tokens"] | None:
        """Return the frame of each of `num_tokens`, from 0 at the first frame's centre; it may lie outside
        the speech's span of `num_frames`, which includes end frames. None leaves the tokens where they are.
        """


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Unaligned(TextAlignment):
    """At its own positions, one after the other, before or after the speech: what a sequence has without
    alignment.
    """

    def frames(self, num_tokens: int, num_frames: int) -> None:
        return None


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Even(TextAlignment):
    """Spread over the whole span [D]. A random number of end frames stretches it in training, so letters are
    within about a tenth of the span from their frames.
    """

    def frames(self, num_tokens: int, num_frames: int) -> Float[np.ndarray, "tokens"]:
        return (np.arange(num_tokens) + 0.5) / num_tokens * num_frames - 0.5


EVEN = Even()


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ConstantRate(TextAlignment):
    """At the average rate of a voice, independent of the span's length [D].

    Attributes:
        frames_per_token: of speech, for a token of the transcript.
        lead: the frame of the first token, after silence and the voice tag.

    Raises: UserError unless the rate is positive and both are finite.
    """

    frames_per_token: float
    lead: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.frames_per_token < np.inf or not -np.inf < self.lead < np.inf:
            raise UserError(
                f"ConstantRate has frames_per_token {self.frames_per_token} and lead {self.lead}; give a "
                "positive rate, and finite numbers"
            )

    def frames(self, num_tokens: int, num_frames: int) -> Float[np.ndarray, "tokens"]:
        return self.lead + (np.arange(num_tokens) + 0.5) * self.frames_per_token - 0.5
