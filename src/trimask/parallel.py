"""Engines that process independent items: this process, several processes, or a Ray cluster.

All engines give the same results.
"""

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any, Generic, TypeVar, final

from trimask import faults, modules
from trimask.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@final
class WorkerLost(RuntimeError):
    """A worker process ended before it finished its item."""


class Work(ABC, Generic[Item, Result]):
    """A function of one item; it is pickled if another process runs it."""

    @abstractmethod
    def __call__(self, item: Item) -> Result: ...


class Engine(ABC):
    """Processes items in any order."""

    @abstractmethod
    def run(self, work: Work[Item, Result], items: Iterable[Item], *, ahead: int = 1) -> Iterator[Result]:
        """Apply `work` to each item and yield the results in the order in which they are finished.

        Args:
            ahead: items that wait for each worker, so that it never waits for one. With 0 an item is taken
                only when it can be started.

        Raises:
            WorkerLost: a worker process ended early.
        """

    @abstractmethod
    def run_one(self, work: Work[Item, Result], item: Item) -> Result:
        """Apply `work` to an item on a machine where items are processed: this one, or one of the cluster."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Local(Engine):
    """`workers` processes of this machine; with 1, this process itself.

    Attributes:
        num_gpus: GPUs that they share, worker i taking GPU i mod `num_gpus`, the only one that it sees.
    """

    workers: int
    num_gpus: int = 0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"workers {self.workers}: give at least 1")

    def run_one(self, work: Work[Item, Result], item: Item) -> Result:
        return work(item)

    def run(self, work: Work[Item, Result], items: Iterable[Item], *, ahead: int = 1) -> Iterator[Result]:
        if self.workers == 1:
            yield from map(work, items)
            return
        # Workers are forked from a server that has imported everything once and has no threads.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([type(work).__module__])
        resource_tracker.ensure_running()  # starting it later would unblock SIGINT
        with block_interrupts():
            forkserver.ensure_running()
        turn = context.Value("i", 0)
        with ProcessPoolExecutor(
            self.workers,
            mp_context=context,
            initializer=_enter_pool,
            initargs=(turn, _name_gpus(self.num_gpus)),
        ) as pool:
            try:
                submit = functools.partial(_submit, pool, work)
                yield from _run_windowed(submit, iter(items), (1 + ahead) * self.workers)
            except BrokenProcessPool as error:
                raise WorkerLost(
                    "a worker was killed, perhaps out of memory: run the same command again to continue, "
                    "with fewer --workers"
                ) from error
            except BaseException:  # Ctrl-C too: an item may take minutes, and will be repeated
                _end_at_once(pool)
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Ray(Engine):
    """The Ray cluster of RAY_ADDRESS, or a local one. All machines must see the same files.

    Attributes:
        on_gpus: whether each item takes a GPU for itself, if the cluster has any.
    """

    workers: int
    on_gpus: bool = False

    def run_one(self, work: Work[Item, Result], item: Item) -> Result:
        (found,) = self.run(work, [item])
        return found

    def run(self, work: Work[Item, Result], items: Iterable[Item], *, ahead: int = 1) -> Iterator[Result]:
        try:
            import ray  # pyright: ignore[reportMissingImports]  (an extra)
        except ImportError:
            raise UserError("--engine ray needs Ray: pip install 'trimask[scale]'") from None
        if not ray.is_initialized():
            num_cpus = None if "RAY_ADDRESS" in os.environ else self.workers
            try:
                ray.init(num_cpus=num_cpus, log_to_driver=False)
            except Exception as error:  # Ray raises a bare Exception if a part of it starts too late
                reason = str(error).strip().partition("\n")[0]
                raise WorkerLost(f"Ray did not start: {reason}: run the same command again") from error
        has_gpus = self.on_gpus and ray.cluster_resources().get("GPU", 0) > 0
        remote: Any = ray.remote(num_cpus=1, num_gpus=int(has_gpus))(_run_packed)
        rest = (_pack(work, item) for item in items)
        running = [remote.remote(*each) for each in islice(rest, (1 + ahead) * self.workers)]
        while running:
            done, running = ray.wait(running)
            running += [remote.remote(*each) for each in islice(rest, len(done))]
            yield from ray.get(done)


def _pack(work: Work[Item, Any], item: Item) -> tuple[list[modules.SourceFile], bytes]:
    """Pack an item for another process: the user's files to load first, and the pickled work and item."""
    return modules.loaded_files(), pickle.dumps((work, item))


def _submit(pool: ProcessPoolExecutor, work: Work[Item, Result], item: Item) -> "Future[Result]":
    try:
        return pool.submit(_run_packed, *_pack(work, item))
    except OSError as error:  # a worker was lost just now, and the pool has closed its pipe
        raise BrokenProcessPool(str(error)) from error


def _run_packed(files: list[modules.SourceFile], packed: bytes) -> Any:
    for file in files:
        file.load()
    work, item = pickle.loads(packed)
    try:
        return work(item)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # its traceback stays in this process
        place = faults.find_place(error)
        if place is None or place.is_in_trimask:
            raise
        raise UserError(faults.explain_failure(error, place)) from error


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Block SIGINT within this block; processes started here, and their children, never receive it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _name_gpus(number: int) -> list[str]:
    """Return the first `number` GPUs that this process sees, as CUDA calls them."""
    seen = os.environ.get(_VISIBLE)
    return [str(index) for index in range(number)] if seen is None else seen.split(",")[:number]


def _end_at_once(pool: ProcessPoolExecutor) -> None:
    """Kill the workers, and the server, which may be about to fork one (it is restarted when needed)."""
    server = forkserver._forkserver._forkserver_pid  # pyright: ignore[reportAttributeAccessIssue]  (private)
    for pid in [server, *(process.pid for process in (pool._processes or {}).values())]:
        with contextlib.suppress(ProcessLookupError, TypeError):  # it has ended, or not started
            os.kill(pid, signal.SIGKILL)


def _run_windowed(
    submit: Callable[[Item], "Future[Result]"], items: Iterator[Item], size: int
) -> Iterator[Result]:
    """Yield results as they are finished, with at most `size` items submitted at a time."""
    running = {submit(item) for item in islice(items, size)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        running |= {submit(item) for item in islice(items, len(done))}
        for future in done:
            yield future.result()


def _enter_pool(turn: Any, gpus: Sequence[str]) -> None:
    """Take a GPU, if there are any; and make this worker exit when its parent ends: otherwise it would wait
    forever if the parent is killed.

    Args:
        turn: a number shared by the workers, raised by each.
    """
    if gpus:
        with turn.get_lock():
            number = turn.value
            turn.value += 1
        os.environ[_VISIBLE] = gpus[int(number) % len(gpus)]  # CUDA has not been used here yet
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
