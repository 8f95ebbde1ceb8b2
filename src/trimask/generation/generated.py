"""`Generated`: the result for one sequence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np
import PIL.Image


@final
@dataclass(frozen=True, kw_only=True)
class Generated:
    """The result for one sequence: only the targets of its task are set.

    Attributes:
        text: the text, without the voice's tag.
        image: RGB.
        waveform: mono float32 samples at `sample_rate` (Hz).
        codes: of each target, up to its end token (frames × codebooks).
        is_complete: every span of variable length contains its end token.
        tokens: the sampled sequence.
    """

    task: str
    text: str | None = None
    image: PIL.Image.Image | None = None
    waveform: np.ndarray | None = None
    sample_rate: int | None = None
    codes: Mapping[str, np.ndarray] = field(default_factory=dict)
    is_complete: bool = True
    tokens: np.ndarray

    @property
    def value(self) -> "str | PIL.Image.Image | tuple[np.ndarray, int] | np.ndarray | Generated":
        """The text, image, (waveform, sample_rate), or codes of a modality without a tokenizer; `self` if the
        task has several targets.
        """
        if len(self.codes) > 1:
            return self
        if self.waveform is not None and self.sample_rate is not None:
            return self.waveform, self.sample_rate
        value = self.image if self.text is None else self.text
        return next(iter(self.codes.values())) if value is None else value
