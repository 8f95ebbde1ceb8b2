"""Transcribe speech with a recognizer, and compute word error rates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from trimask.errors import UserError
from trimask.estimate import Estimate, change_of_rate, rate
from trimask.evaluation.words import normalize_pair, normalize_words

_JUDGE_RATE = 16_000


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> Estimate:
    """Estimate substitutions, insertions and deletions per reference word (words as defined in `words`).

    The interval is over clips, since clips are sampled, not words.

    Raises:
        UserError: lists that differ in length, or references without a word.
    """
    errors, lengths = _word_errors(references, hypotheses)
    return rate(errors, lengths)


def word_error_change(references: Sequence[str], before: Sequence[str], after: Sequence[str]) -> Estimate:
    """Estimate the change of the word error rate from `before` to `after`, paired by clip.

    Raises:
        UserError: as `word_error_rate`.
    """
    errors, lengths = _word_errors(references, after)
    return change_of_rate(errors - _word_errors(references, before)[0], lengths)


def count_words(references: Sequence[str]) -> int:
    """Count the words of references, the denominator of a word error rate."""
    return sum(len(normalize_words(text)) for text in references)


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Compute the Levenshtein distance: fewest substitutions, insertions and deletions."""
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, heard in enumerate(hypothesis, 1):
            substituted = diagonal + (word != heard)
            diagonal = row[j]
            row[j] = min(row[j] + 1, row[j - 1] + 1, substituted)
    return row[-1]


def _word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Count the edits and the reference words of each clip."""
    if len(references) != len(hypotheses):
        raise UserError(
            f"{len(references)} references and {len(hypotheses)} hypotheses: pass one for each clip"
        )
    pairs = [normalize_pair(r, h) for r, h in zip(references, hypotheses, strict=True)]
    lengths = np.array([len(reference) for reference, _ in pairs], dtype=np.float64)
    if not lengths.sum():
        raise UserError("the references have no word: a word error rate needs at least one")
    return np.array([edit_distance(r, h) for r, h in pairs], dtype=np.float64), lengths


def check_model(source: str | Path) -> None:
    """Check that `source` is a folder with a model, or a name that faster-whisper can load.

    A model from a hub is downloaded.

    Raises:
        ImportError: faster-whisper is not installed. OSError, UserError: there is no such model.
    """
    faster_whisper = _faster_whisper()
    if Path(source).is_dir():
        if not (Path(source) / "model.bin").is_file():
            raise UserError(
                f"{source} holds no model.bin: name the folder of a Whisper in CTranslate2's format"
            )
        return
    known = faster_whisper.available_models()
    if str(source) not in known and "/" not in str(source):
        raise UserError(
            f"unknown recognizer {str(source)!r}: give a folder, owner/name, or one of {', '.join(known)}"
        )
    faster_whisper.download_model(str(source))


def transcribe(
    waveforms: Sequence[Float[Tensor, "_"] | Float32[np.ndarray, "_"]],
    sample_rate: int,
    model_folder: str | Path,
    *,
    languages: Sequence[str] = (),
    num_threads: int = 1,
) -> list[str]:
    """Transcribe waveforms with a Whisper model.

    Decoding is greedy, without temperature fallback or context from earlier clips, so equal clips give equal
    transcripts.

    Args:
        model_folder: a CTranslate2 folder, or any name that faster-whisper can load.
        languages: language code of each clip; English by default.

    Raises:
        UserError: `sample_rate` is not 16 kHz, or the model does not know a language.
        ImportError: faster-whisper is not installed.
    """
    if sample_rate != _JUDGE_RATE:
        raise UserError(f"sample_rate={sample_rate}: the judge needs {_JUDGE_RATE} Hz, resample first")
    model = _faster_whisper().WhisperModel(
        str(model_folder), device="cpu", compute_type="int8", cpu_threads=num_threads
    )
    codes = list(languages) or ["en"] * len(waveforms)
    unknown = sorted(set(codes) - set(model.supported_languages))
    if unknown:
        known = ", ".join(model.supported_languages)
        raise UserError(
            f"{model_folder} does not know language {unknown[0]!r}, only {known}: choose another recognizer"
        )
    texts = []
    for waveform, language in zip(waveforms, codes, strict=True):
        samples = np.ascontiguousarray(np.asarray(waveform), dtype=np.float32)
        segments, _ = model.transcribe(
            samples,
            language=language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        texts.append(" ".join(segment.text.strip() for segment in segments))
    return texts


def _faster_whisper() -> Any:
    try:
        import faster_whisper  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise ImportError(
            "the speech judge needs faster-whisper: install trimask[eval-offline], "
            "or pip install faster-whisper"
        ) from error
    return faster_whisper
