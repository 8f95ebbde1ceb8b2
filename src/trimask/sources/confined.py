"""Work on files that may be hostile, in a process of its own that gets so much memory and no more.

Libraries that read columns allocate what a file says, in their own code: a file of two kilobytes may ask for
gigabytes, a damaged one may end the process. There it ends, or is told no, without harm.
"""

import atexit
import contextlib
import os
import pickle
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar, final

from trimask.errors import UserError
from trimask.parallel import block_interrupts
from trimask.sources.item import SourceUnavailable

Result = TypeVar("Result")

MEMORY = 2 << 30
"""Bytes, beyond what the libraries take themselves."""
_DONE, _VALUE, _ERROR = "done", "value", "error"
_PROGRAM = "import sys; from trimask.sources.confined import serve; serve(int(sys.argv[1]))"


def confined(function: Callable[..., Iterable[Result]], *arguments: Any) -> Iterator[Result]:
    """What `function(*arguments)` gives, computed elsewhere, one by one; all of it must be picklable.

    Raises:
        SourceUnavailable: as it was raised there.
        UserError: whatever else went wrong there, with its message; also that the process ended.
    """
    process = _idle.pop() if _idle else _Process()
    is_free = False
    try:
        process.connection.send((function, arguments))
        while True:
            kind, value = process.connection.recv()
            if kind == _DONE:
                is_free = True
                return
            if kind == _ERROR:
                is_free = True
                raise value
            yield value
            process.connection.send(True)
    except (EOFError, ConnectionError, pickle.UnpicklingError) as error:
        raise UserError("the process that read it ended: the file is damaged, or made to do that") from error
    finally:
        if is_free:
            _idle.append(process)
        else:  # in the middle of its work
            process.end()


def serve(handle: int) -> None:
    """The other process: does what it is asked for, until nobody asks any more."""
    with contextlib.suppress(EOFError, ConnectionError), Connection(handle) as connection:
        while True:
            function, arguments = connection.recv()
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.RLIM_INFINITY))
            try:
                for value in function(*arguments):
                    connection.send((_VALUE, value))
                    connection.recv()
            except MemoryError:
                said = f"it needs more than {MEMORY >> 30} GB of memory: write it with smaller row groups"
                connection.send((_ERROR, UserError(said)))
            except SourceUnavailable as error:
                connection.send((_ERROR, error))
            except (EOFError, ConnectionError):
                return
            except Exception as error:  # whatever its format's library raises
                connection.send((_ERROR, UserError(str(error) or type(error).__name__)))
            else:
                connection.send((_DONE, None))


@final
class _Process:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(entry for entry in sys.path if entry)  # nothing of the current folder
        with theirs, block_interrupts():
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": path, "ARROW_DEFAULT_MEMORY_POOL": "system"},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )
        self.connection: Any = Connection(ours.detach())

    def end(self) -> None:
        self.connection.close()
        self._popen.kill()
        self._popen.wait()


_idle: list[_Process] = []
"""Processes that wait for work: to start one takes longer than to read a small file."""


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()
