"""Parse a JSON document of any size one value at a time."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

from trimask.errors import UserError
from trimask.tables.encoding import open_utf8

VALUE_LIMIT = 16_000_000  # characters of one value
_CHUNK = 1_000_000  # bytes
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class JsonError(UserError):
    """The document is invalid from here on, or a value is too large.

    Attributes:
        offset: byte offset of the value that cannot be read.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@final
class JsonText:
    """A cursor in a document. Bytes that are not UTF-8 become surrogates.

    Attributes:
        offset: its position in bytes.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        self._file = open_utf8(path)
        self._file.seek(start)
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._text, self._place, self._is_whole = "", 0, False
        self.offset = start

    def __enter__(self) -> "JsonText":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def peek(self) -> str:
        """Return the next character that is not white space; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._place)
            assert match is not None
            self._move(match.end())
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read(_CHUNK):
                return ""

    def take(self, character: str) -> bool:
        """Skip `character` if it is next; return whether it was."""
        is_next = self.peek() == character
        if is_next:
            self._move(self._place + 1)
        return is_next

    def expect(self, characters: str) -> str:
        """Skip and return the next character, which must be one of `characters`.

        Raises:
            JsonError: it is not.
        """
        found = self.peek()
        if not found or found not in characters:
            wanted = " or ".join(characters)
            raise JsonError(f"{found!r} instead of {wanted}" if found else "it ends too early", self.offset)
        self._move(self._place + 1)
        return found

    def value(self) -> Any:
        """Skip and return the next value.

        Raises:
            JsonError: it is invalid or too large.
        """
        if not self.peek():
            raise JsonError("it ends too early", self.offset)
        size = _CHUNK
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._place)
                # A number at the end of the buffer may continue.
                if end < len(self._text) or not self._read(size):
                    self._move(end)
                    return found
            except RecursionError as error:
                raise JsonError("it is nested too deeply", self.offset) from error
            except ValueError as error:
                if len(self._text) - self._place > VALUE_LIMIT:
                    message = f"a value of more than {VALUE_LIMIT} characters, or an error in it"
                    raise JsonError(message, self.offset) from error
                if not self._read(size):
                    raise JsonError(str(error), self.offset) from error
            size *= 2

    def _move(self, place: int) -> None:
        self.offset += len(self._text[self._place : place].encode("utf-8", "surrogateescape"))
        self._place = place
        if self._place > _CHUNK:
            self._text, self._place = self._text[self._place :], 0

    def _read(self, size: int) -> bool:
        """Read more text into the buffer; return whether there was any."""
        data = b"" if self._is_whole else self._file.read(size)
        self._is_whole = not data
        self._text = self._text[self._place :] + self._decode(data, final=not data)
        self._place = 0
        return bool(data)


def elements(text: JsonText) -> Iterator[tuple[int, Any]]:
    """Yield (offset, value) for the remaining elements of the array that `text` is in.

    Raises:
        JsonError: as `JsonText.value`.
    """
    while not text.take("]"):
        text.peek()
        offset = text.offset
        yield offset, text.value()
        if text.expect(",]") == "]":
            return


def members(text: JsonText) -> Iterator[tuple[int, str]]:
    """Yield (offset, name) for the remaining members of the object that `text` is in.

    The caller must read each value before requesting the next member.

    Raises:
        JsonError: as `JsonText.value`.
    """
    while not text.take("}"):
        text.peek()
        offset, name = text.offset, text.value()
        if not isinstance(name, str):
            raise JsonError(f"{type(name).__name__} instead of a name", offset)
        text.expect(":")
        yield offset, name
        if text.expect(",}") == "}":
            return
