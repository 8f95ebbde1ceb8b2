"""Results go to stdout, everything else to stderr."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SILENCE = 4.5  # seconds after which what is being done is said again


def say(line: str) -> None:
    """A line for the person who waits."""
    print(f"trimask: {line}", file=sys.stderr, flush=True)


def print_json(value: dict[str, Any]) -> None:
    """The result as one JSON object."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


class Report:
    """Takes the lines of a long job ("encoding images 64/960"): on a terminal they replace each other, in a
    file only the last of each kind is kept, with the first to say that it began.
    """

    def __init__(self) -> None:
        self._kind = self._message = ""
        self._began = self._said = time.monotonic()
        self._lock = threading.RLock()

    def __call__(self, message: str) -> None:
        kind, _, count = message.rpartition(" ")
        done, _, total = count.partition("/")
        is_last = done == total
        with self._lock:
            now = time.monotonic()
            if message != self._message:
                self._began = now
            if sys.stderr.isatty():
                self._said = now
                end = "\n" if is_last else ""
                end = "\n" if is_last else ""
                print(f"\r\033[Ktrimask: {message}", end=end, file=sys.stderr, flush=True)
            elif is_last or kind != self._kind:
                self._said = now
                say(message)
            self._kind, self._message = kind, message

    def note(self, message: str) -> None:
        """A line that stays."""
        with self._lock:
            if sys.stderr.isatty():
                print("\r\033[K", end="", file=sys.stderr)
            say(message)
            self._said = time.monotonic()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Within this, nothing is silent for five seconds: what is being done is said again."""
        stop = threading.Event()
        thread = threading.Thread(target=self._beat, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(0.25):
            with self._lock:
                now = time.monotonic()
                if self._message and now - self._said >= _SILENCE:
                    self._said = now
                    line = f"{self._message} ({now - self._began:.0f} s)"
                    if sys.stderr.isatty():
                        print(f"\r\033[Ktrimask: {line}", end="", file=sys.stderr, flush=True)
                    else:
                        say(line)
