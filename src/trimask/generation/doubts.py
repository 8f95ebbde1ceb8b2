"""Doubts about a request or its result: Python warnings, or heard by the thread that asked.

`warnings.catch_warnings` changes the state of the whole process: of two threads that use it at the same time,
one loses its warnings, and the filters of one may stay for ever. So a server hears them here instead.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_HEARD: ContextVar[list[str] | None] = ContextVar("trimask_doubts", default=None)


def doubt(message: str, category: type[UserWarning], *, stacklevel: int = 1) -> None:
    """Warn as `warnings.warn` does; within `hear_doubts`, add the message to its list instead."""
    heard = _HEARD.get()
    if heard is None:
        warnings.warn(message, category, stacklevel=stacklevel + 1)
    else:
        heard.append(message)


@contextmanager
def hear_doubts() -> Iterator[list[str]]:
    """Collect the messages of this thread's doubts in the block."""
    heard: list[str] = []
    token = _HEARD.set(heard)
    try:
        yield heard
    finally:
        _HEARD.reset(token)
