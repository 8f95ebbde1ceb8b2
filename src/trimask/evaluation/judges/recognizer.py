"""Speech recognition by a Whisper model."""

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

_SILENCE = 1600  # samples


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Recognizer:
    """A frozen recognizer; `source` is a CTranslate2 folder of Whisper, or a name for faster-whisper."""

    source: str

    @property
    def name(self) -> str:
        return f"Whisper ({Path(self.source).name}) through faster-whisper, greedy"

    def check(self) -> None:
        """Check that the model is available; one from a hub is downloaded. Raises as `transcribe`."""
        if pinned_name(self.source) == "whisper-base":
            check(Path(self.source), "whisper-base")
        check_model(self.source)

    def transcribe(
        self,
        clips: list[Float32[np.ndarray, "_"]],
        sample_rate: int,
        languages: Sequence[str] | None = None,
    ) -> list[str]:
        """Transcribe each clip in its language (English by default).

        A clip without samples counts as a tenth of a second of silence.

        Raises:
            ImportError: no faster-whisper. UserError: another rate than 16 kHz, a language that the
                recognizer does not know, or not the pinned file.
        """
        if pinned_name(self.source) == "whisper-base":
            check(Path(self.source), "whisper-base")
        audible = [clip if len(clip) else np.zeros(_SILENCE, dtype=np.float32) for clip in clips]
        codes = [whisper_language(each) for each in languages or [DEFAULT] * len(clips)]
        threads = len(os.sched_getaffinity(0))
        return transcribe(audible, sample_rate, self.source, languages=codes, num_threads=threads)
