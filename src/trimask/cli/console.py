"""Results go to stdout, everything else to stderr."""

import json
import sys
from typing import Any


def say(line: str) -> None:
    """A line for the person who waits."""
    print(f"trimask: {line}", file=sys.stderr, flush=True)


def print_json(value: dict[str, Any]) -> None:
    """The result as one JSON object."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


class Report:
    """Takes the lines of a long job ("encoding images 64/960"): on a terminal they replace each other, in a
    file only the last of each kind is kept, with the first to say that it began.
    """

    def __init__(self) -> None:
        self._kind = ""

    def __call__(self, message: str) -> None:
        kind, _, count = message.rpartition(" ")
        done, _, total = count.partition("/")
        is_last = done == total
        if sys.stderr.isatty():
            print(f"\r\033[Ktrimask: {message}", end="\n" if is_last else "", file=sys.stderr, flush=True)
        elif is_last or kind != self._kind:
            say(message)
        self._kind = kind
