"""Errors that end a command: wrong arguments (exit status 2), or a failure of the machine or a file (1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from trimask import faults
from trimask.errors import UserError
from trimask.locks import InUse

_EXPLAINED = (OSError, MemoryError, ImportError, ArithmeticError, RecursionError, SystemExit)
"""Errors that the command line explains wherever trimask raises them."""


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


@contextmanager
def convert_user_code_errors() -> Iterator[None]:
    """Convert an unexpected error that passed through the user's code to `Failed`, with its place.

    If the user's code called trimask, and that raised the error, either may be wrong: the error gets a note
    with the place, and stays as it is.
    """
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError, MemoryError, Failed, InUse, UserError):
        raise
    except BaseException as error:
        place = faults.find_place(error)
        if place is None or (place.is_in_trimask and isinstance(error, _EXPLAINED)):
            raise
        what = faults.explain_failure(error, place)
        if place.is_in_trimask:
            error.add_note(f"trimask: error: {what}, or report this traceback if trimask is wrong")
            raise
        raise Failed(f"{what} (TRIMASK_TRACEBACK=1 prints the traceback)") from error
