"""Words compared with words: captions and transcripts against references, and the variety of free text."""

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
    """The same words in the same order; case and punctuation aside."""
    wanted, got = normalize_pair(reference, hypothesis)
    return wanted == got


def word_f1(reference: str, hypothesis: str) -> float:
    """Harmonic mean of the shares of words that both have (as bags), as in SQuAD; 0 where either is empty."""
    wanted, got = map(Counter, normalize_pair(reference, hypothesis))
    common = (wanted & got).total()
    return 2 * common / (wanted.total() + got.total()) if common else 0.0


def best_constant(candidates: Sequence[str], references: Sequence[str]) -> str:
    """The one caption of `candidates` with the highest mean word F1 over `references`: what a model that is
    blind could reach.

    The best single words of the references are tried too.
    """
    words = Counter(word for reference in references for word in dict.fromkeys(normalize_words(reference)))
    common = [word for word, _ in words.most_common(20)]
    pairs = [f"{a} {b}" for a in common[:8] for b in common[:8] if a != b]
    tried = list(dict.fromkeys([*candidates, *common, *pairs]))
    if not tried:
        raise UserError("no candidates: give at least one caption")
    return max(tried, key=lambda caption: sum(word_f1(reference, caption) for reference in references))


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> Estimate:
    """Σ character edits / Σ reference characters over normalized text (`words.characters`).

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
        raise UserError("the references hold no character: an error rate needs at least one")
    return rate(np.array(edits, dtype=np.float64), np.array(lengths, dtype=np.float64))


def derangement(n: int, seed: int) -> list[int]:
    """A random order of 0 … n - 1 in which nothing stays in its place: whose condition each example gets
    when shuffled.

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
    """Different n-grams of words / all n-grams (Li et al. 2016); it falls with length: compare equal
    amounts. 0 without any.
    """
    grams = [gram for text in texts for gram in _grams(normalize_words(text), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def unigram_entropy(texts: Sequence[str]) -> float:
    """Entropy of the words' frequencies in bits; low where text repeats itself. Falls with fewer words:
    compare equal amounts.
    """
    counts = Counter(word for text in texts for word in normalize_words(text))
    total = counts.total()
    return -math.fsum(c / total * math.log2(c / total) for c in counts.values())


def cut_to_equal_length(texts: Sequence[str], others: Sequence[str]) -> tuple[list[str], list[str]]:
    """Both lists cut, text by text, to the same number of words, so that their variety can be compared."""
    pairs = [(normalize_words(a), normalize_words(b)) for a, b in zip(texts, others, strict=False) if a and b]
    cut = [(a[: min(len(a), len(b))], b[: min(len(a), len(b))]) for a, b in pairs]
    return [" ".join(a) for a, _ in cut], [" ".join(b) for _, b in cut]


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
