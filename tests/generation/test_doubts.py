"""Doubts are heard by the thread that asked, whatever others do with the warnings of the process."""

import threading
import warnings

import pytest

from trimask.generation.doubts import doubt, hear_doubts
from trimask.generation.prompts import UnseenPromptWarning


def test_outside_of_a_block_a_doubt_is_a_warning() -> None:
    with pytest.warns(UnseenPromptWarning, match="odd"):
        doubt("odd", UnseenPromptWarning)


def test_the_innermost_block_hears() -> None:
    with hear_doubts() as outer:
        doubt("one", UserWarning)
        with hear_doubts() as inner:
            doubt("two", UserWarning)
        doubt("three", UserWarning)
    assert (outer, inner) == (["one", "three"], ["two"])


def test_another_thread_hears_its_own() -> None:
    told: list[list[str]] = []

    def ask(name: str) -> None:
        with hear_doubts() as heard:
            meet.wait()
            doubt(name, UserWarning)
            meet.wait()
        told.append(heard)

    meet = threading.Barrier(2, timeout=10)
    threads = [threading.Thread(target=ask, args=(name,)) for name in "ab"]
    with warnings.catch_warnings():  # as some library may at the same time
        warnings.simplefilter("ignore")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(told) == [["a"], ["b"]]
