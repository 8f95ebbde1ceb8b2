"""Whose code may run: what a hub sends is read without running code that came with it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from trimask.errors import UserError

_suspect: ContextVar[str | None] = ContextVar("suspect", default=None)


@contextmanager
def distrust(origin: str) -> Iterator[None]:
    """Refuse, in this block, to import user code that this process has not imported yet.

    Args:
        origin: what is being read, for the message.
    """
    token = _suspect.set(origin)
    try:
        yield
    finally:
        _suspect.reset(token)


def check_import(name: str) -> None:
    """Raise UserError within `distrust` if `name`, a file or a package, has not been imported yet."""
    origin = _suspect.get()
    if origin is not None and name not in sys.modules:
        raise UserError(
            f"{origin} needs user code, {name}, which is not run unasked: read it, then import it before "
            "loading, or load with trust_code=True"
        )
