"""Who does the parts: this process, several of them, or the machines of a Ray cluster. All give the same."""

import functools
import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection
from pathlib import Path
from typing import Any, final

import torch

from trimask.data.prepare.options import PrepareOptions
from trimask.data.prepare.part import Codecs, tokenize_part
from trimask.data.prepare.plan import Part
from trimask.data.prepare.record import PartRecord
from trimask.data.prepare.rejection import first_line


@final
class WorkerLost(RuntimeError):
    """A worker process ended in the middle of its part."""


class CodecLoader(ABC):
    """Loads the tokenizers, in whatever process it is called. Equal loaders load equal tokenizers."""

    @abstractmethod
    def __call__(self) -> Codecs: ...


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What is done with each part."""

    codecs: CodecLoader
    options: PrepareOptions
    own_splits: frozenset[str]
    out: Path

    def __call__(self, part: Part) -> PartRecord:
        # One thread: another number of them would add floats in another order, and give other codes.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return tokenize_part(part, _loaded(self.codecs), self.options, self.own_splits, self.out)
        finally:
            torch.set_num_threads(threads)


class Engine(ABC):
    """Does parts in any order."""

    @abstractmethod
    def run(self, work: Work, parts: Iterable[Part]) -> Iterator[PartRecord]:
        """The records of the parts, as they are finished."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Local(Engine):
    """`workers` processes of this machine; one is this process itself."""

    workers: int

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers {self.workers}: give at least 1")

    def run(self, work: Work, parts: Iterable[Part]) -> Iterator[PartRecord]:
        if self.workers == 1:
            yield from map(work, parts)
            return
        # A server that has imported everything once, and no threads, makes the workers.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        with ProcessPoolExecutor(self.workers, mp_context=context, initializer=_enter_pool) as pool:
            try:
                yield from _windowed(functools.partial(pool.submit, work), iter(parts), 2 * self.workers)
            except BrokenProcessPool as error:
                raise WorkerLost(
                    "a worker was killed, perhaps for its memory: run the same command again to go on, with "
                    "fewer --workers"
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Ray(Engine):
    """The Ray cluster that the environment names, or one of this machine. All must see the same files."""

    workers: int

    def run(self, work: Work, parts: Iterable[Part]) -> Iterator[PartRecord]:
        try:
            import ray  # pyright: ignore[reportMissingImports]  (an extra)
        except ImportError:
            raise ValueError("--engine ray needs Ray: pip install 'trimask[scale]'") from None
        if not ray.is_initialized():
            num_cpus = None if "RAY_ADDRESS" in os.environ else self.workers
            try:
                ray.init(num_cpus=num_cpus, log_to_driver=False)
            except Exception as error:  # a bare one where a part of it is late to start
                raise WorkerLost(
                    f"Ray did not start: {first_line(error)}: run the same command again"
                ) from error
        remote: Any = ray.remote(num_cpus=1)(Work.__call__)
        rest = iter(parts)
        running = [remote.remote(work, part) for part in islice(rest, 2 * self.workers)]
        while running:
            done, running = ray.wait(running)
            running += [remote.remote(work, part) for part in islice(rest, len(done))]
            yield from ray.get(done)


def _windowed(
    submit: Callable[[Part], "Future[PartRecord]"], parts: Iterator[Part], size: int
) -> Iterator[PartRecord]:
    """Results as they come, with at most `size` parts handed out: a long plan is never all in flight."""
    running = {submit(part) for part in islice(parts, size)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        running |= {submit(part) for part in islice(parts, len(done))}
        for future in done:
            yield future.result()


@functools.cache
def _loaded(codecs: CodecLoader) -> Codecs:
    """Once per process."""
    return codecs()


def _enter_pool() -> None:
    """Ctrl-C is for the parent, which ends the pool; a worker whose parent was killed would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
