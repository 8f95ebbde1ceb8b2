"""Text as it stands in files -> text that can be tokenized, and windows of its ids."""

import re
from collections.abc import Iterator
from typing import Any

from trimask.media.rejection import Reason, Rejected
from trimask.tables.encoding import decoded
from trimask.vocabulary.tokenizer import TextCodec

_LOST = "�"
_PIECE = 100_000  # characters: what a tokenizer is given at once, however a document is written


def clean_text(value: Any) -> str:
    """`value` as text that has a UTF-8 form.

    Raises:
        Rejected: no text, or text that lost something on its way here.
    """
    if isinstance(value, bytes):
        value = decoded(value)
    if value is None:
        raise Rejected(Reason.NO_TEXT, "there is none")
    if isinstance(value, int | float):
        remedy = "write the names of classes out, or state another --text-column"
        raise Rejected(Reason.NO_TEXT, f"the number {value!r:.40} instead of text: {remedy}")
    if not isinstance(value, str):
        raise Rejected(Reason.NO_TEXT, f"{type(value).__name__} instead of text")
    value = value.removeprefix("\ufeff")  # a byte-order mark
    if _LOST in value or "\0" in value:
        raise Rejected(Reason.NOT_UTF8, "a NUL or a replacement character: it was decoded wrongly before")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        what = f"byte {code - 0xDC00:#x}" if 0xDC80 <= code < 0xDD00 else "half a character"
        raise Rejected(Reason.NOT_UTF8, f"{what} at {error.start} is no UTF-8: save it as UTF-8") from error
    if not value.strip():
        raise Rejected(Reason.EMPTY_TEXT, "nothing but white space" if value else "no characters")
    return value


def windows(text: str, codec: TextCodec, length: int) -> Iterator[list[int]]:
    """The ids of `text` in windows of at most `length`: whole sentences as many as fit, longer ones cut.

    Nothing is left out: the windows, end to end, decode to `text`.
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
    """`text` cut after sentences and lines; each piece but the first keeps the space before it."""
    for sentence in re.split(r"(?<=[.!?;:])(?= [A-Z\"])|(?<=\n)(?=[^\n])|(?<=[。！？])", text):
        for start in range(0, len(sentence), _PIECE):
            yield sentence[start : start + _PIECE]
