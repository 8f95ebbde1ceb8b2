"""Readers of CSV, TSV and JSON lines: text, or rows that name picture and sound files."""

import csv
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, final

from trimask.data.prepare import picture, recording
from trimask.data.prepare.columns import (
    AUDIO_NAMES,
    IMAGE_NAMES,
    Columns,
    find_columns,
    find_file_column,
    groups_by_file,
)
from trimask.data.prepare.item import Item, Reader, column_names, item_of_row, printable
from trimask.data.prepare.lines import bounded_lines
from trimask.data.prepare.options import PrepareOptions
from trimask.data.prepare.rejection import Reason, Rejected, Rejection

DELIMITED = {".csv": ",", ".tsv": "\t"}
JSON_LINES = frozenset({".jsonl", ".ndjson", ".json"})
_HEAD_ROWS = 64
_LIMIT = 16_000_000  # bytes of a line
_MARK = b"\xef\xbb\xbf"  # with which some programs begin UTF-8


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TableRows(Reader):
    """The rows that begin in the bytes [start, stop) of a table.

    If the table names files, each row is a picture or a recording with its text; else its text is a document.
    """

    root: Path
    name: str
    start: int
    stop: int

    @property
    def label(self) -> str:
        return f"{printable(self.name)}@{self.start}"

    @property
    def path(self) -> Path:
        return self.root / self.name

    def check(self, options: PrepareOptions) -> None:
        self._columns(options)

    def items(self, options: PrepareOptions) -> Iterator[Item | Rejection]:
        media, columns = self._columns(options)
        for offset, row in rows(self.path, self.start, self.stop):
            key = f"{printable(self.name)}@{offset}"
            try:
                if isinstance(row, Rejected):
                    raise row
                yield self._item(row, media, columns, key)
            except Rejected as error:
                yield Rejection(key=key, reason=error.reason, detail=error.detail)

    def _item(self, row: Mapping[str, Any], media: tuple[str, ...], columns: Columns, key: str) -> Item:
        folder = self.path.parent
        if not media:
            return item_of_row(row, columns, key=key, root=self.root, folder=folder)
        # A triple's picture may have no recording: it is a captioned picture then.
        named = [column for column in media if row.get(column) not in (None, "")]
        if not named:
            raise Rejected(
                Reason.MISSING_FILE, f"the column {media[0]} names no file: {row.get(media[0])!r:.80}"
            )
        for column in named:
            kind = media_kind(row[column])
            if kind is None:
                detail = f"{str(row[column])[:200]!r} is no picture and no recording by its name"
                raise Rejected(Reason.UNUSED_FILE, detail)
            if getattr(columns, kind) is not None:
                raise Rejected(Reason.MALFORMED_ROW, f"{' and '.join(named)} name two files of one kind")
            columns = replace(columns, image=column) if kind == "image" else replace(columns, audio=column)
        return item_of_row(row, columns, key=key, root=self.root, folder=folder)

    def _columns(self, options: PrepareOptions) -> tuple[tuple[str, ...], Columns]:
        names = header(self.path)
        where = printable(self.name)
        media = media_columns(self.path, options, where=where)
        if not media:
            return (), find_columns(names, options, where=where)
        rest = [name for name in names if name not in media]
        is_group_of_file = groups_by_file(options, rest, media)
        # The stated columns of pictures and recordings are those that name the files.
        plain = replace(options, image_column=None, audio_column=None)
        plain = replace(plain, group_by=None) if is_group_of_file else plain
        columns = find_columns(rest, plain, where=where)
        return media, replace(columns, image=None, audio=None, is_group_of_file=is_group_of_file)


def header(path: Path) -> list[str]:
    """The columns of a table: its first row, or what the first JSON objects have."""
    if path.suffix.lower() in DELIMITED:
        return _csv_header(path)[0]
    names: dict[str, None] = {}
    for _, row in islice(rows(path, 0, path.stat().st_size), _HEAD_ROWS):
        names |= dict.fromkeys([] if isinstance(row, Rejected) else column_names(row))
    return list(names)


def media_columns(path: Path, options: PrepareOptions, *, where: str) -> tuple[str, ...]:
    """The columns that name pictures or recordings: those that are stated; else the one that is called
    `file_name` and beside it one of the other kind. Columns that name other files are of no matter.
    """
    names = header(path)
    first = find_file_column(names, options, where=where)
    stated = [name for name in (options.image_column, options.audio_column) if name in names]
    if stated:
        return tuple(dict.fromkeys(stated))
    candidates = [] if first is None else [first]
    candidates += [name for name in names if name.lower() in IMAGE_NAMES | AUDIO_NAMES and name != first]
    head = [row for _, row in islice(rows(path, 0, path.stat().st_size), _HEAD_ROWS)]
    found: dict[str, str] = {}
    for column in candidates:
        kinds = (media_kind(row.get(column)) for row in head if not isinstance(row, Rejected))
        kind = next((kind for kind in kinds if kind is not None), None)
        if kind is not None and kind not in found:
            found[kind] = column
        elif kind is not None and first is None:
            return ()  # two could be meant: told where the columns are looked for
    return tuple(found.values())


def media_kind(name: object) -> Literal["image", "audio"] | None:
    """What a file is by its name."""
    suffix = Path(name).suffix.lower() if isinstance(name, str) else ""
    return "image" if suffix in picture.SUFFIXES else "audio" if suffix in recording.SUFFIXES else None


def rows(path: Path, start: int, stop: int) -> Iterator[tuple[int, Mapping[str, Any] | Rejected]]:
    """(offset, row) of the rows that begin in [start, stop), and why a row cannot be read."""
    delimiter = DELIMITED.get(path.suffix.lower())
    return _json_rows(path, start, stop) if delimiter is None else _csv_rows(path, start, stop, delimiter)


def named_files(path: Path, media: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """(offset, names) of the files that a table's rows name."""
    for offset, row in rows(path, 0, path.stat().st_size):
        values = [] if isinstance(row, Rejected) else [row.get(column) for column in media]
        yield offset, [name for name in values if isinstance(name, str) and name]


def _json_rows(path: Path, start: int, stop: int) -> Iterator[tuple[int, Mapping[str, Any] | Rejected]]:
    for offset, line in bounded_lines(path, start, stop, _LIMIT):
        if line is None:
            yield offset, Rejected(Reason.OVERSIZED, f"a line of more than {_LIMIT} bytes")
        elif line.strip():
            yield offset, _json_row(line.removeprefix(_MARK) if not offset else line)


def _json_row(line: bytes) -> Mapping[str, Any] | Rejected:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Rejected(Reason.NOT_UTF8, str(error))
    except (ValueError, RecursionError) as error:
        return Rejected(Reason.MALFORMED_ROW, f"not JSON: {error}")
    if not isinstance(row, dict):
        return Rejected(Reason.MALFORMED_ROW, f"{type(row).__name__} instead of an object")
    return row


@functools.lru_cache(maxsize=4)
def _csv_header(path: Path) -> tuple[list[str], int]:
    """The names in the first row, and where the second begins."""
    lines = _Lines(path, 0, path.stat().st_size)
    try:
        first = next(csv.reader(lines, delimiter=DELIMITED[path.suffix.lower()]), [])
    except csv.Error:
        first = []
    return [name.removeprefix("﻿").strip() for name in first], lines.position


def _csv_rows(
    path: Path, start: int, stop: int, delimiter: str
) -> Iterator[tuple[int, Mapping[str, Any] | Rejected]]:
    names, after_header = _csv_header(path)
    # To the end of the file, not of the range: the last row may hold line breaks in quotes.
    lines = _Lines(path, max(start, after_header), path.stat().st_size)
    reader = csv.reader(lines, delimiter=delimiter)
    while (offset := lines.position) < stop:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield offset, Rejected(Reason.MALFORMED_ROW, f"not a row of a table: {error}")
            continue
        if cells is None:
            return
        if cells and len(cells) != len(names):
            detail = f"{len(cells)} cells, and the header names {len(names)}"
            yield offset, Rejected(Reason.MALFORMED_ROW, detail)
        elif cells:
            yield offset, dict(zip(names, cells, strict=True))


@final
class _Lines:
    """The lines of a file as text, and how far they are read. Bytes that are no UTF-8 become surrogates."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self.position = start
        self._lines = bounded_lines(path, start, stop, _LIMIT)
        self._stop = stop
        self._next = next(self._lines, None)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._next is None:
            self.position = self._stop
            raise StopIteration
        _, line = self._next
        self._next = next(self._lines, None)
        self.position = self._stop if self._next is None else self._next[0]
        if line is None:
            raise csv.Error(f"a line of more than {_LIMIT} bytes")
        return line.decode("utf-8", "surrogateescape")
