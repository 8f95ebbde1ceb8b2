"""What was said? A Whisper model writes down what it hears."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float32

from trimask.evaluation.judges.languages import DEFAULT, whisper_language
from trimask.evaluation.judges.pinned import check
from trimask.evaluation.judges.weights import pinned_name
from trimask.evaluation.speech import check_model, transcribe

_SILENCE = 1600


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Recognizer:
    """A frozen recognizer. `source`: a CTranslate2 folder of Whisper, or a name that faster-whisper knows."""

    source: str

    @property
    def name(self) -> str:
        return f"Whisper ({Path(self.source).name}) through faster-whisper, greedy"

    def check(self) -> None:
        """What can be told before any clip is heard. Raises as `hear`."""
        if pinned_name(self.source) == "whisper-base":
            check(Path(self.source), "whisper-base")
        check_model(self.source)

    def hear(
        self,
        clips: list[Float32[np.ndarray, "_"]],
        sample_rate: int,
        languages: Sequence[str] | None = None,
    ) -> list[str]:
        """The words of each clip, in its language (English where none are given); one without samples
        counts as a tenth of a second of silence.

        Raises:
            ImportError: no faster-whisper. UserError: another rate than 16 kHz, a language that the
                recognizer does not know, or not the pinned file.
        """
        if pinned_name(self.source) == "whisper-base":
            check(Path(self.source), "whisper-base")
        audible = [clip if len(clip) else np.zeros(_SILENCE, dtype=np.float32) for clip in clips]
        spoken = [whisper_language(each) for each in languages or [DEFAULT] * len(clips)]
        threads = len(os.sched_getaffinity(0))
        return transcribe(audible, sample_rate, self.source, languages=spoken, num_threads=threads)
