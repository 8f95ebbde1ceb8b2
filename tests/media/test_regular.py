"""What is no file does not keep us waiting, and what grows is not read for ever."""

import os
import re
from pathlib import Path

import pytest

from trimask.media.regular import open_file, read_bounded
from trimask.media.rejection import Reason, Rejected


def test_pipes_devices_and_folders(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "gone"):
        with pytest.raises(OSError, match=re.escape(str(path))):
            open_file(path)


def test_as_many_bytes_as_allowed(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(Rejected) as rejected:
        read_bounded(tmp_path / "a", 4)
    assert (rejected.value.reason, rejected.value.detail) == (Reason.OVERSIZED, "5 bytes, the limit is 4")


def test_a_file_that_says_it_is_empty():
    """Those of /proc have no size, and content."""
    assert Path("/proc/self/status").stat().st_size == 0 and read_bounded(Path("/proc/self/status"), 100_000)
    with pytest.raises(Rejected, match="the limit is 10"):
        read_bounded(Path("/proc/self/status"), 10)
