"""Progress within running parts.

Each worker, in whatever process or machine, writes its count into a file of the shared output folder, and
the process that shows progress reads these files.
"""

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

RUNNING = "running"
"""The folder of these files in the output, which exists only while parts run."""
_INTERVAL = 0.5  # seconds


@final
class Tally:
    """Counts the items of part `number` while it runs. Errors in writing the count are ignored."""

    def __init__(self, out: Path, number: int) -> None:
        self._path = out / RUNNING / f"{number:06d}"
        self._count = 0
        self._next = time.monotonic() + _INTERVAL

    def add(self) -> None:
        self._count += 1
        if (now := time.monotonic()) >= self._next:
            self._next = now + _INTERVAL
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.write_text(str(self._count))

    def __enter__(self) -> "Tally":
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Finished parts and items. `num_fresh` and `fresh_items` count those finished by this call."""

    num_done: int
    num_parts: int
    num_fresh: int
    items: int
    fresh_items: int
    num_items: int | None = None
    """expected items of all parts; None: unknown"""

    @property
    def share_left(self) -> float | None:
        """Remaining work as a multiple of the work done by this call; None: unknown yet."""
        if self.num_done == self.num_parts:
            return 0.0
        if self.num_items is not None:
            return max(self.num_items - self.items, 0) / self.fresh_items if self.fresh_items else None
        return (self.num_parts - self.num_done) / self.num_fresh if self.num_fresh else None


@final
class ProgressTracker:
    """Adds up the progress of finished and running parts."""

    def __init__(
        self, out: Path, *, num_parts: int, num_done: int, items: int, num_items: int | None = None
    ) -> None:
        self._folder = out / RUNNING
        self._num_parts, self._num_before, self._num_items = num_parts, num_done, num_items
        self._items_before = items
        self._num_fresh = self._finished = self._most = 0

    def finish(self, items: int) -> None:
        """Record that a part with `items` items is finished."""
        self._num_fresh += 1
        self._finished += items

    def counts(self) -> Counts:
        # A part that is just ending is briefly in neither count: never show less than before.
        self._most = max(self._most, self._finished + sum(self._running()))
        fresh = self._most
        num_done = self._num_before + self._num_fresh
        if self._num_items is not None and num_done < self._num_parts:
            # All items may have been read while a part is still at work: never show it as complete.
            fresh = max(min(fresh, self._num_items - self._items_before - 1), 0)
        return Counts(
            num_done=num_done,
            num_parts=self._num_parts,
            num_fresh=self._num_fresh,
            items=self._items_before + fresh,
            fresh_items=fresh,
            num_items=self._num_items,
        )

    def _running(self) -> Iterator[int]:
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                with contextlib.suppress(OSError, ValueError):  # just removed, or being written
                    yield int(path.read_bytes()[:20])

    @contextmanager
    def report_periodically(
        self, show: Callable[[Counts], None], *, interval: float = 1.0
    ) -> Iterator[Callable[[], None]]:
        """Call `show` every `interval` seconds in the background; yield a function that calls it now."""
        shutil.rmtree(self._folder, ignore_errors=True)  # left by a process that was killed
        lock, ended = threading.Lock(), threading.Event()

        def now() -> None:
            with lock:
                show(self.counts())

        def watch() -> None:
            # Ctrl-C must reach the main thread, which may be blocking it.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            while not ended.wait(interval):
                now()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield now
        finally:
            ended.set()
            thread.join()
            shutil.rmtree(self._folder, ignore_errors=True)
