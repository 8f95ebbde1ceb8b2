"""Tables of delimited text (CSV, TSV …), with or without a header."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, final

from trimask.media.names import refers_to_media
from trimask.media.rejection import Rejected
from trimask.sources.columns import AUDIO_NAMES, FILE_NAMES, IMAGE_NAMES, TEXT_NAMES
from trimask.tables.delimited import Cells, Dialect, records
from trimask.tables.dialect import find_dialect
from trimask.tables.encoding import open_utf8, size_in_utf8

DELIMITED = {
    ".csv": (",", ";", "\t", "|"),
    ".tsv": ("\t", ",", ";", "|"),
    # "ID transcript" as in LibriSpeech, "picture,caption" …
    ".txt": ("\t", "|", ",", ";", " "),
}
_KNOWN = AUDIO_NAMES | FILE_NAMES | IMAGE_NAMES | TEXT_NAMES
_HEAD_ROWS = 16
_HEAD_BYTES = 64_000


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class DelimitedTable:
    """The dialect of a table, the names of its columns, and the byte at which its rows begin."""

    dialect: Dialect
    names: tuple[str, ...]
    start: int


def delimited_rows(path: Path, start: int, stop: int) -> Iterator[tuple[int, Mapping[str, Any] | Rejected]]:
    """Yield (offset, row) for the rows that begin in [start, stop); `start` is 0 or the offset of a row."""
    table = delimited_table(path)
    for offset, cells in records(path, table.dialect, max(start, table.start), stop):
        yield offset, cells if isinstance(cells, Rejected) else dict(zip(table.names, cells, strict=True))


def delimited_table(path: Path) -> DelimitedTable:
    """Determine the dialect, columns and first row of a table; cached until the file changes."""
    status = path.stat()
    return _table(path, size_in_utf8(path), status.st_mtime_ns)


def is_list_of_files(path: Path) -> bool:
    """Return whether most rows of a `.txt` begin with the name of an existing picture or recording."""
    return _delimiter_after_files(path) is not None


@functools.lru_cache(maxsize=64)
def _table(path: Path, size: int, _time: int) -> DelimitedTable:
    delimiters: Sequence[str] = DELIMITED[path.suffix.lower()]
    named_by = _delimiter_after_files(path)
    if named_by is not None:
        delimiters = [named_by]
    dialect = find_dialect(path, delimiters, _KNOWN)
    head = list(islice(records(path, dialect, dialect.start, size), _HEAD_ROWS))
    first = head[0][1] if head else []
    if isinstance(first, Rejected):
        return DelimitedTable(dialect=dialect, names=(), start=dialect.start)
    names = _names_without_header(path.parent, [cells for _, cells in head if isinstance(cells, list)])
    if names is not None:
        return DelimitedTable(dialect=dialect, names=names, start=dialect.start)
    start = head[1][0] if len(head) > 1 else size
    return DelimitedTable(dialect=dialect, names=tuple(cell.strip() for cell in first), start=start)


def _names_without_header(folder: Path, head: Sequence[Cells]) -> tuple[str, ...] | None:
    """Return column names for a table without a header; None if the first row is a header.

    The text is the last column with several words: in LJSpeech, the transcript with numbers spelled out.
    """
    first = head[0] if head else []
    if {cell.strip().lower() for cell in first} & _KNOWN:
        return None
    files = [number for number, cell in enumerate(first) if refers_to_media(folder, cell)]
    others = [number for number in range(len(first)) if number not in files]
    if len(files) != 1 or not others:
        return None
    rows = [cells for cells in head if len(cells) == len(first)]
    spaced = [number for number in others if any(" " in cells[number].strip() for cells in rows)]
    lettered = [number for number in others if not all(cells[number].strip().isdigit() for cells in rows)]
    text = spaced[-1] if spaced else lettered[0] if len(lettered) == 1 else None
    names = {files[0]: "file_name", text: "text"}
    return tuple(names.get(number, f"column {number + 1}") for number in range(len(first)))


def _delimiter_after_files(path: Path) -> str | None:
    """Return the delimiter after the name of an existing file with which most rows begin; None if few do."""
    with open_utf8(path) as file:
        head = file.read(_HEAD_BYTES)
    lines = head.decode("utf-8", "replace").removeprefix("\ufeff").split("\n")
    lines = [line.strip("\r") for line in lines if line.strip()][:_HEAD_ROWS]
    for delimiter in DELIMITED[path.suffix.lower()]:
        firsts = [line.split(delimiter, 1)[0].strip('"') for line in lines if delimiter in line]
        if firsts and 2 * sum(refers_to_media(path.parent, first) for first in firsts) > len(lines):
            return delimiter
    return None
