"""The other half of the scorecard: what a model generates, judged beside floors (chance, shuffled) and
ceilings (its tokenizers).
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from trimask import rng
from trimask.data.quickstart import CaptionedImage, Utterance
from trimask.evaluation import text as words
from trimask.evaluation.estimate import mean, proportion, ratio
from trimask.evaluation.image import Agreement, agreement, lab_features
from trimask.evaluation.speech import normalize_words, transcribe, word_error_rate
from trimask.recipes.signals import pixels_at, resample, waveform_at
from trimask.sampling.generate import Generated, Generator
from trimask.sampling.length import EmptySpanWarning, SpanTooShortWarning
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.modality import Task

Report = Callable[[str], None]
_SIZE = 64  # pixels along each side of the pictures of a gallery
_JUDGE_RATE = 16_000


@contextmanager
def without_length_warnings():
    """An early model leaves many spans open: here that is counted, not said each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpanTooShortWarning)
        warnings.simplefilter("ignore", EmptySpanWarning)
        yield


def pixels_of(rows: Sequence[CaptionedImage], size: int = _SIZE) -> np.ndarray:
    """uint8 pictures (n, size, size, 3)."""
    return np.stack([pixels_at(row, size) for row in rows])


@torch.inference_mode()
def reconstruct(tokenizers: Tokenizers, pixels: np.ndarray) -> np.ndarray:
    """The pictures (at the image tokenizer's size) after a round trip through it: the best that a model over
    its codes can do.
    """
    parts = []
    for start in range(0, len(pixels), 64):
        images = torch.from_numpy(pixels[start : start + 64]).permute(0, 3, 1, 2).float() / 127.5 - 1
        decoded = tokenizers.image.decode(tokenizers.image.encode(images)).clamp(-1, 1)
        parts.append(((decoded + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def image_scores(
    generator: Generator,
    tokenizers: Tokenizers,
    chosen: Sequence[CaptionedImage],
    gallery: Sequence[CaptionedImage],
    features: np.ndarray,
    *,
    seed: int,
) -> dict[str, Any] | None:
    """Agreement of pictures made from the captions of `chosen` with their originals in `gallery` (whose
    `features` are given).
    """
    if len(chosen) < 2 or len(gallery) < 2:
        return None
    place = {row.hexcode: number for number, row in enumerate(gallery)}
    own = np.array([place[row.hexcode] for row in chosen])
    made = generator.generate_many(Task.TEXT_TO_IMAGE, [row.caption for row in chosen], seed=seed)
    pictures = np.stack([_pixels(result) for result in made])
    scores: dict[str, Agreement] = {
        "generated": agreement(pictures, features, own),
        "shuffled": agreement(pictures, features, own[words.derangement(len(own), seed)]),
        "ceiling": agreement(
            reconstruct(tokenizers, pixels_of(chosen, tokenizers.image.image_size)), features, own
        ),
    }
    return {name: score.as_json() for name, score in scores.items()}


def gallery_features(rows: Sequence[CaptionedImage]) -> np.ndarray:
    """Features of a gallery, in parts: decoded pictures are large."""
    return np.concatenate([lab_features(pixels_of(rows[i : i + 256])) for i in range(0, len(rows), 256)])


def caption_scores(
    generator: Generator, chosen: Sequence[CaptionedImage], candidates: Sequence[str], *, seed: int
) -> dict[str, Any] | None:
    """Exact match and word F1 of the captions given to real pictures; floors: shuffled, and the best
    caption of a blind model.
    """
    if len(chosen) < 2:
        return None
    images = [Image.fromarray(row.pixels()) for row in chosen]
    with without_length_warnings():
        results = generator.generate_many(Task.IMAGE_TO_TEXT, image=images, seed=seed)
    given = [result.text or "" for result in results]
    true = [row.caption for row in chosen]
    other = [given[j] for j in words.derangement(len(given), seed)]
    constant = words.best_constant(candidates, true)
    return {
        "exact_match": proportion([words.is_exact(t, g) for t, g in zip(true, given, strict=True)]).as_json(),
        "word_f1": mean([words.word_f1(t, g) for t, g in zip(true, given, strict=True)]).as_json(),
        "floor_shuffled": mean([words.word_f1(t, g) for t, g in zip(true, other, strict=True)]).as_json(),
        "floor_constant": mean([words.word_f1(t, constant) for t in true]).as_json(),
        "best_constant": constant,
        "complete": proportion([result.is_complete for result in results]).as_json(),
    }


def transcript_scores(
    generator: Generator, chosen: Sequence[Utterance], *, seed: int
) -> dict[str, Any] | None:
    """Character error rate of the model's own transcripts of real clips; floor: the same transcripts
    shuffled among clips.
    """
    if len(chosen) < 2:
        return None
    with without_length_warnings():
        codec = generator.codecs.speech
        assert codec is not None
        clips = [waveform_at(row, codec.sample_rate) for row in chosen]
        results = generator.generate_many(Task.SPEECH_TO_TEXT, audio=clips, seed=seed, batch_size=16)
    given, true = [result.text or "" for result in results], [row.text for row in chosen]
    other = [given[j] for j in words.derangement(len(given), seed)]
    return {
        "character_error_rate": words.character_error_rate(true, given).as_json(),
        "floor_shuffled": words.character_error_rate(true, other).as_json(),
        "complete": proportion([result.is_complete for result in results]).as_json(),
    }


def speak(generator: Generator, rows: Sequence[Utterance], *, seed: int) -> list[Generated]:
    """What the model says for the text of each utterance, in the voice of the utterance."""
    spoken: dict[int, Generated] = {}
    for voice in dict.fromkeys(row.voice for row in rows):
        here = [i for i, row in enumerate(rows) if row.voice == voice]
        with without_length_warnings():
            results = generator.generate_many(
                Task.TEXT_TO_SPEECH, [rows[i].text for i in here], voice=voice, seed=seed, batch_size=16
            )
        spoken.update(zip(here, results, strict=True))
    return [spoken[i] for i in range(len(rows))]


def speech_scores(
    generator: Generator,
    tokenizers: Tokenizers,
    chosen: Sequence[Utterance],
    *,
    seed: int,
    judge: Path | None,
    report: Report,
) -> dict[str, Any] | None:
    """Length of generated speech beside the real reading's; with a judge, word error rates of the teacher,
    the codec and the model.
    """
    if len(chosen) < 2:
        return None
    results = speak(generator, chosen, seed=seed)
    made = [_waveform(result) for result in results]
    codec = tokenizers.speech
    real = [waveform_at(row, codec.sample_rate) for row in chosen]
    sizes, true_sizes = np.array([len(w) for w in made]) * 1.0, np.array([len(w) for w in real]) * 1.0
    scores: dict[str, Any] = {
        "duration_ratio": ratio(sizes, true_sizes).as_json(),
        "complete": proportion([result.is_complete for result in results]).as_json(),
    }
    if judge is None:
        return scores
    report("the judge listens: teacher, codec round trip, model")
    with torch.inference_mode():
        trips = [codec.decode(codec.encode(torch.from_numpy(clip))).numpy() for clip in real]
    heard = {
        name: transcribe(
            [resample(clip, codec.sample_rate, _JUDGE_RATE) for clip in clips],
            _JUDGE_RATE,
            judge,
            num_threads=torch.get_num_threads(),
        )
        for name, clips in {
            "teacher": real,
            "round_trip": trips,
            "generated": [_audible(w) for w in made],
        }.items()
    }
    order = words.derangement(len(chosen), seed)
    heard["shuffled"] = [heard["teacher"][j] for j in order]
    for name, hypotheses in heard.items():
        rate = word_error_rate([row.text for row in chosen], hypotheses, seed=seed)
        scores[f"{name}_word_error_rate"] = {
            "value": rate.value,
            "low": rate.low,
            "high": rate.high,
            "n": len(chosen),
        }
    return scores


def text_scores(
    generator: Generator,
    tokenizers: Tokenizers,
    real: Sequence[str],
    known: set[str],
    *,
    seed: int,
    count: int,
) -> dict[str, Any] | None:
    """Variety of sampled passages beside held-out ones cut to equal lengths, and the share of their words
    that training texts have.

    Floor of that share: ids drawn uniformly, decoded.
    """
    with without_length_warnings():
        results = generator.generate_many(Task.TEXT, num_samples=count, seed=seed, batch_size=16)
    samples, passages = words.equal_amounts([result.text or "" for result in results], real)
    ids = rng.generator(seed, "noise").integers(0, tokenizers.text.vocabulary_size, (count, 64))
    noise = [tokenizers.text.decode(row.tolist()) for row in ids]
    if not any(samples):
        return None
    return {
        name: {
            "distinct_1": words.distinct(texts, 1),
            "distinct_2": words.distinct(texts, 2),
            "unigram_entropy": words.unigram_entropy(texts),
            "known_words": _known(texts, known),
            "words": sum(len(t.split()) for t in texts),
        }
        for name, texts in {"samples": samples, "real": passages, "noise": noise}.items()
    }


def _known(texts: Sequence[str], known: set[str]) -> dict[str, Any]:
    """Share of words that are known, per text a ratio; the interval is over texts."""
    split = [normalize_words(text) for text in texts]
    split = [each for each in split if each]
    hits = np.array([sum(word in known for word in each) for each in split]) * 1.0
    return ratio(hits, np.array([len(each) for each in split]) * 1.0).as_json()


def _pixels(result: Generated) -> np.ndarray:
    assert result.image is not None
    return np.asarray(result.image.convert("RGB"))


def _waveform(result: Generated) -> np.ndarray:
    assert result.waveform is not None
    return result.waveform


def _audible(waveform: np.ndarray) -> np.ndarray:
    """A tenth of a second of silence where nothing was said: the judge needs something to listen to."""
    return waveform if len(waveform) else np.zeros(1600, dtype=np.float32)
