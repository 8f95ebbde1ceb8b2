"""The run's `metrics.jsonl`, one JSON object per log point; and the window of metrics between two."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, final

import torch
from torch import Tensor

from trimask.errors import UserError
from trimask.io import atomic_write
from trimask.reading import read_text
from trimask.seals import parse_json
from trimask.training.distributed import ALONE, World

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
# Fields that a resume cannot reproduce; all others are equal bit for bit.
WALL_CLOCK_FIELDS = ("seconds", "tokens_per_second")
# These metrics of a step are counts: they are summed, all others are averaged.
TOKENS = "tokens"
SKIPPED = "skipped"  # 1 for an update skipped because of a non-finite gradient
COUNTS = (TOKENS, SKIPPED)


@final
class Tracker:
    """Appends rows to a run's `metrics.jsonl`, after removing rows beyond `keep_until`, which a resume
    recomputes.

    Only the main process writes; its initial errors are raised in all. Rows whose hash is not `expected` are
    reported: nothing depends on them, but curves may be wrong.
    """

    def __init__(
        self, run: Path, *, keep_until: int, expected: str | None = None, world: World = ALONE
    ) -> None:
        self._path = run / METRICS_FILE
        self._file: TextIO | None = None
        self._digest = hashlib.sha256()
        world.run_on_main(partial(self._open, keep_until, expected))

    @property
    def sha256(self) -> str | None:
        """Hash of all rows so far; None outside the main process."""
        return None if self._file is None else self._digest.hexdigest()

    def _open(self, keep_until: int, expected: str | None) -> None:
        if os.path.lexists(self._path):
            self._truncate(keep_until)
        if expected not in (None, self._digest.hexdigest()):
            logger.warning(
                "%s is not as it was written, up to step %d: the run goes on, but its curves may be wrong",
                self._path,
                keep_until,
            )
        self._file = self._path.open("a", encoding="utf-8")

    def _truncate(self, keep_until: int) -> None:
        kept = [line for line, row in _rows(self._path) if row["step"] <= keep_until]
        text = "".join(line + "\n" for line in kept)
        self._digest.update(text.encode())
        with atomic_write(self._path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def write(self, row: Mapping[str, float | int | None]) -> None:
        """Append one row and flush it, so that readers see it at once."""
        if self._file is not None:
            line = json.dumps(row, allow_nan=False) + "\n"
            self._file.write(line)
            self._file.flush()
            self._digest.update(line.encode())

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's `metrics.jsonl`, oldest first, without an incomplete last line (from a
    crash).

    UserError where the file is missing or a line before the last is not a row.
    """
    path = run / METRICS_FILE
    if not os.path.lexists(path):
        raise UserError(f"{run} has no {METRICS_FILE}; is it a run directory?")
    return [row for _, row in _rows(path)]


def _rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return each complete line with its row."""
    lines = read_text(path, errors="replace").split("\n")
    torn = lines.pop()  # text after the last line feed: empty in a complete file
    if torn:
        logger.warning("%s ends in a torn line, which is left out", path)
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or type(row.get("step")) is not int:
            raise UserError(f"{path}, line {number}: not a row of metrics; remove the line")
        rows.append((line, row))
    return rows


@final
class MetricsWindow:
    """The metrics of the steps since the last log point, kept as tensors until their values are needed.

    Reading a tensor waits for the device, so `gather` reads all pending tensors at once.
    """

    def __init__(self, gathered: Sequence[Mapping[str, float | int]] = ()) -> None:
        self._gathered: list[dict[str, float]] = [dict(metrics) for metrics in gathered]
        self._pending: list[dict[str, Tensor | float | int]] = []

    def __len__(self) -> int:
        return len(self._gathered) + len(self._pending)

    def append(self, metrics: Mapping[str, Tensor | float | int]) -> None:
        # Cloned: a captured graph writes its next outputs into the same memory.
        self._pending.append(
            {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in metrics.items()}
        )

    def gather(self) -> list[dict[str, float]]:
        """Return the metrics of each step in the window as floats, oldest first; wait for the device once."""
        tensors = [v for metrics in self._pending for v in metrics.values() if isinstance(v, Tensor)]
        values = iter(read_scalars(tensors))
        for metrics in self._pending:
            self._gathered.append(
                {k: next(values) if isinstance(v, Tensor) else float(v) for k, v in metrics.items()}
            )
        self._pending.clear()
        return self._gathered

    def mean(self) -> dict[str, float]:
        """Return means over the window; counts are summed.

        NaN and infinite values are excluded (a step reports NaN for a modality that its batch lacks), as are
        all metrics but counts of skipped updates. A metric without any value is absent.
        """
        gathered = self.gather()
        result = {}
        for name in dict.fromkeys(name for metrics in gathered for name in metrics):
            of = gathered if name in COUNTS else [metrics for metrics in gathered if not metrics.get(SKIPPED)]
            values = [metrics[name] for metrics in of if math.isfinite(metrics.get(name, math.nan))]
            if values:
                result[name] = math.fsum(values) / (1 if name in COUNTS else len(values))
        return result

    def clear(self) -> None:
        assert not self._pending, "metrics would be lost unread"
        self._gathered.clear()


def read_scalars(tensors: Sequence[Tensor]) -> list[float]:
    """Read tensors of one element each; wait for the device once."""
    if not tensors:
        return []
    # Float64 holds float32 and counts exactly; mps has no float64.
    dtype = torch.float32 if any(t.device.type == "mps" for t in tensors) else torch.float64
    device = next((t.device for t in tensors if t.device.type != "cpu"), tensors[0].device)
    return torch.stack([t.reshape(()).to(device, dtype) for t in tensors]).tolist()
