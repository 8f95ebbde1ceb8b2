"""Prefetch batches in worker processes."""

import itertools
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from torch.utils.data import DataLoader, Dataset

from trimask.data.stream import TrainingStream
from trimask.vocabulary.batch import Batch

_AHEAD = 4  # batches of each process


def load(
    stream: TrainingStream, start: int, *, rank: int = 0, num_parts: int = 1, num_workers: int = 0
) -> Iterator[Batch]:
    """Yield part `rank` of the batches from step `start` on, endlessly: the same with any number of
    workers."""
    if num_workers == 0:
        yield from stream.batches(start, rank=rank, num_parts=num_parts)
        return
    yield from DataLoader(
        _Parts(stream=stream, rank=rank, num_parts=num_parts),
        batch_size=None,
        sampler=itertools.count(start),
        num_workers=num_workers,
        prefetch_factor=_AHEAD,
        # Forked, so that mapped shards need not be opened again.
        multiprocessing_context="fork",
        worker_init_fn=_ignore_signals,
    )


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Parts(Dataset[Batch]):
    stream: TrainingStream
    rank: int
    num_parts: int

    def __getitem__(self, step: int) -> Batch:
        return self.stream.batch(step, rank=self.rank, num_parts=self.num_parts)


def _ignore_signals(worker: int) -> None:
    """Ignore Ctrl-C, which reaches all processes: the main one finishes its step, then ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
