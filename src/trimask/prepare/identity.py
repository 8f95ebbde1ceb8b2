"""64-bit hashes by which splits recognize equal texts and equal files."""

import hashlib
import re
import unicodedata
from pathlib import Path

_NODE_DIGITS = 16
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
"""Invisible characters: byte-order marks, joiners, soft hyphens and variation selectors."""


def text_key(text: str) -> str:
    """Normalize `text` for comparison: texts with equal keys count as the same text.

    Ignored are compatibility forms and the composition of accents (NFKC), case, differences in white space,
    invisible characters, and punctuation at both ends, unless the text is nothing but punctuation.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFKC", folded)).split())
    start, stop = 0, len(folded)
    while start < stop and _is_edge(folded[start]):
        start += 1
    while stop > start and _is_edge(folded[stop - 1]):
        stop -= 1
    return folded[start:stop] or folded


def _is_edge(character: str) -> bool:
    return character == " " or unicodedata.category(character).startswith("P")


def name_node(name: str) -> int:
    """Hash a text's key or a group's value: the first 64 bits of the hash that `hash_fraction` uses."""
    return _node(hashlib.sha256(f"split\x1f{name}".encode("utf-8", "surrogatepass")))


def text_node(text: str) -> int:
    """Hash a text by its key."""
    return name_node(text_key(text))


def file_node(media: bytes | Path | None, limit: int) -> int:
    """Hash a file's content; 0 if it is absent, empty, unreadable or larger than `limit` bytes."""
    if media is None:
        return 0
    if isinstance(media, bytes):
        return _node(hashlib.sha256(media)) if 0 < len(media) <= limit else 0
    try:
        if not media.is_file() or not 0 < media.stat().st_size <= limit:
            return 0
        with media.open("rb") as file:
            return _node(hashlib.file_digest(file, "sha256"))
    except OSError:
        return 0


def _node(digest: "hashlib._Hash") -> int:
    # 0 is reserved for "none".
    return int(digest.hexdigest()[:_NODE_DIGITS], 16) or 1
