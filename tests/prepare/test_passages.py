"""Text: what is refused, and windows that lose nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimask.media.rejection import Reason, Rejected
from trimask.prepare.passages import clean_text, windows
from trimask.tokenizers.text import TextTokenizer

CODEC = TextTokenizer.train(["a red apple is here. And there!", "\n\n"], 280)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300), st.integers(8, 40))
def test_windows_end_to_end_are_the_text(text: str, length: int):
    found = list(windows(text, CODEC, length))
    assert all(0 < len(window) <= length for window in found)
    assert CODEC.decode([i for window in found for i in window]) == text


def test_windows_hold_whole_sentences_where_they_fit():
    text = "One is here. Two is there. Three is far away."
    found = [CODEC.decode(window) for window in windows(text, CODEC, 24)]
    assert len(found) > 1
    assert all(part.rstrip().endswith(".") for part in found)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.NO_TEXT),
        (7, Reason.NO_TEXT),
        ("", Reason.EMPTY_TEXT),
        (" \n\t", Reason.EMPTY_TEXT),
        (b"caf\xe9", Reason.NOT_UTF8),
        ("caf�", Reason.NOT_UTF8),
        ("a\0b", Reason.NOT_UTF8),
        ("\ud800", Reason.NOT_UTF8),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), Reason.NOT_UTF8),
    ],
)
def test_what_is_no_text_has_a_reason(value: str | bytes | int | None, reason: Reason):
    with pytest.raises(Rejected) as caught:
        clean_text(value)
    assert caught.value.reason is reason


def test_bytes_are_decoded():
    assert clean_text("café".encode()) == "café"
