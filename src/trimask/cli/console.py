"""Output of the command line: results go to stdout, everything else to stderr."""

import json
import sys
import threading
import time
from types import TracebackType
from typing import Any, final

from trimask.training.progress import format_clock

COUNTING = "counting the tokens of the data"
_LONGEST = 1000  # characters of a line


def say(line: str) -> None:
    """Print one line to stderr; a long one is shortened, since messages quote what the user gave."""
    print(f"trimask: {shorten(line)}", file=sys.stderr, flush=True)


def shorten(line: str) -> str:
    """Shorten a long line to its start and its end, which holds the fix; cut between words where possible."""
    if len(line) <= _LONGEST:
        return line
    half = _LONGEST // 2
    head, tail = line[:half], line[-half:]
    # Cut at a space, unless that would drop more than half of the part: a single very long word.
    kept = head.rpartition(" ")[0] if line[half] != " " else head
    rest = tail.partition(" ")[2] if line[-half - 1] != " " else tail
    head = kept if len(kept) > half // 2 else head
    tail = rest if len(rest) > half // 2 else tail
    return f"{head} … {tail}"


def print_json(value: dict[str, Any]) -> None:
    """Print the result as one JSON object to stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


@final
class Report:
    """Progress messages of a long job on stderr ("encoding images 64/960"), with the time left if they count.

    On a terminal each message replaces the one before. Elsewhere a line is printed when a kind of message
    begins, when it ends, and every `interval` seconds in between. Inside `with`, the last message is repeated
    with the time elapsed while a job reports nothing for `interval` seconds. An empty message ends the job.

    Args:
        interval: seconds between lines.
    """

    def __init__(self, *, interval: float = 5.0) -> None:
        self._interval = interval
        self._is_terminal = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._message = self._kind = ""
        self._began = self._said = 0.0
        self._is_open = False
        self._is_line_whole = True
        self._ended = threading.Event()
        self._watch: threading.Thread | None = None

    def __call__(self, message: str) -> None:
        kind, _, count = message.rpartition(" ")
        done, is_counted, total = count.partition("/")
        with self._lock:
            is_new, now = kind != self._kind, time.monotonic()
            if is_new:
                self._began = now
            self._message, self._kind = message, kind
            is_last = bool(is_counted) and done == total
            if message and (is_new or is_last or self._is_terminal or now - self._said >= self._interval):
                self._say(message if is_last else message + self._time_left(done, total), is_last=is_last)
        if message and not is_last:
            self._start()
        else:
            self._stop()

    def expect(self, message: str) -> None:
        """Announce a job that is usually quick: the message is printed if it takes `interval` seconds."""
        with self._lock:
            self._message = self._kind = message
            self._began = time.monotonic()
            self._said = self._began + self._interval - self._pause
        self._start()

    @property
    def _pause(self) -> float:
        return min(1.0, self._interval) if self._is_terminal else self._interval

    def end_line(self) -> None:
        """End the current line on a terminal, so that later output starts on a new one."""
        with self._lock:
            if self._is_terminal and not self._is_line_whole:
                print(file=sys.stderr, flush=True)
                self._is_line_whole = True

    def note(self, message: str) -> None:
        """Print a line that later messages do not replace."""
        with self._lock:
            self._said = time.monotonic()
            if self._is_terminal and not self._is_line_whole:
                print("\r\033[K", end="", file=sys.stderr)
                self._is_line_whole = True
            say(message)

    def __enter__(self) -> "Report":
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._is_open = False

    def _time_left(self, done: str, total: str) -> str:
        """Format the time left of a message that counts; empty until it can be estimated."""
        seconds = time.monotonic() - self._began
        if not (done.isdecimal() and total.isdecimal() and int(done) and seconds > 1):
            return ""
        return f", {format_clock(seconds * (int(total) - int(done)) / int(done))} left"

    def _say(self, line: str, *, is_last: bool = False) -> None:
        self._said = time.monotonic()
        if self._is_terminal:
            end = "\n" if is_last else ""
            print(f"\r\033[Ktrimask: {line}", end=end, file=sys.stderr, flush=True)
            self._is_line_whole = is_last
        else:
            say(line)

    def _start(self) -> None:
        # The thread runs only during a job: the data loader forks, and threads do not survive a fork.
        if self._is_open and self._watch is None:
            self._ended.clear()
            self._watch = threading.Thread(target=self._keep_reporting, daemon=True)
            self._watch.start()

    def _stop(self) -> None:
        if self._watch is not None:
            self._ended.set()
            self._watch.join()
            self._watch = None
        self.end_line()

    def _keep_reporting(self) -> None:
        pause = self._pause
        while not self._ended.wait(pause):
            with self._lock:
                if time.monotonic() - self._said >= 0.9 * pause:
                    done, _, total = self._message.removeprefix(f"{self._kind} ").partition("/")
                    left = "" if self._message == self._kind else self._time_left(done, total)
                    self._say(f"{self._message}, {format_clock(time.monotonic() - self._began)} so far{left}")
