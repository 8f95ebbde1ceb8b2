"""Codebook layouts: the transformer position of each code of a frame.

A span of `frames × num_codebooks` codes is diffused code by code whatever the layout: each code is masked and
predicted on its own. The layout only says which codes share a transformer position (their embeddings are
summed, and each is predicted from that position's hidden state by its own codebook's head). Because codes
keep their (frame, codebook) order, every layout is inverted by reading them back in that order.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int


class CodebookLayout(ABC):
    """Maps the codes of a frame to transformer positions."""

    @abstractmethod
    def positions(self, num_frames: int, num_codebooks: int) -> Int[np.ndarray, "frames codebooks"]:
        """Return the position of each code within its span, from 0; every position up to the largest is
        used."""

    @abstractmethod
    def num_positions(self, num_frames: int, num_codebooks: int) -> int:
        """Return the number of transformer positions of the span."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Flattened(CodebookLayout):
    """One code per position, frame by frame, coarse codebook first: the reference layout [P?]."""

    def positions(self, num_frames: int, num_codebooks: int) -> Int[np.ndarray, "frames codebooks"]:
        return np.arange(num_frames * num_codebooks).reshape(num_frames, num_codebooks)

    def num_positions(self, num_frames: int, num_codebooks: int) -> int:
        return num_frames * num_codebooks


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Parallel(CodebookLayout):
    """One frame per position, shared by its codebooks [L: OmniVoice]. The shortest, for small machines."""

    def positions(self, num_frames: int, num_codebooks: int) -> Int[np.ndarray, "frames codebooks"]:
        return np.repeat(np.arange(num_frames)[:, None], num_codebooks, axis=1)

    def num_positions(self, num_frames: int, num_codebooks: int) -> int:
        return num_frames


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Delayed(CodebookLayout):
    """Codebook q of frame f is at position f + q [L: MusicGen]: finer codebooks see the coarser ones of their
    frame further left.
    """

    def positions(self, num_frames: int, num_codebooks: int) -> Int[np.ndarray, "frames codebooks"]:
        return np.arange(num_frames)[:, None] + np.arange(num_codebooks)[None, :]

    def num_positions(self, num_frames: int, num_codebooks: int) -> int:
        return num_frames + num_codebooks - 1
