"""Score text: captions of real pictures, free text, and the choice of the true continuation."""

import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from trimask import rng
from trimask.data.source import ExampleSource
from trimask.estimate import mean, proportion, rate
from trimask.evaluation import text as words
from trimask.evaluation.continuation import Choice, ContinuationScorer, choose_by_bytes
from trimask.evaluation.judges.language_model import LoadedLanguageModel
from trimask.evaluation.words import join_pieces, normalize_words, split_pieces, unit_of
from trimask.generation.generate import Generator
from trimask.generation.length import EmptySpanWarning, SpanTooShortWarning
from trimask.media.encoded import Picture
from trimask.scorecard.examples import image_input
from trimask.vocabulary.tokenizer import TextCodec

_NUM_OPTIONS = 4


@contextmanager
def ignore_length_warnings():
    """Ignore warnings about spans that do not end: scores count them instead (`complete`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpanTooShortWarning)
        warnings.simplefilter("ignore", EmptySpanWarning)
        yield


def score_captions(
    generator: Generator, chosen: Sequence[Picture], candidates: Sequence[str], *, seed: int
) -> dict[str, Any] | None:
    """Score exact match and word F1 of generated captions of real pictures.

    Floors: shuffled captions, and the best single caption for all pictures (chosen from `candidates`). None
    for fewer than two pictures.
    """
    if len(chosen) < 2:
        return None
    images = [image_input(row) for row in chosen]
    with ignore_length_warnings():
        results = generator.generate_many("image_to_text", image=images, seed=seed)
    given = [result.text or "" for result in results]
    true = [row.caption for row in chosen]
    other = [given[j] for j in words.derangement(len(given), seed)]
    constant = words.best_constant(candidates, true)
    return {
        "exact_match": proportion([words.is_exact(t, g) for t, g in zip(true, given, strict=True)]).as_json(),
        "word_f1": _word_f1(true, given),
        "floor_shuffled": _word_f1(true, other),
        "floor_constant": _word_f1(true, [constant] * len(true)),
        "best_constant": constant,
        "unit": unit_of(true),
        "complete": proportion([result.is_complete for result in results]).as_json(),
    }


def _word_f1(true: Sequence[str], given: Sequence[str]) -> dict[str, Any]:
    scores = [words.word_f1(t, g) for t, g in zip(true, given, strict=True)]
    return mean(scores, is_share=True).as_json()


def score_text(
    generator: Generator,
    text: TextCodec,
    real: Sequence[str],
    known: set[str],
    *,
    seed: int,
    count: int,
    judge: LoadedLanguageModel | None,
) -> dict[str, Any] | None:
    """Score the variety of sampled passages, their share of known words, and with a judge their perplexity.

    Floors: decoded random ids (`noise`); for the perplexity also real passages with their words in random
    order (`scrambled`). Ceiling: `real`, held-out passages cut to equal lengths. None if no sample has text.

    Args:
        known: words of the training texts, normalized.
    """
    with ignore_length_warnings():
        results = generator.generate_many("text", num_samples=count, seed=seed, batch_size=16)
    samples, passages = words.cut_to_equal_length([result.text or "" for result in results], real)
    ids = rng.generator(seed, "noise").integers(0, text.vocabulary_size, (count, 64))
    noise = [text.decode(row.tolist()) for row in ids]
    if not any(samples):
        return None
    scores: dict[str, Any] = {
        name: {
            "distinct_1": words.distinct(texts, 1),
            "distinct_2": words.distinct(texts, 2),
            "distinct_3": words.distinct(texts, 3),
            "unigram_entropy": words.unigram_entropy(texts),
            "known_words": _known(texts, known),
            "words": sum(len(t.split()) for t in texts),
            "unit": unit_of(texts),
        }
        for name, texts in {"samples": samples, "real": passages, "noise": noise}.items()
    }
    if judge is not None:
        whole = [result.text or "" for result in results], list(real)
        scores["generative_perplexity"] = _perplexities(judge, *whole, noise, seed=seed)
    return scores


def _perplexities(
    judge: LoadedLanguageModel,
    samples: Sequence[str],
    real: Sequence[str],
    noise: Sequence[str],
    *,
    seed: int,
) -> dict[str, Any]:
    """Compute perplexities of the original texts, with case and punctuation, which a language model reads."""
    draw = rng.generator(seed, "scorecard", "scrambled")
    scrambled = [join_pieces(draw.permutation(split_pieces(text)).tolist()) for text in real]
    found = {}
    for name, texts in {"samples": samples, "real": real, "scrambled": scrambled, "noise": noise}.items():
        texts = [text for text in texts if len(split_pieces(text)) > 1]
        if texts:
            perplexity, tokens = judge.perplexity(texts)
            found[name] = perplexity.as_json() | {"tokens_per_text": float(tokens.mean())}
    return found


def make_choices(
    source: ExampleSource, text: TextCodec, *, window: int, count: int, seed: int
) -> list[Choice]:
    """Make multiple-choice questions: which of four quarter windows of text follows half a window of context?

    The wrong options come from the same place in other passages. Passages that are too short are left out.
    """
    half, piece = window // 2, window // 4
    long_enough = np.flatnonzero(source.num_codes["text"] >= half + piece)
    draw = rng.generator(seed, "scorecard", "choices")
    chosen = long_enough[draw.permutation(len(long_enough))[:count]].tolist()
    if len(chosen) < _NUM_OPTIONS:
        return []
    ids = [source.example(i)["text"][:, 0].tolist() for i in chosen]
    contexts, endings = (
        [text.decode(each[:half]) for each in ids],
        [text.decode(each[half : half + piece]) for each in ids],
    )
    questions = []
    for number, context in enumerate(contexts):
        others = draw.choice([j for j in range(len(endings)) if j != number], _NUM_OPTIONS - 1, replace=False)
        options = [endings[j] for j in others.tolist()]
        answer = int(draw.integers(_NUM_OPTIONS))
        options.insert(answer, endings[number])
        if all(options):
            questions.append(Choice(context=context, options=tuple(options), answer=answer))
    return questions


def score_choices(
    scorer: ContinuationScorer, questions: Sequence[Choice], judge: LoadedLanguageModel | None, *, seed: int
) -> dict[str, Any] | None:
    """Score the share of questions in which the true continuation has the highest bound per byte.

    Floors: chance, and the same options after the context of another question. Ceiling: an outside language
    model. None for fewer than two questions.
    """
    if len(questions) < 2:
        return None
    order = words.derangement(len(questions), seed)
    asked = {
        "model": [(q.context, option) for q in questions for option in q.options],
        "shuffled": [
            (questions[j].context, option)
            for q, j in zip(questions, order, strict=True)
            for option in q.options
        ],
    }
    scores: dict[str, Any] = {"chance": 1 / _NUM_OPTIONS, "num_options": _NUM_OPTIONS}
    for name, pairs in asked.items():
        hits = choose_by_bytes(questions, scorer.log_likelihoods(pairs))
        scores[name] = proportion(hits).as_json()
    if judge is not None:
        nats = [-judge.nats(context, option)[0] for context, option in asked["model"]]
        scores["outside_language_model"] = proportion(choose_by_bytes(questions, nats)).as_json()
    return scores


def _known(texts: Sequence[str], known: set[str]) -> dict[str, Any]:
    """Compute the share of words that are known; the interval is over texts."""
    split = [normalize_words(text) for text in texts]
    split = [each for each in split if each]
    hits = np.array([sum(word in known for word in each) for each in split]) * 1.0
    return rate(hits, np.array([len(each) for each in split]) * 1.0, most=1.0).as_json()
