"""Bytes of text files -> text, by their byte-order mark."""

import codecs
import functools
import tempfile
from pathlib import Path
from typing import BinaryIO

from trimask.media.rejection import Reason, Rejected

_WIDE = {
    codecs.BOM_UTF32_LE: "utf-32",  # begins as UTF-16 does
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CHARACTERS = 1 << 20  # that are converted at once


def wide_encoding(head: bytes) -> str | None:
    """The encoding of more than a byte a letter that a file states by its mark."""
    return next((name for mark, name in _WIDE.items() if head.startswith(mark)), None)


def open_utf8(path: Path) -> BinaryIO:
    """A text file as UTF-8: where its mark says UTF-16 or UTF-32, a copy of it, written once in this process
    and removed at its end. What is no text in it is no UTF-8 in the copy. Places are those in the copy.
    """
    copy = _copy_of(path)
    return path.open("rb") if copy is None else copy.open("rb")


def size_in_utf8(path: Path) -> int:
    """Bytes of what `open_utf8` opens."""
    return (_copy_of(path) or path).stat().st_size


def _copy_of(path: Path) -> Path | None:
    with path.open("rb") as file:
        encoding = wide_encoding(file.read(4))
    if encoding is None:
        return None
    status = path.stat()
    return Path(_copied(path, encoding, status.st_size, status.st_mtime_ns).name)


@functools.lru_cache(maxsize=8)
def _copied(path: Path, encoding: str, _size: int, _time: int) -> "tempfile._TemporaryFileWrapper[bytes]":
    copy = tempfile.NamedTemporaryFile(prefix="trimask-", suffix=".utf8")  # noqa: SIM115  (removed with the cache)
    with path.open(encoding=encoding, errors=_AS_NO_UTF8, newline="") as text:
        while part := text.read(_CHARACTERS):
            copy.write(part.encode("utf-8", "surrogateescape"))
    copy.flush()
    return copy


def _as_no_utf8(error: UnicodeError) -> tuple[str, int]:
    """Half a character becomes a byte that UTF-8 does not have: the row that holds it is set aside."""
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


_AS_NO_UTF8 = "trimask.as_no_utf8"
codecs.register_error(_AS_NO_UTF8, _as_no_utf8)


def decoded(data: bytes) -> str:
    """The text of a whole file, without its mark.

    Raises:
        Rejected: it is neither UTF-8 nor what its mark says.
    """
    try:
        return data.decode(wide_encoding(data[:4]) or "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Rejected(Reason.NOT_UTF8, f"{error}: save it as UTF-8") from error
