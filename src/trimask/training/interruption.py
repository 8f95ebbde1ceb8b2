"""A polite stop: SIGINT and SIGTERM are noted, and the loop ends at the next whole step."""

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
    """Whether a signal has arrived since `noted_signals` was entered."""

    has_arrived: bool = False


@contextmanager
def noted_signals() -> Iterator[Interruption]:
    """Notes the first SIGINT or SIGTERM; a second has its usual effect. Main thread only.

    Under torchrun another SIGTERM has none: it passes on what a scheduler may have sent to all already.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    # What is ignored (a job in the background of a script) stays ignored.
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
            # Not through Python's own streams: the signal may have come in the middle of their writing.
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
