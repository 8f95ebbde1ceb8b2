"""Graceful stop: after SIGINT or SIGTERM the loop ends at the next complete step."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import final

_HEARD = b"\ntrimask: stopping at the end of this step, to save it (Ctrl-C again: at once)\n"


@final
@dataclass(kw_only=True, slots=True)
class Interruption:
    """Whether a signal has arrived since `catch_signals` was entered."""

    has_arrived: bool = False


@contextmanager
def catch_signals() -> Iterator[Interruption]:
    """Catch the first SIGINT or SIGTERM; a second has its usual effect. Main thread only.

    Under torchrun further SIGTERMs are ignored: it forwards a signal that the scheduler may already have
        sent.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    # A signal that was ignored (a script's background job) stays ignored.
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    is_repeated = "TORCHELASTIC_RUN_ID" in os.environ

    def note(number: int, frame: FrameType | None) -> None:
        if not interruption.has_arrived and os.environ.get("RANK", "0") == "0":
            # Not through Python's streams: the signal may have interrupted their writing.
            os.write(2, _HEARD)
        if interruption.has_arrived and not (is_repeated and number == signal.SIGTERM):
            restore()
            os.kill(os.getpid(), number)
        interruption.has_arrived = True

    for number in before:
        signal.signal(number, note)
    try:
        yield interruption
    finally:
        restore()
