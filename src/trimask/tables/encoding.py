"""Decode text files according to their byte-order marks."""

import codecs
import functools
import tempfile
from pathlib import Path
from typing import BinaryIO

from trimask.media.rejection import Reason, Rejected

_WIDE = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is a prefix of it
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CHARACTERS = 1 << 20  # converted at once


def wide_encoding(head: bytes) -> str | None:
    """Return the encoding that a UTF-16 or UTF-32 byte-order mark states; None without one."""
    return next((name for mark, name in _WIDE.items() if head.startswith(mark)), None)


def open_utf8(path: Path) -> BinaryIO:
    """Open a text file as UTF-8.

    For a file marked as UTF-16 or UTF-32 this is a converted temporary copy, made once per process and
    removed at its end; offsets refer to the copy. Invalid input becomes invalid UTF-8 in the copy.
    """
    copy = _copy_of(path)
    return path.open("rb") if copy is None else copy.open("rb")


def size_in_utf8(path: Path) -> int:
    """Return the size in bytes of what `open_utf8` opens."""
    return (_copy_of(path) or path).stat().st_size


def _copy_of(path: Path) -> Path | None:
    with path.open("rb") as file:
        encoding = wide_encoding(file.read(4))
    if encoding is None:
        return None
    status = path.stat()
    return Path(_convert(path, encoding, status.st_size, status.st_mtime_ns).name)


@functools.lru_cache(maxsize=8)
def _convert(path: Path, encoding: str, _size: int, _time: int) -> "tempfile._TemporaryFileWrapper[bytes]":
    copy = tempfile.NamedTemporaryFile(prefix="trimask-", suffix=".utf8")  # noqa: SIM115  (removed with the cache)
    with path.open(encoding=encoding, errors=_INVALID_AS_SURROGATE, newline="") as text:
        while part := text.read(_CHARACTERS):
            copy.write(part.encode("utf-8", "surrogateescape"))
    copy.flush()
    return copy


def _replace_invalid(error: UnicodeError) -> tuple[str, int]:
    """Replace invalid input by a byte that is invalid in UTF-8, so that the row with it is rejected."""
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


_INVALID_AS_SURROGATE = "trimask.invalid_as_surrogate"
codecs.register_error(_INVALID_AS_SURROGATE, _replace_invalid)


def decode_text(data: bytes) -> str:
    """Decode the bytes of a whole file, without its byte-order mark.

    Raises:
        Rejected: it is neither UTF-8 nor in the encoding that its mark states.
    """
    try:
        return data.decode(wide_encoding(data[:4]) or "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Rejected(Reason.NOT_UTF8, f"{error}: save it as UTF-8") from error
