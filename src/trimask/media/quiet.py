"""Suppress what libraries say beside the errors that they raise."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import PIL.Image

_LOCK = threading.Lock()
_FILTERS = threading.Lock()
_decoding = 0
_kept = warnings.catch_warnings()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Discard the process's standard error in the `with` block; the libraries also return their errors."""
    with _LOCK:
        try:
            kept = os.dup(2)
        except OSError:  # standard error is closed
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Discard Pillow's warnings in the `with` block, but for that of its size limit, which is raised.

    Python's filters are those of the process: the first of several threads sets them, the last restores them.
    """
    global _decoding, _kept
    with _FILTERS:
        if not _decoding:
            _kept = warnings.catch_warnings()
            _kept.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\b")
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        _decoding += 1
    try:
        yield
    finally:
        with _FILTERS:
            _decoding -= 1
            if not _decoding:
                _kept.__exit__(None, None, None)
