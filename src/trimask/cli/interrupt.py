"""Ctrl-C: end the process quickly and print one line, whenever it is pressed."""

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
    """Install a SIGINT handler that raises `KeyboardInterrupt`, or ends the process during an import.

    An interrupt in the middle of an import can raise any error from the half-imported library, and no work
    is in progress then.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # SIGINT is ignored, as in a background job of a script: leave it so
    main_process = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith(_IMPORTING):
                if os.getpid() == main_process:
                    os.write(2, _LINE)
                os._exit(INTERRUPTED)
            frame = frame.f_back
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)


def exit_process(status: int) -> NoReturn:
    """End this process with `status`, once its work is done and reported, without a normal shutdown.

    The interpreter would unload the libraries for up to two seconds, in which Ctrl-C prints a traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
