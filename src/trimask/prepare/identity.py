"""What makes two texts the same text, and two files the same file, as splits see it: 64-bit numbers."""

import hashlib
import re
import unicodedata
from pathlib import Path

_NODE_DIGITS = 16
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
"""Byte-order marks, joiners, soft hyphens, choices of glyphs: nobody sees them."""


def text_key(text: str) -> str:
    """`text` as it counts for splits: texts of equal keys are the same text.

    Compatibility forms, accents however they are composed (NFKC), case, white space, byte-order marks and
    other invisible characters, and punctuation at either end make no difference. A text of nothing but
    punctuation keeps it.
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
    """The number of a text's key or a group's value: the first 64 bits of what `hash_fraction` draws with."""
    return _node(hashlib.sha256(f"split\x1f{name}".encode("utf-8", "surrogatepass")))


def text_node(text: str) -> int:
    """The number of a text."""
    return name_node(text_key(text))


def file_node(media: bytes | Path | None, limit: int) -> int:
    """The number of a file's content; 0 where there is none, it cannot be read, or has over `limit` bytes."""
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
    # 0 means that there is none.
    return int(digest.hexdigest()[:_NODE_DIGITS], 16) or 1
