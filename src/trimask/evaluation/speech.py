"""Speech judged by listening: a recognizer writes down what it hears, and the words are compared with the
text.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from trimask import rng

_JUDGE_RATE = 16_000


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class WordErrorRate:
    """Substitutions, insertions and deletions per reference word, with a bootstrap interval over clips."""

    value: float
    low: float
    high: float
    words: int
    """Reference words that the rate is over."""


def word_error_rate(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> WordErrorRate:
    """Σ edit distances / Σ reference words, after `normalize_words`.

    The interval is the percentile bootstrap over clips (Bisani & Ney 2004): clips are what is drawn at
    random, not words. ValueError if the lists differ in length or the references hold no word.
    """
    if len(references) != len(hypotheses):
        raise ValueError(
            f"{len(references)} references and {len(hypotheses)} hypotheses: pass one for each clip"
        )
    pairs = [(normalize_words(r), normalize_words(h)) for r, h in zip(references, hypotheses, strict=True)]
    lengths = np.array([len(reference) for reference, _ in pairs], dtype=np.float64)
    if lengths.sum() == 0:
        raise ValueError("the references hold no word: a word error rate needs at least one")
    errors = np.array(
        [edit_distance(reference, hypothesis) for reference, hypothesis in pairs], dtype=np.float64
    )
    generator = rng.generator(seed, "word_error_rate")
    drawn = generator.integers(0, len(pairs), (num_resamples, len(pairs)))
    rates = errors[drawn].sum(1) / np.maximum(lengths[drawn].sum(1), 1.0)
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return WordErrorRate(
        value=float(errors.sum() / lengths.sum()), low=float(low), high=float(high), words=int(lengths.sum())
    )


def normalize_words(text: str) -> list[str]:
    """Words in lower case without punctuation; apostrophes vanish (`don't` is `dont`), other marks part
    words.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("'", "").replace("\u2019", "")
    return "".join(c if c.isalnum() else " " for c in text).split()


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Fewest substitutions, insertions and deletions that turn one sequence into the other (Levenshtein)."""
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, heard in enumerate(hypothesis, 1):
            substituted = diagonal + (word != heard)
            diagonal = row[j]
            row[j] = min(row[j] + 1, row[j - 1] + 1, substituted)
    return row[-1]


def transcribe(
    waveforms: Sequence[Float[Tensor, "_"] | Float32[np.ndarray, "_"]],
    sample_rate: int,
    model_folder: str | Path,
    *,
    num_threads: int = 1,
) -> list[str]:
    """What a Whisper model (a CTranslate2 folder, or any name that faster-whisper knows) hears in each
    waveform.

    English, greedy, no temperature fallback and no memory between clips: the same clip gives the same words.
    ValueError for another rate than 16 kHz; ImportError where faster-whisper is not installed.
    """
    if sample_rate != _JUDGE_RATE:
        raise ValueError(f"sample_rate={sample_rate}: the judge listens at {_JUDGE_RATE} Hz, resample first")
    try:
        from faster_whisper import WhisperModel  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise ImportError(
            "the speech judge needs faster-whisper: install trimask[eval-offline], "
            "or pip install faster-whisper"
        ) from error
    model = WhisperModel(str(model_folder), device="cpu", compute_type="int8", cpu_threads=num_threads)
    texts = []
    for waveform in waveforms:
        samples = np.ascontiguousarray(np.asarray(waveform), dtype=np.float32)
        segments, _ = model.transcribe(
            samples,
            language="en",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        texts.append(" ".join(segment.text.strip() for segment in segments))
    return texts
