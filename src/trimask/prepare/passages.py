"""Clean text from files and cut it into windows of token ids."""

import re
from collections.abc import Iterator
from typing import Any

from trimask.media.rejection import Reason, Rejected
from trimask.tables.encoding import decode_text
from trimask.vocabulary.tokenizer import TextCodec

_LOST = "�"
_PIECE = 100_000  # most characters passed to a tokenizer at once


def clean_text(value: Any) -> str:
    """Return `value` as text that can be encoded as UTF-8.

    Raises:
        Rejected: it is no text, empty, or was damaged by an earlier wrong decoding.
    """
    if isinstance(value, bytes):
        value = decode_text(value)
    if value is None:
        raise Rejected(Reason.NO_TEXT, "the text is missing")
    if isinstance(value, int | float):
        remedy = "replace class numbers by names, or give another --text-column"
        raise Rejected(Reason.NO_TEXT, f"the number {value!r:.40} instead of text: {remedy}")
    if not isinstance(value, str):
        raise Rejected(Reason.NO_TEXT, f"{type(value).__name__} instead of text")
    value = value.removeprefix("\ufeff")  # a byte-order mark
    if _LOST in value or "\0" in value:
        raise Rejected(
            Reason.NOT_UTF8, "contains a NUL or replacement character: decode the original text correctly"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        what = f"byte {code - 0xDC00:#x}" if 0xDC80 <= code < 0xDD00 else "a lone surrogate"
        raise Rejected(
            Reason.NOT_UTF8, f"{what} at character {error.start} is not valid UTF-8: save the file as UTF-8"
        ) from error
    if not value.strip():
        raise Rejected(Reason.EMPTY_TEXT, "only white space" if value else "no characters")
    return value


def windows(text: str, codec: TextCodec, length: int) -> Iterator[list[int]]:
    """Tokenize `text` into windows of at most `length` ids, each of as many whole sentences as fit.

    Sentences longer than a window are cut. The concatenated windows decode to `text`.
    """
    window: list[int] = []
    for sentence in _sentences(text):
        ids = codec.encode(sentence)
        if window and len(window) + len(ids) > length:
            yield window
            window = []
        while len(ids) > length:
            yield ids[:length]
            ids = ids[length:]
        window = window + ids
    if window:
        yield window


def _sentences(text: str) -> Iterator[str]:
    """Split `text` after sentences and lines; each piece but the first keeps the space before it."""
    for sentence in re.split(r"(?<=[.!?;:])(?= [A-Z\"])|(?<=\n)(?=[^\n])|(?<=[。！？])", text):
        for start in range(0, len(sentence), _PIECE):
            yield sentence[start : start + _PIECE]
