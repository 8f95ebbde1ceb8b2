"""Transcripts in the text span: the voice tag, then the words in lower case."""

import re
import unicodedata
from collections.abc import Collection

DEFAULT_VOICE = "slt"
"""The tag of a recording with an unknown speaker."""
_KEPT = ("L", "M", "N")  # letters, marks (vowels of many scripts) and digits, by Unicode's general category


_ID, _ID_KEPT = re.compile("[0-9a-f]{32,}"), 12


def voice_tag(name: str) -> str:
    """Return the tag of the voice `name`: `ana_maría` for `Ana María`; empty if nothing is left.

    Lower case, composed (NFC), without joiners and other invisible characters; each run of other characters
    than letters, marks and digits becomes one underscore [D]. The tag of a tag is itself. An id of 32 or more
    hexadecimal digits is its first 12: each character of a tag is a token [D].
    """
    visible = "".join(c for c in name if unicodedata.category(c) != "Cf")
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", visible).lower())
    words = "".join(c if unicodedata.category(c)[0] in _KEPT else " " for c in composed).split()
    tag = "_".join(words)
    return tag[:_ID_KEPT] if _ID.fullmatch(tag) else tag


def transcript(text: str, voice: str | None = None) -> str:
    """Format a transcript: `slt: good morning` for `good morning` by voice `slt`."""
    tag = voice_tag(voice) if voice else ""
    return f"{tag or DEFAULT_VOICE}: {text.strip().lower()}"


def is_transcript(spans: Collection[str]) -> bool:
    """Return whether the text of a sequence of these modalities is a transcript: only next to speech alone,
    since the text of a triple is the picture's caption.
    """
    return set(spans) == {"text", "speech"}


def parse_transcript(text: str) -> tuple[str | None, str]:
    """Return the voice tag (None if there is none) and the words."""
    tag, colon, words = text.partition(":")
    if colon and tag and all(c == "_" or unicodedata.category(c)[0] in _KEPT for c in tag):
        return tag, words.strip()
    return None, text.strip()
