"""Bytes of text files -> text, by their byte-order mark."""

import codecs
from pathlib import Path

from trimask.data.prepare.rejection import Reason, Rejected

_WIDE = {
    codecs.BOM_UTF32_LE: "utf-32",  # begins as UTF-16 does
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def wide_encoding(head: bytes) -> str | None:
    """The encoding of more than a byte a letter that a file states by its mark."""
    return next((name for mark, name in _WIDE.items() if head.startswith(mark)), None)


def wide_encoding_of(path: Path) -> str | None:
    """The same for a file."""
    with path.open("rb") as file:
        return wide_encoding(file.read(4))


def decoded(data: bytes) -> str:
    """The text of a whole file, without its mark.

    Raises:
        Rejected: it is neither UTF-8 nor what its mark says.
    """
    try:
        return data.decode(wide_encoding(data[:4]) or "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Rejected(Reason.NOT_UTF8, f"{error}: save it as UTF-8") from error
