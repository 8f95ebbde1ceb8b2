"""Words against words, by hand."""

import math

import pytest

from trimask.evaluation.text import (
    best_constant,
    character_error_rate,
    cut_to_equal_length,
    derangement,
    distinct,
    is_exact,
    unigram_entropy,
    word_f1,
)


def test_case_and_punctuation_do_not_count() -> None:
    assert is_exact("thumbs up: dark skin tone", "Thumbs up, dark skin tone")
    assert not is_exact("red apple", "apple red")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("red apple", "apple red", 1.0),
        ("red apple", "apple", 2 / 3),
        ("a a b", "a a a", 2 / 3),
        ("x", "", 0.0),
        ("x", "y", 0.0),
    ],
)
def test_word_f1(reference: str, hypothesis: str, expected: float) -> None:
    assert word_f1(reference, hypothesis) == pytest.approx(expected)


def test_best_constant_beats_each_candidate() -> None:
    references = ["man: dark skin tone", "woman: dark skin tone", "red apple"]
    found = best_constant(references, references)
    scores = {c: sum(word_f1(r, c) for r in references) for c in [*references, found]}
    assert max(scores, key=lambda caption: scores[caption]) in (found, references[0])
    assert scores[found] == max(scores.values())
    with pytest.raises(ValueError, match="no candidates"):
        best_constant([], [])


def test_character_error_rate() -> None:
    estimate = character_error_rate(["abcd", "ab"], ["abxd", ""])
    assert estimate.value == pytest.approx(3 / 6) and estimate.n == 2
    assert character_error_rate(["Good morning!"], ["good  morning"]).value == 0
    with pytest.raises(ValueError, match="2 references"):
        character_error_rate(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="no character"):
        character_error_rate(["…"], ["a"])


def test_nothing_stays_in_place_in_a_derangement() -> None:
    for n in (2, 3, 17):
        order = derangement(n, 0)
        assert sorted(order) == list(range(n))
        assert all(i != j for i, j in enumerate(order))
    assert derangement(17, 0) != derangement(17, 1)
    with pytest.raises(ValueError, match="1 examples cannot be shuffled"):
        derangement(1, 0)


def test_variety() -> None:
    assert distinct(["a b a b"], 1) == 0.5
    assert distinct(["a b a b"], 2) == pytest.approx(2 / 3)
    assert distinct([], 1) == 0.0
    assert unigram_entropy(["a b", "c d"]) == 2.0
    assert unigram_entropy(["a a a"]) == 0.0
    assert math.isclose(unigram_entropy(["a a b"]), -(2 / 3) * math.log2(2 / 3) - (1 / 3) * math.log2(1 / 3))


def test_equal_amounts_are_cut_text_by_text() -> None:
    assert cut_to_equal_length(["a b c", "d"], ["x y", "u v w"]) == (["a b", "d"], ["x y", "u"])
