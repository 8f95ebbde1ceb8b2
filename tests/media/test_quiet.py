"""Pillow is quiet in any number of threads, and the filters of the process are what they were afterwards."""

import threading
import warnings
from collections.abc import Iterator

import PIL.Image
import pytest

from trimask.media.quiet import quiet_pillow

IN_PILLOW = {"__name__": "PIL.PngImagePlugin", "warnings": warnings}


class Decoding:
    """A thread within `quiet_pillow` until it is told to leave."""

    def __init__(self) -> None:
        self._is_in, self._may_leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._is_in.wait(10)

    def _run(self) -> None:
        with quiet_pillow():
            self._is_in.set()
            assert self._may_leave.wait(10)

    def leave(self) -> None:
        self._may_leave.set()
        self._thread.join(10)


@pytest.fixture
def own_filters() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("own_filters")
@pytest.mark.parametrize("first", [0, 1])
def test_threads_that_decode_at_once_leave_the_filters_as_they_were(first: int) -> None:
    before, shower = list(warnings.filters), warnings.showwarning
    threads = [Decoding(), Decoding()]
    threads.pop(first).leave()  # in the order of their arrival, or the other way round
    exec("warnings.warn('corrupt EXIF data')", IN_PILLOW)  # the other is still within
    with pytest.raises(PIL.Image.DecompressionBombWarning):
        exec("warnings.warn('a bomb', kind)", IN_PILLOW | {"kind": PIL.Image.DecompressionBombWarning})
    with pytest.raises(UserWarning, match="of ours"):
        warnings.warn("of ours", stacklevel=1)
    threads.pop().leave()
    assert list(warnings.filters) == before and warnings.showwarning is shower
    with pytest.raises(UserWarning, match="corrupt"):
        exec("warnings.warn('corrupt EXIF data')", IN_PILLOW)
