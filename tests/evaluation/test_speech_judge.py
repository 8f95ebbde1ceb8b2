"""The word error rate against hand counts and an independent implementation; the judge itself is not run."""

import sys

import jiwer
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimask.evaluation.speech import (
    count_words,
    edit_distance,
    transcribe,
    word_error_rate,
)
from trimask.evaluation.words import normalize_words

SENTENCES = st.lists(st.sampled_from(["the", "cat", "sat", "down"]), min_size=1, max_size=7)


def test_words_are_compared_without_case_and_punctuation():
    assert normalize_words("Don't STOP, e-mail!") == ["dont", "stop", "e", "mail"]
    assert word_error_rate(["Hello, World."], ["hello world"]).value == 0.0


def test_hand_counted_rate():
    # 1 substitution in 3 words, 1 deletion in 2, 2 insertions in 1: 4 errors in 6 words.
    rate = word_error_rate(["the cat sat", "go on", "stop"], ["the bat sat", "go", "please stop now"])
    assert count_words(["the cat sat", "go on", "stop"]) == 6 and rate.n == 3
    assert rate.value == pytest.approx(4 / 6)
    assert rate.low <= rate.value <= rate.high


@given(SENTENCES, SENTENCES)
def test_agrees_with_jiwer(reference: list[str], hypothesis: list[str]):
    expected = jiwer.wer(" ".join(reference), " ".join(hypothesis))
    assert edit_distance(reference, hypothesis) / len(reference) == pytest.approx(expected)


def test_interval_shrinks_with_clips_and_is_repeatable():
    few = word_error_rate(["a b c d"] * 8, ["a b c d", "a b x x"] * 4)
    many = word_error_rate(["a b c d"] * 200, ["a b c d", "a b x x"] * 100)
    assert many.high - many.low < few.high - few.low
    assert few == word_error_rate(["a b c d"] * 8, ["a b c d", "a b x x"] * 4)


def test_errors_name_the_fix(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="2 references and 1 hypotheses"):
        word_error_rate(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="no word"):
        word_error_rate(["..."], ["a"])
    with pytest.raises(ValueError, match="sample_rate=24000"):
        transcribe([torch.zeros(10)], 24_000, "nowhere")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ImportError, match="eval-offline"):
        transcribe([torch.zeros(10)], 16_000, "nowhere")
