"""How a command fails: what the user asked for (exit 2), or what the machine or a file did (exit 1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from trimask.errors import UserError


@final
class UsageError(UserError):
    """The arguments are wrong; the message says what and how to mend it."""


@final
class Failed(RuntimeError):
    """The work failed for a reason outside the arguments; the message says what and how to mend it."""


@contextmanager
def convert_file_errors() -> Iterator[None]:
    """Within this, a `UserError` is the fault of a file (damaged, not ours), not of the arguments."""
    try:
        yield
    except UserError as error:
        raise Failed(str(error)) from error
