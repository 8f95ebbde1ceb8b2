"""Read CSV, TSV and JSON tables of documents, or of rows that name picture and audio files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, final

from trimask.media.names import kind_within, media_kind, refers_to_media, unread_kind
from trimask.media.rejection import Reason, Rejected, Rejection
from trimask.sources.columns import (
    AUDIO_NAMES,
    FILE_NAMES,
    IMAGE_NAMES,
    TEXT_NAMES,
    Columns,
    find_columns,
    find_file_column,
    groups_by_file,
)
from trimask.sources.delimited_table import DELIMITED, delimited_rows, delimited_table
from trimask.sources.item import Item, Reader, column_names, item_of_row, printable
from trimask.sources.options import PrepareOptions
from trimask.tables.delimited import ROW_LIMIT
from trimask.tables.encoding import size_in_utf8
from trimask.tables.json_documents import document_rows, is_document
from trimask.tables.lines import bounded_lines

JSON = frozenset({".jsonl", ".ndjson", ".json"})
ADDRESS_NAMES = frozenset({"url", "image_url", "audio_url"})
_MAY_NAME = FILE_NAMES | IMAGE_NAMES | AUDIO_NAMES | ADDRESS_NAMES
_HEAD_ROWS = 64
_NUM_LOOKED_FOR = 16  # rows whose values are compared with the names of files
_MARK = b"\xef\xbb\xbf"  # byte-order mark, which some programs write before UTF-8


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TableRows(Reader):
    """The rows that begin in the bytes [start, stop) of a table.

    If the table names files, each row is a picture or recording (or both) with its text; else a document.
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
        # A row of a table of triples may lack the recording: it is then a captioned picture.
        named = [column for column in media if row.get(column) not in (None, "")]
        if not named:
            raise Rejected(
                Reason.MISSING_FILE, f"the column {media[0]} names no file: {row.get(media[0])!r:.80}"
            )
        for column in named:
            kind = kind_within(folder, row[column])
            if kind is None:
                detail = f"{str(row[column])[:200]!r} is not the name of a picture or recording"
                raise Rejected(Reason.UNUSED_FILE, detail)
            if getattr(columns, kind) is not None:
                raise Rejected(Reason.MALFORMED_ROW, f"{' and '.join(named)} name two files of the same kind")
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
        # The given picture and recording columns are those that name the files.
        plain = replace(options, image_column=None, audio_column=None)
        plain = replace(plain, group_by=None) if is_group_of_file else plain
        columns = find_columns(rest, plain, where=where)
        return media, replace(columns, image=None, audio=None, is_group_of_file=is_group_of_file)


def header(path: Path) -> list[str]:
    """Return the columns of a table: its first row, or the names in the first JSON objects."""
    if path.suffix.lower() in DELIMITED:
        return list(delimited_table(path).names)
    names: dict[str, None] = {}
    for _, row in islice(rows(path, 0, size_in_utf8(path)), _HEAD_ROWS):
        names |= dict.fromkeys([] if isinstance(row, Rejected) else column_names(row))
    return list(names)


def media_columns(path: Path, options: PrepareOptions, *, where: str) -> tuple[str, ...]:
    """Find the columns that name pictures or recordings; columns that name other files are ignored.

    These are the columns given in `options`; else one with a usual name such as `file_name`, and one of the
    other kind of media if there is one; else the column whose values are names of existing media files.

    Raises:
        ColumnError: several columns are candidates.
    """
    names = header(path)
    head = [row for _, row in islice(rows(path, 0, size_in_utf8(path)), _HEAD_ROWS)]
    head = [row for row in head if not isinstance(row, Rejected)]
    kinds = {name: _kind_of_column(path.parent, name, head) for name in names if name.lower() in _MAY_NAME}
    # Ignore columns with the usual names whose files are neither pictures nor recordings.
    idle = {name for name in names if name.lower() in FILE_NAMES and kinds[name] is None}
    first = find_file_column([name for name in names if name not in idle], options, where=where)
    stated = [name for name in (options.image_column, options.audio_column) if name in names]
    if stated:
        return tuple(dict.fromkeys(stated))
    found: dict[str, str] = {}
    for column in dict.fromkeys([name for name in (first, *kinds) if name is not None and name not in idle]):
        kind = kinds[column]
        if kind is not None and kind not in found:
            found[kind] = column
        elif kind is not None and first is None:
            return ()  # ambiguous: `find_columns` raises the error
    return tuple(found.values()) or _column_of_files(path.parent, names, head)


def rows(path: Path, start: int, stop: int) -> Iterator[tuple[int, Mapping[str, Any] | Rejected]]:
    """Yield (offset, row) for the rows that begin in [start, stop); a row that cannot be read is `Rejected`.

    Except in JSON lines, `start` must be 0 or the offset of a row.
    """
    if path.suffix.lower() in DELIMITED:
        return delimited_rows(path, start, stop)
    if path.suffix.lower() == ".json" and is_document(path):
        return document_rows(path, start, stop)
    return _json_rows(path, start, stop)


def is_cut_anywhere(path: Path) -> bool:
    """Return whether ranges of the table may start within a row, as in JSON lines."""
    suffix = path.suffix.lower()
    return suffix in JSON and not (suffix == ".json" and is_document(path))


def named_files(path: Path, media: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yield (offset, names of files) for each row of a table."""
    for offset, row in rows(path, 0, size_in_utf8(path)):
        values = [] if isinstance(row, Rejected) else [row.get(column) for column in media]
        yield offset, [name for name in values if isinstance(name, str) and name]


def _kind_of_column(
    folder: Path, column: str, head: Sequence[Mapping[str, Any]]
) -> Literal["image", "audio"] | None:
    """Return the kind of media that a column names, judged by its first value that names any."""
    for row in head:
        value = row.get(column)
        is_address = column.lower() in ADDRESS_NAMES
        kind = media_kind(value) if is_address else kind_within(folder, value) or unread_kind(value)
        if kind is not None:
            return kind
    return None


def _column_of_files(
    folder: Path, names: Sequence[str], head: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """Return the column most of whose values name existing media files, if there is one."""
    head = head[:_NUM_LOOKED_FOR]
    counts = {
        name: sum(refers_to_media(folder, value) for value in values)
        for name in names
        if name.lower() not in TEXT_NAMES
        if (values := [value for row in head if isinstance(value := row.get(name), str)])
    }
    best = max(counts, key=lambda name: counts[name], default=None)
    return (best,) if best is not None and 2 * counts[best] > len(head) else ()


def _json_rows(path: Path, start: int, stop: int) -> Iterator[tuple[int, Mapping[str, Any] | Rejected]]:
    for offset, line in bounded_lines(path, start, stop, ROW_LIMIT):
        if line is None:
            yield offset, Rejected(Reason.OVERSIZED, f"a line of more than {ROW_LIMIT} bytes")
        elif line.strip():
            yield offset, _json_row(line.removeprefix(_MARK) if not offset else line)


def _json_row(line: bytes) -> Mapping[str, Any] | Rejected:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Rejected(Reason.NOT_UTF8, f"{error}: save it as UTF-8")
    except (ValueError, RecursionError) as error:
        return Rejected(Reason.MALFORMED_ROW, f"not JSON: {error}")
    if not isinstance(row, dict):
        return Rejected(Reason.MALFORMED_ROW, f"{type(row).__name__} instead of an object")
    return row
