"""Ctrl-C: end the process quickly and print one line, whenever it is pressed."""

import atexit
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
_IMPORTING = "<frozen importlib"
_CALLBACKS = "soundfile.py", "vio_"
"""File and beginning of the names of functions that a C library calls, and whose exceptions it swallows."""
_AGAIN = 0.01  # seconds until such a call is over
_LINE = b"trimask: interrupted\n"


def handle_interrupts() -> None:
    """Install a SIGINT handler that raises `KeyboardInterrupt`, or ends the process during an import.

    An interrupt in the middle of an import can raise any error from the half-imported library, and no work
    is in progress then. One in a function that C calls would be swallowed, and comes again after it.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # SIGINT is ignored, as in a background job of a script: leave it so
    main_process = os.getpid()
    is_coming = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith(_IMPORTING):
                if os.getpid() == main_process:
                    os.write(2, _LINE)
                os._exit(INTERRUPTED)
            if _is_callback(frame):
                if not is_coming.is_set():  # one is enough, however often C calls
                    is_coming.set()
                    threading.Timer(_AGAIN, _interrupt_main, [is_coming]).start()
                return
            frame = frame.f_back
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)


def _interrupt_main(is_coming: threading.Event) -> None:
    """Send the main thread the signal itself, which ends a wait of it; `_thread.interrupt_main` does not."""
    is_coming.clear()
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGINT)


def _is_callback(frame: FrameType) -> bool:
    file, name = _CALLBACKS
    return os.path.basename(frame.f_code.co_filename) == file and frame.f_code.co_name.startswith(name)


def exit_process(status: int) -> NoReturn:
    """End this process with `status`, once its work is done and reported, without a normal shutdown.

    The interpreter would unload the libraries for up to two seconds, in which Ctrl-C prints a traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
