"""What `trimask sample` prints, and how its files are named."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trimask.cli.console import say

NO_FILES = ("is_complete", "text", "sample_rate", "task")
"""Entries of a sample's JSON that are not paths of files."""

# A model may generate control characters, which would move the terminal's cursor: print their symbols
# instead. Files keep them.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}
_PICTURES |= {0x7F: "\u2421"} | dict.fromkeys(range(0x80, 0xA0), "\ufffd")


def print_sample(sample: Mapping[str, Any]) -> None:
    if "text" in sample:
        print(sample["text"].translate(_PICTURES))
    for kind in sample:
        if kind not in (*NO_FILES, "settings"):
            say(f"wrote {sample[kind]}")


@contextmanager
def print_warnings_once() -> Iterator[None]:
    """Print each warning within this block as one line, and only once."""
    printed: set[str] = set()

    def print_once(message: Warning | str, *rest: Any, **more: Any) -> None:
        if str(message) not in printed:
            printed.add(str(message))
            say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = print_once
        yield


def name_stem(task: str, prompt: str | None, seed: int) -> str:
    """Return the stem of the names of sample files: task, first words of the prompt, seed."""
    letters = "".join(c if c.isalnum() else " " for c in (prompt or "").lower())
    words = "-".join(letters.split())[:40].rstrip("-")
    return "_".join(filter(None, [task, words, f"seed{seed}"]))
