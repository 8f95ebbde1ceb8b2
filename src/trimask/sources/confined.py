"""Read untrusted files in a separate process with limited memory.

Libraries that read columnar files allocate as much as a file's header says: a file of two kilobytes can
request gigabytes, and a damaged one can crash the process. The separate process contains both.
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
"""Data limit of the process in bytes."""
_DONE, _VALUE, _ERROR = "done", "value", "error"
_PROGRAM = "import sys; from trimask.sources.confined import serve; serve(int(sys.argv[1]))"


def run_confined(function: Callable[..., Iterable[Result]], *arguments: Any) -> Iterator[Result]:
    """Yield the results of `function(*arguments)`, computed in the separate process one at a time.

    The function, its arguments and its results must be picklable.

    Raises:
        SourceUnavailable: the function raised it.
        UserError: the function raised another exception, with its message, or the process ended.
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
        raise UserError("the process that read the file crashed: the file is damaged or malicious") from error
    finally:
        if is_free:
            _idle.append(process)
        else:  # the caller stopped early
            process.end()


def serve(handle: int) -> None:
    """Run in the separate process: serve requests until the connection is closed."""
    with contextlib.suppress(EOFError, ConnectionError), Connection(handle) as connection:
        while True:
            function, arguments = connection.recv()
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.RLIM_INFINITY))
            try:
                for value in function(*arguments):
                    connection.send((_VALUE, value))
                    connection.recv()
            except MemoryError:
                message = f"it needs more than {MEMORY >> 30} GB of memory: write it with smaller row groups"
                connection.send((_ERROR, UserError(message)))
            except SourceUnavailable as error:
                connection.send((_ERROR, error))
            except (EOFError, ConnectionError):
                return
            except Exception as error:  # each format's library raises its own types
                connection.send((_ERROR, UserError(str(error) or type(error).__name__)))
            else:
                connection.send((_DONE, None))


@final
class _Process:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(entry for entry in sys.path if entry)  # without the current folder
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
"""Idle processes, kept since starting one takes longer than reading a small file."""


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()
