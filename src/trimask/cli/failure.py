"""Errors that end a command: wrong arguments (exit status 2), or a failure of the machine or a file (1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from trimask.errors import UserError


@final
class UsageError(UserError):
    """The arguments are wrong; the message says what is wrong and how to fix it."""


@final
class Failed(RuntimeError):
    """The work failed for a reason outside the arguments; the message says why and how to fix it."""


@contextmanager
def convert_file_errors() -> Iterator[None]:
    """Convert a `UserError` to `Failed`: in this block it means a bad file, not a wrong argument."""
    try:
        yield
    except UserError as error:
        raise Failed(str(error)) from error
