"""Memory-mapped files of decoded pictures or recordings, on which tokenizers are trained and measured."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from trimask import io
from trimask.errors import UserError

KIND = "trimask signals"
_ROWS_PER_BATCH = 64
_SCHEMA = pa.schema(
    [("key", pa.string()), ("text", pa.string()), ("speaker", pa.string()), ("signal", pa.large_binary())]
)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """A picture (uint8, height × width × 3) or a recording (int16 samples), with its metadata.

    Attributes:
        text: caption or transcript; "" if there is none.
        speaker: "" if unknown.
    """

    key: str
    text: str
    speaker: str
    values: np.ndarray


@final
class Signals:
    """Random access to the rows of a file that `SignalWriter` made."""

    def __init__(self, path: Path, *, sha256: str | None = None) -> None:
        """Open a file.

        Args:
            sha256: the expected hash, which is checked if given.

        Raises:
            UserError, FileNotFoundError: the file is missing, damaged, or something else.
        """
        if sha256 is not None and io.sha256(path) != sha256:
            raise UserError(f"{path} is damaged, it has changed since it was written")
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"{path} is damaged ({str(error).splitlines()[0]}): delete it, so that it is made again"
            ) from error
        metadata = self._file.schema.metadata or {}
        if metadata.get(b"kind") != KIND.encode():
            raise UserError(f"{path} is not a file of signals: delete it, so that it is made again")
        self._shape = tuple(int(size) for size in metadata[b"shape"].decode().split(","))
        self._dtype = np.dtype(metadata[b"dtype"].decode())
        self._table = self._file.read_all()
        offsets = [np.zeros(1, dtype=np.int64)]
        for chunk in self._table["signal"].chunks:
            starts = np.frombuffer(chunk.buffers()[1], dtype=np.int64)[chunk.offset :][: len(chunk) + 1]
            offsets.append(np.diff(starts))
        row_bytes = self._dtype.itemsize * int(np.prod(self._shape[1:], dtype=np.int64))
        self._lengths = np.concatenate(offsets)[1:] // row_bytes

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, index: int) -> Signal:
        if not 0 <= index < len(self):
            raise IndexError(f"signal {index} of {len(self)}")
        row = {name: self._table[name][index] for name in ("key", "text", "speaker")}
        values = np.frombuffer(self._table["signal"][index].as_buffer(), dtype=self._dtype)
        return Signal(**{n: v.as_py() for n, v in row.items()}, values=values.reshape(self._shape))

    def __iter__(self) -> Iterator[Signal]:
        return (self[index] for index in range(len(self)))

    @property
    def lengths(self) -> Int[np.ndarray, "rows"]:
        """The first dimension of each row (samples of a recording), without reading the rows."""
        return self._lengths

    @property
    def keys(self) -> list[str]:
        """The key of each row."""
        return self._table["key"].to_pylist()

    def empty(self) -> np.ndarray:
        """Return an array of length 0 with the shape and type of the rows."""
        return np.empty((0, *self._shape[1:]), dtype=self._dtype)


@final
class SignalWriter:
    """Writes signals to a file one at a time, in a `with` statement that makes the file atomic.

    Args:
        shape: shape of each row's values; (-1,) for recordings of any length.
    """

    def __init__(self, path: Path, *, shape: tuple[int, ...], dtype: Any) -> None:
        self._path = path
        self._dtype = np.dtype(dtype)
        metadata = {"kind": KIND, "shape": ",".join(map(str, shape)), "dtype": self._dtype.name}
        self._schema = _SCHEMA.with_metadata(metadata)
        self._rows: list[dict[str, Any]] = []
        self.count = 0

    def __enter__(self) -> "SignalWriter":
        with ExitStack() as stack:
            temporary = stack.enter_context(io.atomic_write(self._path))
            self._file = stack.enter_context(pa.ipc.new_file(str(temporary), self._schema))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None:
                self._flush()
        finally:
            self._stack.__exit__(*error)

    def add(self, signal: Signal) -> None:
        """Append a row."""
        assert signal.values.dtype == self._dtype, f"{signal.values.dtype} instead of {self._dtype}"
        values = np.ascontiguousarray(signal.values).tobytes()
        row = {"key": signal.key, "text": signal.text, "speaker": signal.speaker, "signal": values}
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == _ROWS_PER_BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._rows = []


@final
class Concatenation:
    """The rows of signals, concatenated along their first dimension into one array that is read by slices."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._ends = np.cumsum(signals.lengths)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return a copy of the values [start, stop)."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"[{start}, {stop}) of {len(self)} values")
        pieces: list[np.ndarray] = []
        row = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            begin = int(self._ends[row]) - int(self._signals.lengths[row])
            values = self._signals[row].values
            pieces.append(values[start - begin : stop - begin])
            start, row = int(self._ends[row]), row + 1
        return np.concatenate(pieces) if pieces else self._signals.empty()
