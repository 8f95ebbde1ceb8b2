"""How many items of a part are done, told while it runs: the worker writes it into a file that all see,
whatever process or machine it is, and the one who waits reads it now and then.
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
"""The folder of these files in prepared data, while parts are done."""
_INTERVAL = 0.5  # seconds


@final
class Tally:
    """Counts the items of part `number`. That it cannot be told is no fault of the part."""

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
    """Parts done of all, and items. `num_fresh` and `fresh_items` were done by this call."""

    num_done: int
    num_parts: int
    num_fresh: int
    items: int
    fresh_items: int
    num_items: int | None = None
    """of all parts, as far as that can be told before; None: it cannot"""

    @property
    def share_left(self) -> float | None:
        """What is left, as a multiple of what this call has done; None: cannot be told yet."""
        if self.num_done == self.num_parts:
            return 0.0
        if self.num_items is not None:
            return max(self.num_items - self.items, 0) / self.fresh_items if self.fresh_items else None
        return (self.num_parts - self.num_done) / self.num_fresh if self.num_fresh else None


@final
class Board:
    """What is done of all parts: of those that are finished, and within those that run."""

    def __init__(
        self, out: Path, *, num_parts: int, num_done: int, items: int, num_items: int | None = None
    ) -> None:
        self._folder = out / RUNNING
        self._num_parts, self._num_before, self._num_items = num_parts, num_done, num_items
        self._items_before = items
        self._num_fresh = self._finished = self._most = 0

    def finish(self, items: int) -> None:
        """A part of so many items is done."""
        self._num_fresh += 1
        self._finished += items

    def counts(self) -> Counts:
        # A part that ends meanwhile is in neither for a moment: nothing goes backwards for that.
        self._most = max(self._most, self._finished + sum(self._running()))
        fresh = self._most
        num_done = self._num_before + self._num_fresh
        if self._num_items is not None and num_done < self._num_parts:
            # What is read last may still be worked on.
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
                with contextlib.suppress(OSError, ValueError):  # it has just ended, or is being written
                    yield int(path.read_bytes()[:20])

    @contextmanager
    def shown(self, show: Callable[[Counts], None], *, interval: float = 1.0) -> Iterator[Callable[[], None]]:
        """Calls `show` every `interval` seconds; gives what calls it at once."""
        shutil.rmtree(self._folder, ignore_errors=True)  # of a process that was killed
        lock, ended = threading.Lock(), threading.Event()

        def now() -> None:
            with lock:
                show(self.counts())

        def watch() -> None:
            # Ctrl-C is for the main thread, which may be holding it off.
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
