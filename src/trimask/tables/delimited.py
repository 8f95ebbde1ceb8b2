"""Split delimited text (CSV, TSV …) into rows, without merging rows at stray quotation marks."""

import csv
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal, final

from trimask.media.rejection import Reason, Rejected
from trimask.tables.encoding import open_utf8

Quoting = Literal["doubled", "escaped", "none"]
Cells = list[str]

ROW_LIMIT = 16_000_000  # bytes
_LIBRARY_LIMIT = 100_000  # longest line passed to `csv`, which limits cells to 131,072 characters


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """The format of a delimited file.

    Attributes:
        spans_lines: quoted cells may contain line breaks; else each line is a row.
        is_certain: no other quoting fits the file; else rows of several lines are set aside.
        num_cells: number of cells in the first row, required of all rows; 0 for no requirement.
        first_shape: shape of the first cell of the second row if it is a number or name; see `shape_of`.
        start: byte offset of the first row.
    """

    delimiter: str
    quoting: Quoting
    spans_lines: bool
    is_certain: bool
    num_cells: int
    first_shape: str | None
    start: int


def records(path: Path, dialect: Dialect, start: int, stop: int) -> Iterator[tuple[int, Cells | Rejected]]:
    """Yield (offset, cells) for the rows that begin in [start, stop); an unreadable row is `Rejected`.

    `start` must be the offset of a row. Blank lines are skipped.
    """
    for offset, cells, _, _ in rows_under(path, dialect, start, stop):
        yield offset, cells


def lines_of(path: Path, start: int) -> Iterator[tuple[int, str | None, int]]:
    """Yield (offset, line, number of quotation marks) from `start` on; a line over `ROW_LIMIT` is None.

    Bytes that are not UTF-8 become surrogates.
    """
    with open_utf8(path) as file:
        file.seek(start)
        offset = start
        while line := file.readline(ROW_LIMIT + 1):
            num_quotes = line.count(b'"')
            if len(line) <= ROW_LIMIT:
                yield offset, line.decode("utf-8", "surrogateescape"), num_quotes
                offset += len(line)
                continue
            began = offset
            offset += len(line)
            while line and not line.endswith(b"\n"):
                line = file.readline(ROW_LIMIT)
                offset += len(line)
                num_quotes += line.count(b'"')
            yield began, None, num_quotes


def rows_under(
    path: Path, dialect: Dialect, start: int, stop: int
) -> Iterator[tuple[int, Cells | Rejected, bool, bool]]:
    """Yield (offset, cells, fits the dialect, has several lines) for the rows that begin in [start, stop)."""
    lines = lines_of(path, start)
    for offset, line, num_quotes in takewhile(lambda found: found[0] < stop, lines):
        if line is not None and not line.strip("\r\n"):
            continue
        cells = _row_of_line(line, num_quotes, dialect)
        if cells is not None:
            if dialect.num_cells in (0, len(cells)):
                yield offset, cells, True, False
            else:
                yield offset, _wrong_number(cells, dialect), False, False
            continue
        row = _Row(dialect)
        row.add(line, num_quotes)
        while row.goes_on and (following := next(lines, None)):
            row.add(*following[1:])
        yield offset, row.result(), row.fits, row.is_long


def _row_of_line(line: str | None, num_quotes: int, dialect: Dialect) -> Cells | None:
    """Return the cells of a line that is certainly a whole row; None if that takes a full scan."""
    if line is None:
        return None
    if dialect.quoting == "none" or not num_quotes:
        return _split(line, dialect.delimiter)
    # `csv` does not accept spaces before quotation marks, and limits the length of cells.
    if dialect.quoting == "doubled" and len(line) < _LIBRARY_LIMIT and f'{dialect.delimiter} "' not in line:
        try:
            return next(csv.reader((line,), delimiter=dialect.delimiter, strict=True), None)
        except csv.Error:
            return None
    return None


def _split(line: str, delimiter: str) -> Cells:
    body = line.rstrip("\r\n")
    return body.split(None, 1) if delimiter == " " else body.split(delimiter)


def _wrong_number(cells: Cells, dialect: Dialect) -> Rejected:
    return Rejected(Reason.MALFORMED_ROW, f"{len(cells)} cells, but the header has {dialect.num_cells}")


@final
class _Row:
    """Assembles a row from its lines."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._cells: Cells = []
        self._held: list[str] = []  # pieces of the open quoted cell
        self._size = 0
        self._is_open = self._is_broken = self._ends_quoted = False
        self._has_swallowed = False
        self._num_lines = 0

    def add(self, line: str | None, num_quotes: int) -> None:
        """Add the next line of the row."""
        self._num_lines += 1
        self._size += ROW_LIMIT + 1 if line is None else len(line)
        self._ends_quoted = line is None or line.rstrip().endswith('"')
        self._has_swallowed |= self._num_lines > 1 and line is not None and self._looks_like_row(line)
        if line is None:
            self._is_open ^= self._dialect.quoting != "none" and num_quotes % 2 == 1
        elif not num_quotes and self._is_open:
            self._held.append(line)
        elif not self._is_broken:
            self._scan(line)
        if self._size > ROW_LIMIT:  # it will be rejected: free the memory
            self._cells, self._held = [], []

    @property
    def goes_on(self) -> bool:
        """Whether the next line belongs to the row.

        After a quoting error it may still be inside quotes: lines are consumed until one ends with a quote.
        """
        return self._dialect.spans_lines and (self._is_open or (self._is_broken and not self._ends_quoted))

    @property
    def fits(self) -> bool:
        """Whether the row is well-formed under the dialect; it may still be rejected."""
        has_form = not (self._is_open or self._is_broken)
        return has_form and (self._size > ROW_LIMIT or self._dialect.num_cells in (0, len(self._cells)))

    @property
    def is_long(self) -> bool:
        """Whether the row's cells contain line breaks."""
        return self._num_lines > 1 and self.fits and not self._has_swallowed

    def result(self) -> Cells | Rejected:
        """Return the cells, or why the row is rejected."""
        counted = f"{self._num_lines} lines" if self._num_lines > 1 else "1 line"
        if self._is_broken or self._is_open:
            detail = f"unbalanced quotation marks ({counted})"
            return Rejected(Reason.MALFORMED_ROW, detail)
        if self._size > ROW_LIMIT:
            return Rejected(Reason.OVERSIZED, f"a row of more than {ROW_LIMIT} bytes")
        if not self.fits:
            return _wrong_number(self._cells, self._dialect)
        if self._has_swallowed or (self._num_lines > 1 and not self._dialect.is_certain):
            what = "ambiguous: one row with quoted line breaks, or several rows with stray quotation marks"
            return Rejected(Reason.MALFORMED_ROW, f"{what} ({counted}): write the table as JSON lines")
        return self._cells

    def _looks_like_row(self, line: str) -> bool:
        """Return whether a line inside quotes looks like a row of its own, taken in by a stray quote.

        It does if its first cell has the usual shape, and it has as many cells as the header, or at least as
        many with one in quotes.
        """
        dialect = self._dialect
        first, *others = line.split(dialect.delimiter)
        if dialect.num_cells < 2 or dialect.first_shape is None or shape_of(first) != dialect.first_shape:
            return False
        is_quoted = any(cell.lstrip(" ").startswith('"') for cell in others)
        return len(others) == dialect.num_cells - 1 or (is_quoted and len(others) >= dialect.num_cells - 1)

    def _scan(self, line: str) -> None:
        """Split the line into cells, continuing an open quoted cell."""
        opening, closing, after, unescape = _patterns(self._dialect.delimiter, self._dialect.quoting)
        place = 0
        while True:
            opened = None if self._is_open else opening.match(line, place)
            if not self._is_open and not opened:
                end = line.find(self._dialect.delimiter, place)
                self._cells.append(line[place:].rstrip("\r\n") if end < 0 else line[place:end])
                if end < 0:
                    return
                place = end + 1
                continue
            place = opened.end() if opened else place
            closed = closing.match(line, place)
            if not closed:
                self._held.append(line[place:])
                self._is_open = True
                return
            self._held.append(closed[1])
            self._cells.append(unescape.sub(lambda match: match[0][1], "".join(self._held)))
            self._held, self._is_open = [], False
            ended = after.match(line, closed.end())
            if not ended:
                self._is_broken = True
                return
            if not ended[1]:
                return
            place = ended.end()


def shape_of(cell: str) -> str | None:
    """Return the shape of a number or name, such as "a_0.a" for "img_17.png"; None for several words."""
    cell = cell.strip().strip('"')
    if not cell or len(cell) > 200 or " " in cell:
        return None
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", cell))


@functools.lru_cache(maxsize=16)
def _patterns(delimiter: str, quoting: Quoting) -> tuple[re.Pattern[str], ...]:
    """Compile patterns for an opening quote, the rest of a quoted cell, what follows it, and escapes."""
    if quoting == "escaped":
        closing, escaped = r'((?:[^"\\]++|\\.)*+)"', r'\\["\\]'
    else:
        closing, escaped = r'((?:[^"]++|"")*+)"', r'""'
    after = rf" *(?:({re.escape(delimiter)})|[\r\n]*\Z)"
    return (
        re.compile(' *"'),
        re.compile(closing, re.DOTALL),
        re.compile(after),
        re.compile(escaped),
    )
