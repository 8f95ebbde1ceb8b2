"""Any name is a voice: its tag stands before the words, and comes back from there."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimask.vocabulary.transcript import parse_transcript, transcript, voice_tag

NAMES = {
    "slt": "slt",
    "Ann B.": "ann_b",
    "Ana María": "ana_maría",
    unicodedata.normalize("NFD", "Ana María"): "ana_maría",
    "  Zoë-2 ": "zoë_2",
    "किम": "किम",
    "Иван Петров": "иван_петров",
    "p225": "p225",
    "4f0c" * 32: "4f0c4f0c4f0c",  # an id, of Common Voice
    "अर्जुन सिंह": "अर्जुन_सिंह",  # a virama, vowel signs, an anusvara
    "क्\u200dष्मा": "क्ष्मा",  # a joiner, which nobody sees
    "สมศรี ใจดี": "สมศรี_ใจดี",
    "น้ำ": "น้ำ",  # a tone mark above a vowel
    "שָׁלוֹם כֹּהֵן": unicodedata.normalize("NFC", "שָׁלוֹם_כֹּהֵן"),
    "مُحَمَّد": unicodedata.normalize("NFC", "مُحَمَّد"),
    "தமிழ்ச்செல்வி": "தமிழ்ச்செல்வி",
    "a__b": "a_b",
}


@pytest.mark.parametrize(("name", "tag"), NAMES.items())
def test_a_name_as_a_column_has_it(name: str, tag: str) -> None:
    assert voice_tag(name) == tag == voice_tag(tag)
    said = transcript(" Good Morning: Sir ", name)
    assert said == f"{tag}: good morning: sir"
    assert parse_transcript(said) == (tag, "good morning: sir")


def test_names_that_differ_in_vowel_signs_stay_apart() -> None:
    assert voice_tag("कि") != voice_tag("की")


@pytest.mark.parametrize("name", [name for name in NAMES if not name.isascii()])
def test_no_mark_of_a_name_is_lost(name: str) -> None:
    def marks(text: str) -> list[str]:
        return sorted(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c)[0] == "M")

    assert marks(voice_tag(name)) == marks(name)


@pytest.mark.parametrize("text", ["good morning", "well, now: listen", ": nothing before", ""])
def test_words_without_a_tag(text: str) -> None:
    assert parse_transcript(text) == (None, text)


@given(name=st.text(max_size=30), words=st.text(alphabet="abc :'", max_size=30))
def test_tags_come_back(name: str, words: str) -> None:
    tag = voice_tag(name)
    assert voice_tag(tag) == tag
    assert parse_transcript(transcript(words, name)) == (tag or "slt", words.strip())
