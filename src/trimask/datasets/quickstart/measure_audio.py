"""Measure whether audio encoding reduces intelligibility, by word error rates of raw and encoded speech.

`python -m trimask.datasets.quickstart.measure_audio --judge DIR [--levels 0.97,0.985,0.99] [--count 120]`

DIR is a faster-whisper model folder. The sentences are the first `count` of the validation and test splits.
Each is synthesized in its voice and recognized raw and after Opus encoding at each level. The comparison is
paired: differences are due to the codec.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from trimask.datasets.quickstart.reader import Utterance, load_speech
from trimask.datasets.quickstart.voice import SAMPLE_RATE, decode_opus, encode_opus, speak


def held_out_sentences(count: int) -> list[Utterance]:
    """Return the first `count` sentences, in file order, that are not in the training split."""
    return [one for one in load_speech() if one.kind == "sentence" and one.split != "train"][:count]


def normalize(text: str) -> str:
    """Convert to lower case with single spaces and no punctuation except apostrophes."""
    return " ".join(re.sub(r"[^a-z0-9' ]+", " ", text.lower().replace("’", "'")).split())


def word_errors(judge: Any, samples: np.ndarray, text: str) -> int:
    """Count substitutions, deletions and insertions in the recognizer's transcript of `text`."""
    import jiwer  # like faster_whisper below, a dependency of this module only

    segments, _ = judge.transcribe(
        samples, language="en", beam_size=1, temperature=0.0, condition_on_previous_text=False
    )
    heard = normalize(" ".join(segment.text for segment in segments))
    if not heard:
        return len(text.split())
    result = jiwer.process_words(text, heard)
    return result.substitutions + result.deletions + result.insertions


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Intelligibility:
    """Word errors of one setting, and the number of sentences that are worse or better than raw audio."""

    setting: str
    errors: int
    words: int
    num_worse: int
    num_better: int
    bits_per_second: float

    def __str__(self) -> str:
        return (
            f"{self.setting:12} {self.bits_per_second / 1000:6.1f} kb/s  "
            f"WER {100 * self.errors / self.words:.2f} % ({self.errors} of {self.words} words)  "
            f"sentences worse {self.num_worse}, better {self.num_better}"
        )


def measure(judge: Any, count: int, levels: list[float]) -> Iterator[Intelligibility]:
    """Yield the results for raw audio, then for each compression level."""
    sentences = held_out_sentences(count)
    raw = [speak(one.text, one.voice) for one in sentences]
    seconds = sum(map(len, raw)) / SAMPLE_RATE
    words = sum(len(one.text.split()) for one in sentences)

    def compare(setting: str, decoded: list[np.ndarray], num_bytes: int) -> tuple[list[int], Intelligibility]:
        errors = [
            word_errors(judge, samples, one.text) for samples, one in zip(decoded, sentences, strict=True)
        ]
        pairs = list(zip(errors, baseline or errors, strict=True))
        return errors, Intelligibility(
            setting=setting,
            errors=sum(errors),
            words=words,
            num_worse=sum(new > old for new, old in pairs),
            num_better=sum(new < old for new, old in pairs),
            bits_per_second=8 * num_bytes / seconds,
        )

    baseline: list[int] = []
    baseline, result = compare("raw", [one.astype(np.float32) / 32768 for one in raw], 2 * sum(map(len, raw)))
    yield result
    for level in levels:
        encoded = [encode_opus(samples, compression_level=level) for samples in raw]
        decoded = [decode_opus(data, len(samples)) for data, samples in zip(encoded, raw, strict=True)]
        yield compare(f"level {level:g}", decoded, sum(map(len, encoded)))[1]


def main(arguments: list[str]) -> int:
    """Run the command and print one line per setting; return 2 for bad arguments, 1 for errors."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    if len(arguments) % 2 or not {"--judge"} <= options.keys() <= {"--judge", "--levels", "--count"}:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(options["--judge"])
    if not (folder / "model.bin").is_file():
        print(f"error: no faster-whisper model (model.bin) in {folder}", file=sys.stderr)
        return 1
    from faster_whisper import WhisperModel  # pyright: ignore[reportMissingImports]  (an extra)

    judge = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    levels = [float(level) for level in options.get("--levels", "0.97,0.985,0.99").split(",")]
    for result in measure(judge, int(options.get("--count", "120")), levels):
        print(result, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
