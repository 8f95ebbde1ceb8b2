"""Byte-level BPE: exact round trips, spelling, and the file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimask.tokenizers.bundle import SHIPPED
from trimask.tokenizers.text import TextTokenizer, _byte_to_unit

TOKENIZER = TextTokenizer.load(SHIPPED / "text.json")


@given(st.text())
def test_every_string_comes_back(text: str):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
    assert TOKENIZER.decode(TOKENIZER.encode(text, is_spelled=True)) == text


@given(st.text())
def test_spelling_is_one_id_a_byte(text: str):
    ids = TOKENIZER.encode(text, is_spelled=True)
    assert len(ids) == len(text.encode())
    assert len(set(ids)) == len(set(text.encode()))


def test_byte_units_are_the_byte_level_alphabet():
    units = [_byte_to_unit(byte) for byte in range(256)]
    assert len(set(units)) == 256
    assert [units[ord(c)] for c in "aZ~!"] == list("aZ~!")
    assert units[ord(" ")] == "Ġ" and units[ord("\n")] == "Ċ"


def test_merges_shorten_and_training_is_deterministic():
    texts = ["the cat sat on the mat"] * 50 + ["the dog ate the cat"] * 50
    one, two = TextTokenizer.train(texts, 270), TextTokenizer.train(texts, 270)
    assert one.vocabulary_size == 270
    assert one.encode("the cat") == two.encode("the cat")
    assert len(one.encode("the cat")) < len("the cat")


def test_invalid_utf8_is_shown_not_raised():
    lone = TOKENIZER.encode("é", is_spelled=True)[:1]
    assert TOKENIZER.decode(lone) == "\ufffd"


def test_errors_name_the_value(tmp_path: Path):
    with pytest.raises(ValueError, match="vocabulary_size 100"):
        TextTokenizer.train(["a"], 100)
    with pytest.raises(ValueError, match="text id 99999"):
        TOKENIZER.decode([99999])
    (tmp_path / "not.json").write_text('{"model": {"type": "WordLevel"}}')
    with pytest.raises(ValueError, match=r"not\.json is not a BPE tokenizer"):
        TextTokenizer.load(tmp_path / "not.json")
    (tmp_path / "cut.json").write_text((SHIPPED / "text.json").read_text()[:1000])
    with pytest.raises(ValueError, match=r"cut\.json"):
        TextTokenizer.load(tmp_path / "cut.json")
    with pytest.raises(FileNotFoundError):
        TextTokenizer.load(tmp_path / "none.json")


def test_the_file_keeps_everything(tmp_path: Path):
    TOKENIZER.save(tmp_path / "text.json")
    again = TextTokenizer.load(tmp_path / "text.json")
    assert again.encode("red apple, naïve") == TOKENIZER.encode("red apple, naïve")
