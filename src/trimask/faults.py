"""Find the user's code in the traceback of an error, to report its place instead of the traceback."""

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import final

from trimask import modules


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The innermost line of the user's code in a traceback.

    Attributes:
        is_in_trimask: whether that line called a function of trimask, which raised the error: either may be
            wrong.
    """

    file: Path
    line: int
    function: str
    is_in_trimask: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, in {self.function}"


def find_place(error: BaseException) -> Place | None:
    """Find the user's code in the traceback of `error`, or of the error that it was raised from; None if the
    error did not pass through the user's code."""
    place, is_in_trimask = None, False
    for frame, line in traceback.walk_tb(error.__traceback__):
        scope, code = frame.f_globals, frame.f_code
        is_written = not code.co_filename.startswith("<")  # else generated, by `dataclass` for example
        if is_written and modules.is_users(scope):
            place, is_in_trimask = (Path(code.co_filename), line, code.co_name), False
        elif str(scope.get("__name__")).partition(".")[0] == "trimask":
            is_in_trimask = True
    if place is None:
        return None if error.__cause__ is None else find_place(error.__cause__)
    file, line, function = place
    return Place(file=modules.shorten(file), line=line, function=function, is_in_trimask=is_in_trimask)


def explain_failure(error: BaseException, place: Place) -> str:
    """Describe an error in the user's code at `place`, and say what to do."""
    return f"{place}: {modules.describe_error(error)}: repair the code of {place.file}"
