"""Who does a list of independent items: this process, several of them, or the machines of a Ray cluster. All
give the same.
"""

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any, Generic, TypeVar, final

from trimask import modules
from trimask.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


@final
class WorkerLost(RuntimeError):
    """A worker process ended in the middle of its item."""


class Work(ABC, Generic[Item, Result]):
    """What is done with each item, in whatever process."""

    @abstractmethod
    def __call__(self, item: Item) -> Result: ...


class Engine(ABC):
    """Does items in any order."""

    @abstractmethod
    def run(self, work: Work[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        """The results, as they are finished."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Local(Engine):
    """`workers` processes of this machine; one is this process itself."""

    workers: int

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"workers {self.workers}: give at least 1")

    def run(self, work: Work[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        if self.workers == 1:
            yield from map(work, items)
            return
        # A server that has imported everything once, and no threads, makes the workers.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([type(work).__module__])
        resource_tracker.ensure_running()  # which would let Ctrl-C through again
        with block_interrupts():
            forkserver.ensure_running()
        with ProcessPoolExecutor(self.workers, mp_context=context, initializer=_enter_pool) as pool:
            try:
                submit = functools.partial(_submit, pool, work)
                yield from _run_windowed(submit, iter(items), 2 * self.workers)
            except BrokenProcessPool as error:
                raise WorkerLost(
                    "a worker was killed, perhaps for its memory: run the same command again to go on, with "
                    "fewer --workers"
                ) from error
            except BaseException:  # Ctrl-C too: an item may take minutes, and is done anew
                _end_at_once(pool)
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Ray(Engine):
    """The Ray cluster that the environment names, or one of this machine. All must see the same files."""

    workers: int

    def run(self, work: Work[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        try:
            import ray  # pyright: ignore[reportMissingImports]  (an extra)
        except ImportError:
            raise UserError("--engine ray needs Ray: pip install 'trimask[scale]'") from None
        if not ray.is_initialized():
            num_cpus = None if "RAY_ADDRESS" in os.environ else self.workers
            try:
                ray.init(num_cpus=num_cpus, log_to_driver=False)
            except Exception as error:  # a bare one where a part of it is late to start
                reason = str(error).strip().partition("\n")[0]
                raise WorkerLost(f"Ray did not start: {reason}: run the same command again") from error
        remote: Any = ray.remote(num_cpus=1)(_run_packed)
        rest = (_pack(work, item) for item in items)
        running = [remote.remote(*each) for each in islice(rest, 2 * self.workers)]
        while running:
            done, running = ray.wait(running)
            running += [remote.remote(*each) for each in islice(rest, len(done))]
            yield from ray.get(done)


def _pack(work: Work[Item, Any], item: Item) -> tuple[list[modules.SourceFile], bytes]:
    """What goes to another process: files of the user's, which it must load before it unpickles the rest."""
    return modules.loaded_files(), pickle.dumps((work, item))


def _submit(pool: ProcessPoolExecutor, work: Work[Item, Result], item: Item) -> "Future[Result]":
    try:
        return pool.submit(_run_packed, *_pack(work, item))
    except OSError as error:  # a worker was lost at this very moment: the pool has closed its pipe
        raise BrokenProcessPool(str(error)) from error


def _run_packed(files: list[modules.SourceFile], packed: bytes) -> Any:
    for file in files:
        file.load()
    work, item = pickle.loads(packed)
    return work(item)


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Within this, Ctrl-C waits; a process that is started, and those that it starts, never get it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_at_once(pool: ProcessPoolExecutor) -> None:
    """End the workers, and the server that may be about to make one (another is started when needed)."""
    server = forkserver._forkserver._forkserver_pid  # pyright: ignore[reportAttributeAccessIssue]  (private)
    for pid in [server, *(process.pid for process in (pool._processes or {}).values())]:
        with contextlib.suppress(ProcessLookupError, TypeError):  # it has ended, or not begun
            os.kill(pid, signal.SIGKILL)


def _run_windowed(
    submit: Callable[[Item], "Future[Result]"], items: Iterator[Item], size: int
) -> Iterator[Result]:
    """Results as they come, with at most `size` items handed out: a long list is never all in flight."""
    running = {submit(item) for item in islice(items, size)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        running |= {submit(item) for item in islice(items, len(done))}
        for future in done:
            yield future.result()


def _enter_pool() -> None:
    """A worker whose parent was killed would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
