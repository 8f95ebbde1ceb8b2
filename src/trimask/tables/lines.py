"""Lines of a range of a file, of which none is longer than fits."""

from collections.abc import Iterator
from pathlib import Path

from trimask.tables.encoding import open_utf8


def bounded_lines(path: Path, start: int, stop: int, limit: int) -> Iterator[tuple[int, bytes | None]]:
    """(offset, line) of the lines that begin in [start, stop); None for one of more than `limit` bytes.

    A line belongs to the range in which its first byte stands, so ranges that meet share no line.
    """
    with open_utf8(path) as file:
        if start:
            file.seek(start - 1)
            while (head := file.readline(limit)) and not head.endswith(b"\n"):
                pass
        while (offset := file.tell()) < stop:
            line = file.readline(limit + 1)
            if not line:  # the file has become shorter than `stop`
                return
            is_long = len(line) > limit
            while is_long and line and not line.endswith(b"\n"):
                line = file.readline(limit)
            yield offset, None if is_long else line
