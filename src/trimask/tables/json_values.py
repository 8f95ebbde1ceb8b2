"""The values of a JSON document one after another: a document of any size, of which one value is held."""

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
    """The document is no JSON from here on, or one value is too large to be held.

    Attributes:
        offset: byte where the value begins that cannot be read.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@final
class JsonText:
    """A cursor in the text of a document. Bytes that are no UTF-8 become surrogates.

    Attributes:
        offset: byte at which it stands.
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
        """The next character that is no white space; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._place)
            assert match is not None
            self._move(match.end())
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read(_CHUNK):
                return ""

    def take(self, character: str) -> bool:
        """Go past `character`, if it is the next."""
        is_next = self.peek() == character
        if is_next:
            self._move(self._place + 1)
        return is_next

    def expect(self, characters: str) -> str:
        """Go past the next character, one of `characters`.

        Raises:
            JsonError: it is another.
        """
        found = self.peek()
        if not found or found not in characters:
            wanted = " or ".join(characters)
            raise JsonError(f"{found!r} instead of {wanted}" if found else "it ends too early", self.offset)
        self._move(self._place + 1)
        return found

    def value(self) -> Any:
        """Go past the next value.

        Raises:
            JsonError: it is no JSON, or too large.
        """
        if not self.peek():
            raise JsonError("it ends too early", self.offset)
        size = _CHUNK
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._place)
                # A number at the end of what is read may go on.
                if end < len(self._text) or not self._read(size):
                    self._move(end)
                    return found
            except RecursionError as error:
                raise JsonError("it is nested too deep", self.offset) from error
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
        """Whether there was more."""
        data = b"" if self._is_whole else self._file.read(size)
        self._is_whole = not data
        self._text = self._text[self._place :] + self._decode(data, final=not data)
        self._place = 0
        return bool(data)


def elements(text: JsonText) -> Iterator[tuple[int, Any]]:
    """(offset, value) of what is left of the array in which `text` stands.

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
    """(offset, name) of what is left of the object in which `text` stands; who iterates takes each value.

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
