"""Read columns of numbers of a delimited file, and say by line what is not a number."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float

from trimask.errors import UserError
from trimask.media.rejection import Rejected
from trimask.reading import require_file
from trimask.tables.delimited import records
from trimask.tables.dialect import find_dialect
from trimask.tables.encoding import open_utf8, size_in_utf8

_DELIMITERS = (",", "\t", ";", "|")
_LARGEST = 100_000_000  # bytes: more is no table of runs
_MOST_NAMES = 8  # in a message


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NumberTable:
    """Columns of a file by role. `labels`: the cells of the columns that were asked for as text."""

    numbers: Mapping[str, Float[np.ndarray, "rows"]]
    labels: Mapping[str, tuple[str, ...]]


def read_numbers(
    path: Path, columns: Mapping[str, str], *, labels: Mapping[str, str] | None = None
) -> NumberTable:
    """Read columns of the delimited text file `path`: comma, tab, semicolon or | between cells, a header
    first.

    Args:
        columns: role -> name of a column of numbers that are finite and not negative.
        labels: role -> name of a column of any text.

    Raises:
        FileNotFoundError, UserError: the file cannot be read, lacks a column, has one twice, or has a cell
        that
            is no such number; the message has the line.
    """
    labels = labels or {}
    require_file(path)
    if path.stat().st_size > _LARGEST:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes: give a table of runs, one row a run")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty: give a table with a header, and one row a run")
    asked = [*columns.values(), *labels.values()]
    (_, header), *rows = _read_rows(path, asked)
    names = [name.strip() for name in header]
    places = {name: _find_column(path, names, name) for name in asked}
    if not rows:
        raise UserError(f"{path} has a header and no rows: give one row a run")
    numbers = {
        role: np.array([_read_number(path, line, name, cells[places[name]]) for line, cells in rows])
        for role, name in columns.items()
    }
    texts = {role: tuple(cells[places[name]].strip() for _, cells in rows) for role, name in labels.items()}
    return NumberTable(numbers=numbers, labels=texts)


def _read_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Return the line and the cells of each row, the header first."""
    dialect = find_dialect(path, _DELIMITERS, frozenset(name.lower() for name in columns))
    with open_utf8(path) as file:
        data = file.read()
    if b"\0" in data:
        raise UserError(f"{path} is not a text file: save the table as CSV")
    rows: list[tuple[int, list[str]]] = []
    line, counted = 1, 0
    for offset, cells in records(path, dialect, dialect.start, size_in_utf8(path)):
        line, counted = line + data.count(b"\n", counted, offset), offset
        if isinstance(cells, Rejected):
            raise UserError(f"{path}, line {line}: {cells.detail}: correct or remove it")
        rows.append((line, cells))
    if not rows:
        raise UserError(f"{path} has only blank lines: give a table with a header, and one row a run")
    return rows


def _find_column(path: Path, names: Sequence[str], name: str) -> int:
    found = [place for place, each in enumerate(names) if each == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{path} has {len(found)} columns {name!r}: rename all but one")
    close = difflib.get_close_matches(name, names, n=2)
    shown = ", ".join(names[:_MOST_NAMES]) + (" …" if len(names) > _MOST_NAMES else "")
    fix = f"did you mean {' or '.join(close)}?" if close else f"it has {shown}"
    raise UserError(f"{path} has no column {name!r}: {fix}")


def _read_number(path: Path, line: int, name: str, cell: str) -> float:
    text = cell.strip()
    where = f"{path}, line {line}: {name}"
    if not text:
        raise UserError(f"{where} is empty: fill it in, or remove the line")
    try:
        value = float(text)
    except ValueError:
        fix = (
            "write 1234.5, without a comma, a separator of thousands or a unit"
            if any(each.isdigit() for each in text)
            else "give a number"
        )
        raise UserError(f"{where} is {text[:40]!r}, not a number: {fix}") from None
    if not math.isfinite(value):
        raise UserError(f"{where} is {text}: remove runs that diverged")
    if value < 0:
        raise UserError(f"{where} is {text}: it must not be negative")
    return value
