"""Split text into normalized words: one rule for captions, transcripts and free text, in all scripts.

- Case and compatibility forms are ignored (Unicode NFKC and case folding); punctuation and symbols separate
  words; apostrophes, format characters (joiners, soft hyphens), variation selectors and the Arabic tatweel
  are removed.
- A word is a run of letters, marks and numbers. In scripts written without spaces (Chinese, Japanese, Thai,
  Lao, Khmer, Burmese and others) each character is a word, and spaces between them are ignored. `unit_of`
  returns which units a text has.
- A character is a letter with its marks (a grapheme cluster), in words and in character error rates.
- The vowel points of Arabic and Hebrew are optional: they are compared only if both texts have them.
- Numbers: digits of all scripts become 0 … 9; thousands separators are removed (1,000, 1.000 and 1'000 are
  1000); a decimal comma becomes a point; `%` becomes percent, `$5` 5 dollars; English number words become
  digits (`numbers`).
"""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import regex

from trimask.evaluation.numbers import as_digits

_UNSPACED = r"[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{lb=SA}&&[\p{L}\p{Nl}]]"
_WORD = regex.compile(
    rf"(?P<character>{_UNSPACED}\p{{M}}*)|"
    rf"(?:[[\p{{L}}\p{{N}}]--{_UNSPACED}](?:\p{{M}}|(?<=\d)\.(?=\d))*)+",
    regex.VERSION1,
)
_CHARACTER = regex.compile(_UNSPACED, regex.VERSION1)
_PIECE = regex.compile(rf"{_UNSPACED}\p{{M}}*|\X", regex.VERSION1)
_VANISHES = regex.compile(
    r"['\u2019\u02bc\u05f3\u05f4\u0640\p{Variation_Selector}\p{Me}[\p{Cf}--\u200b]]", regex.VERSION1
)
_POINTS = regex.compile(
    r"[[\u0591-\u05c7\u0610-\u061a\u064b-\u0652\u0656-\u065f\u0670\u06d6-\u06ed]&&\p{Mn}]", regex.VERSION1
)
_THOUSANDS = regex.compile(
    r"(?<![\d.,])(?!0)\d{1,3}(?:([,.'\u2019\u00a0\u202f\u2009])\d{3})(?:\1\d{3})*(?!\d)"
)
_SEPARATOR = regex.compile(r"\D")
_DECIMAL_COMMA = regex.compile(r"(?<=\d),(?=\d)")
_MONEY = regex.compile(r"([$£€])\s?(\d[\d.]*\d|\d)((?: (?:thousand|million|billion|trillion)\b)?)")
_CURRENCIES = {"$": "dollars", "£": "pounds", "€": "euros"}

WORDS, CHARACTERS = "words", "characters"
BOTH = "words, and characters where a script has no spaces"


def normalize_words(text: str) -> list[str]:
    """Split `text` into normalized words, as this module defines them."""
    return list(_normalize(text))


@lru_cache(maxsize=4096)  # a reference is compared with many hypotheses
def _normalize(text: str) -> tuple[str, ...]:
    text = _THOUSANDS.sub(lambda found: _SEPARATOR.sub("", found[0]), text)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = regex.sub(r"[^\D0-9]", lambda found: str(unicodedata.decimal(found[0])), text)
    # Normalize again: a removed character may have separated a letter from its marks.
    text = unicodedata.normalize("NFKC", _VANISHES.sub("", text))
    text = _THOUSANDS.sub(lambda found: _SEPARATOR.sub("", found[0]), text)
    text = _DECIMAL_COMMA.sub(".", text).replace("%", " percent ").replace("per cent", "percent")
    text = _MONEY.sub(lambda found: f"{found[2]}{found[3]} {_CURRENCIES[found[1]]}", text)
    return tuple(as_digits([found[0] for found in _WORD.finditer(text)]))


def normalize_pair(reference: str, hypothesis: str) -> tuple[list[str], list[str]]:
    """Normalize both texts to words; drop vowel points if only one of them has any."""
    first, second = unicodedata.normalize("NFD", reference), unicodedata.normalize("NFD", hypothesis)
    if bool(_POINTS.search(first)) != bool(_POINTS.search(second)):
        first, second = _POINTS.sub("", first), _POINTS.sub("", second)
    return normalize_words(first), normalize_words(second)


def split_characters(words: Sequence[str]) -> list[str]:
    """Split normalized words into characters, with a space between words of scripts that use spaces."""
    found: list[str] = []
    was_character = True
    for word in words:
        is_character = _is_character(word)
        found += [] if not found or (was_character and is_character) else [" "]
        found += [word] if is_character else regex.findall(r"\X", word)
        was_character = is_character
    return found


def split_pieces(text: str) -> list[str]:
    """Split `text` at spaces, and into characters where its script has none, without normalizing it."""
    return [
        piece
        for word in text.split()
        for piece in (_PIECE.findall(word) if _CHARACTER.search(word) else [word])
    ]


def join_pieces(parts: Sequence[str]) -> str:
    """Join pieces of `split_pieces`, in any order, into a text."""
    text = ""
    for part in parts:
        text += part if not text or (_CHARACTER.match(part) and _CHARACTER.search(text[-4:])) else f" {part}"
    return text


def unit_of(texts: Iterable[str]) -> str:
    """Return the unit of the words of texts: `WORDS`, `CHARACTERS` or `BOTH`."""
    kinds = {_is_character(word) for text in texts for word in normalize_words(text)}
    return {(True,): CHARACTERS, (False, True): BOTH}.get(tuple(sorted(kinds)), WORDS)


def _is_character(word: str) -> bool:
    return _CHARACTER.match(word) is not None
