"""Read parquet files a few rows at a time. Runs in a process with limited memory (`run_confined`)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trimask.errors import UserError

BATCH_ROWS = 64
_SENT_BYTES = 4_000_000  # most bytes in rows that are sent together
_BUFFER = 1 << 20  # bytes of a column that are read at once; row groups can be larger than memory
_REMOTE_BUFFER = 8 << 20  # larger, since each request has high latency
_FREE_ROWS, _ROWS_PER_BYTE = 1_000_000, 8
_FREE_BYTES, _INFLATION = 256_000_000, 200
"""Most rows and unpacked bytes in any file, plus those allowed per byte of its size: more is a bomb."""


def schema_of(file: Path | str) -> Iterator[Any]:
    """Yield the arrow schema of a file."""
    with _open(file) as (parquet, _):
        yield parquet.schema_arrow


def rows_of(file: Path | str, columns: list[str], limit: int) -> Iterator[list[dict[str, Any] | int]]:
    """Yield the rows in order, in lists. A row of more than `limit` bytes is replaced by its size.

    Args:
        file: a path, or the URL of a remote file.

    Raises:
        UserError: the file has too many rows or bytes for its size.
        MemoryError, or any exception of the library.
    """
    num_read, num_bytes = 0, 0
    for batch_rows in (BATCH_ROWS, 1):
        with _open(file) as (parquet, size):
            num_rows = parquet.metadata.num_rows
            if num_rows > _FREE_ROWS + _ROWS_PER_BYTE * size:
                raise UserError(f"{num_rows} rows by its footer, too many for {size} bytes")
            start = 0
            try:
                for batch in parquet.iter_batches(batch_size=batch_rows, columns=columns, use_threads=False):
                    start += batch.num_rows
                    fresh = batch.slice(max(0, batch.num_rows - start + num_read))
                    for rows, taken in split_batch(fresh, limit):
                        yield rows
                        num_read, num_bytes = num_read + len(rows), num_bytes + taken
                        if num_bytes > _FREE_BYTES + _INFLATION * size:
                            raise UserError(f"it inflates to more than {_INFLATION} times its size")
                return
            except MemoryError:
                if batch_rows == 1:
                    raise


@contextmanager
def _open(file: Path | str) -> Iterator[tuple[Any, int]]:
    """Open a file; yield it and its size in bytes."""
    import pyarrow.parquet as pq

    if "://" not in str(file):
        with pq.ParquetFile(file, buffer_size=_BUFFER) as parquet:
            yield parquet, Path(file).stat().st_size
    else:
        import fsspec

        # No read-ahead: columns are far apart, so it would fetch bytes that are not needed.
        opened: Any = fsspec.open(file, "rb", cache_type="none")
        with opened as remote:
            size = remote.seek(0, os.SEEK_END)
            with pq.ParquetFile(remote, buffer_size=_REMOTE_BUFFER) as parquet:
                yield parquet, size


def split_batch(batch: Any, limit: int) -> Iterator[tuple[list[dict[str, Any] | int], int]]:
    """Convert a batch to rows; yield lists of rows with their size. A row over `limit` becomes its size."""
    # A value shared by rows is stored once here, but copied into each row.
    is_shared = any(word in str(batch.schema) for word in ("dictionary<", "run_end_encoded<"))
    if batch.nbytes <= min(_SENT_BYTES, limit) and not is_shared:
        yield batch.to_pylist(), batch.nbytes
        return
    for number in range(batch.num_rows):
        row = batch.slice(number, 1)
        yield (row.to_pylist() if row.nbytes <= limit else [row.nbytes]), row.nbytes
