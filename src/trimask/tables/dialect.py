"""Detect the delimiter and the quoting of delimited text.

Programs double quotation marks inside quotes, escape them by a backslash, or do not quote at all. The chosen
dialect is the one under which the fewest bytes of the file are rejected.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from pathlib import Path
from typing import final

from trimask.media.rejection import Rejected
from trimask.tables.delimited import Cells, Dialect, lines_of, records, rows_under, shape_of
from trimask.tables.encoding import open_utf8, size_in_utf8

_HEAD = 256_000  # bytes examined to detect the delimiter
_WINDOW = 4_000_000  # bytes examined at first to detect the quoting
_MARK = b"\xef\xbb\xbf"  # byte-order mark, which some programs write before UTF-8
_STATED = re.compile(rb'"?sep=([,;|\t])"?\r?\n')  # first line that tells Excel the delimiter
_DOUBLED = re.compile(r'[^"\s]""[^"\s]|"""|""\w')
_BAD_SHARE = 0.2  # a delimiter under which more of the head is rejected is the wrong one


def find_dialect(path: Path, delimiters: Sequence[str], known_names: frozenset[str]) -> Dialect:
    """Detect the dialect of a file; cached until the file changes.

    Args:
        delimiters: the candidates, in order of preference.
        known_names: column names that count in favour of a delimiter under which the header has them.
    """
    status = path.stat()
    return _find_dialect(path, size_in_utf8(path), status.st_mtime_ns, tuple(delimiters), known_names)


@functools.lru_cache(maxsize=64)
def _find_dialect(
    path: Path, size: int, _time: int, delimiters: tuple[str, ...], known_names: frozenset[str]
) -> Dialect:
    with open_utf8(path) as file:
        head = file.read(64)
    start = len(_MARK) if head.startswith(_MARK) else 0
    if stated := _STATED.match(head, start):
        start, delimiters = stated.end(), (stated[1].decode(),)
    first = next(lines_of(path, start), (0, "", 0))[1] or ""
    delimiters = tuple(delimiter for delimiter in delimiters if delimiter in first) or delimiters

    is_quoted = _has_quotes(path)

    def cost(delimiter: str) -> tuple[int, bool, bool, int]:
        """Rank by known names in the header, share of rejected bytes, and number of columns."""
        best = _readings(path, start, min(size, _HEAD), delimiter, is_quoted=is_quoted)[0]
        names = {name.strip().lower() for name in best.header}
        is_wrong = best.num_bad > _BAD_SHARE * min(size, _HEAD)
        return -len(names & known_names), is_wrong, len(best.header) < 2, best.num_bad

    delimiter = min(delimiters, key=cost)
    window = _WINDOW
    while True:
        readings = _readings(path, start, min(size, window), delimiter, is_quoted=is_quoted)
        if window >= size or _plain(readings).num_bad != readings[0].num_bad or len(readings) == 1:
            return _choose(path, readings, min(size, window), is_whole=window >= size)
        window *= 4


def _has_quotes(path: Path) -> bool:
    with open_utf8(path) as file:
        return any(b'"' in block for block in iter(lambda: file.read(1_000_000), b""))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class _Reading:
    """The result of reading the beginning of a file under a dialect.

    Attributes:
        num_bad: bytes in rows that do not fit the dialect.
        has_long_rows: whether there are rows of several lines.
    """

    dialect: Dialect
    header: Cells
    num_bad: int
    has_long_rows: bool


def _readings(path: Path, start: int, stop: int, delimiter: str, *, is_quoted: bool) -> list[_Reading]:
    """Read the bytes [start, stop) under each dialect; sort by rejected bytes, the usual ones first."""
    blank = Dialect(
        delimiter=delimiter,
        quoting="doubled",
        spans_lines=True,
        is_certain=True,
        num_cells=0,
        first_shape=None,
        start=start,
    )
    plain = replace(blank, quoting="none", spans_lines=False)
    ways = [blank, replace(blank, spans_lines=False), replace(blank, quoting="escaped"), plain]
    is_quoted &= delimiter != " "
    found = [_read(path, dialect, stop) for dialect in (ways if is_quoted else [plain])]
    if found[0].has_long_rows:  # then cells contain line breaks
        del found[1]
    return sorted(found, key=lambda reading: reading.num_bad)


def _read(path: Path, dialect: Dialect, stop: int) -> _Reading:
    head = [cells for _, cells in islice(records(path, dialect, dialect.start, stop), 2)]
    header, second = (*head, [], [])[:2]
    if isinstance(header, Rejected):
        return _Reading(dialect=dialect, header=[], num_bad=stop + 1, has_long_rows=False)
    shape = shape_of(second[0]) if isinstance(second, list) and second else None
    dialect = replace(dialect, num_cells=len(header), first_shape=shape)
    num_bad, began, has_long_rows = 0, None, False
    for offset, _, fits, is_long in rows_under(path, dialect, dialect.start, stop):
        num_bad += offset - began if began is not None else 0
        began = None if fits else offset
        has_long_rows |= is_long
    num_bad += max(stop - began, 1) if began is not None else 0
    return _Reading(dialect=dialect, header=header, num_bad=num_bad, has_long_rows=has_long_rows)


def _choose(path: Path, readings: list[_Reading], stop: int, *, is_whole: bool) -> Dialect:
    """Choose the reading that rejects the fewest bytes.

    If reading with and without quoting fits equally well but the rows end in different places, the dialect
    is marked as uncertain, and the rows in question are rejected later.

    Args:
        is_whole: whether the readings cover the whole file; else rows of several lines may come later.
    """
    best, plain = readings[0], _plain(readings)
    if not is_whole and not best.dialect.spans_lines:
        best = next((reading for reading in readings if reading.dialect.spans_lines), best)
    if readings[0] is plain or plain.num_bad > readings[0].num_bad:
        return plain.dialect if readings[0] is plain else best.dialect
    if best.has_long_rows:
        # With a single column, the number of cells cannot show that quoting is wrong.
        return replace(best.dialect, is_certain=best.dialect.num_cells < 2)
    # In TSV, quotation marks are text unless their positions can only result from quoting.
    is_plain = best.dialect.delimiter == "\t" and not _shows_quoting(path, best.dialect, stop)
    return plain.dialect if is_plain else best.dialect


def _plain(readings: list[_Reading]) -> _Reading:
    return next(reading for reading in readings if reading.dialect.quoting == "none")


def _shows_quoting(path: Path, dialect: Dialect, stop: int) -> bool:
    """Return whether all cells of the header or of a row are quoted, or quotation marks are doubled."""
    lines = takewhile(lambda found: found[0] < stop, lines_of(path, dialect.start))
    for number, (_, line, num_quotes) in enumerate(lines):
        cells = (line or "").strip("\r\n").split(dialect.delimiter)
        if num_quotes >= 2 * len(cells) and (len(cells) > 1 or not number) and all(map(_is_quoted, cells)):
            return True
        if num_quotes > 3 and line and _DOUBLED.search(line):
            return True
    return False


def _is_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell.startswith('"') and cell.endswith('"')
