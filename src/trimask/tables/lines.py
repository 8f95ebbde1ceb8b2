"""Read the lines of a range of a file, with a limit on their length."""

from collections.abc import Iterator
from pathlib import Path

from trimask.tables.encoding import open_utf8


def bounded_lines(path: Path, start: int, stop: int, limit: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield (offset, line) for the lines that begin in [start, stop); None for a line over `limit` bytes.

    A line belongs to the range that contains its first byte, so adjacent ranges share no line.
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
