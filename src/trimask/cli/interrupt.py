"""Ctrl-C in a process of our own: one line at any moment, and soon."""

import atexit
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
_IMPORTING = "<frozen importlib"
_LINE = b"trimask: interrupted\n"


def handle_interrupts() -> None:
    """From here on SIGINT raises `KeyboardInterrupt`; while something is imported it ends the process: what a
    library has half imported fails in ways of its own, and no work of ours is under way.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # ignored, as in a job in the background of a script: it stays so
    ours = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith(_IMPORTING):
                if os.getpid() == ours:
                    os.write(2, _LINE)
                os._exit(INTERRUPTED)
            frame = frame.f_back
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)


def exit_process(status: int) -> NoReturn:
    """End this process, whose work is done and told: to take the libraries down one by one costs up to two
    seconds, in which Ctrl-C would have an effect of the interpreter's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
