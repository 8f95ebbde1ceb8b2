"""Compare captions and transcripts with references, and measure the variety of free text."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from trimask import rng
from trimask.errors import UserError
from trimask.estimate import Estimate, rate
from trimask.evaluation.speech import edit_distance
from trimask.evaluation.words import normalize_pair, normalize_words, split_characters


def is_exact(reference: str, hypothesis: str) -> bool:
    """Whether both have the same words in the same order, apart from case and punctuation."""
    wanted, got = normalize_pair(reference, hypothesis)
    return wanted == got


def word_f1(reference: str, hypothesis: str) -> float:
    """Compute the F1 of words as in SQuAD (multisets, harmonic mean of precision and recall); 0 if empty."""
    wanted, got = map(Counter, normalize_pair(reference, hypothesis))
    common = (wanted & got).total()
    return 2 * common / (wanted.total() + got.total()) if common else 0.0


def best_constant(candidates: Sequence[str], references: Sequence[str]) -> str:
    """Find the single caption with the highest mean word F1 over `references`, the best of a blind model.

    Besides `candidates`, the most frequent words of the references and pairs of them are tried.

    Raises:
        UserError: nothing to try.
    """
    words = Counter(word for reference in references for word in dict.fromkeys(normalize_words(reference)))
    common = [word for word, _ in words.most_common(20)]
    pairs = [f"{a} {b}" for a in common[:8] for b in common[:8] if a != b]
    tried = list(dict.fromkeys([*candidates, *common, *pairs]))
    if not tried:
        raise UserError("no candidates: give at least one caption")
    return max(tried, key=lambda caption: sum(word_f1(reference, caption) for reference in references))


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> Estimate:
    """Estimate Σ character edits / Σ reference characters over normalized text (`words.split_characters`).

    Raises:
        UserError: lists that differ in length, or references without a character.
    """
    if len(references) != len(hypotheses):
        raise UserError(f"{len(references)} references and {len(hypotheses)} hypotheses: pass one for each")
    pairs = [map(split_characters, normalize_pair(r, h)) for r, h in zip(references, hypotheses, strict=True)]
    edits, lengths = [], []
    for reference, hypothesis in pairs:
        edits.append(edit_distance(reference, hypothesis))
        lengths.append(len(reference))
    if not sum(lengths):
        raise UserError("the references have no character: an error rate needs at least one")
    return rate(np.array(edits, dtype=np.float64), np.array(lengths, dtype=np.float64))


def derangement(n: int, seed: int) -> list[int]:
    """Draw a permutation of 0 … n - 1 without fixed points, to give each example another's condition.

    Raises:
        UserError: fewer than two examples.
    """
    if n < 2:
        raise UserError(f"{n} examples cannot be shuffled: give at least 2")
    cycle = rng.generator(seed, "derangement").permutation(n)
    result = np.empty(n, dtype=np.int64)
    result[cycle] = np.roll(cycle, 1)
    return result.tolist()


def distinct(texts: Sequence[str], n: int) -> float:
    """Compute distinct-n: different n-grams of words / all n-grams (Li et al. 2016); 0 without any.

    It decreases with length: compare equal amounts of text only.
    """
    grams = [gram for text in texts for gram in _grams(normalize_words(text), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def unigram_entropy(texts: Sequence[str]) -> float:
    """Compute the entropy of word frequencies, in bits; it is low for repetitive text.

    It decreases with fewer words: compare equal amounts of text only.
    """
    counts = Counter(word for text in texts for word in normalize_words(text))
    total = counts.total()
    return -math.fsum(c / total * math.log2(c / total) for c in counts.values())


def cut_to_equal_length(texts: Sequence[str], others: Sequence[str]) -> tuple[list[str], list[str]]:
    """Cut both lists, text by text, to the same number of words, so that their variety can be compared."""
    pairs = [(normalize_words(a), normalize_words(b)) for a, b in zip(texts, others, strict=False) if a and b]
    cut = [(a[: min(len(a), len(b))], b[: min(len(a), len(b))]) for a, b in pairs]
    return [" ".join(a) for a, _ in cut], [" ".join(b) for _, b in cut]


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
