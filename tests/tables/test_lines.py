"""Ranges of bytes share the lines out: none twice, none lost, none that is too long."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimask.tables.lines import bounded_lines


@given(
    st.binary(max_size=80).map(lambda data: data.replace(b"\r", b"\n").replace(b"\0", b"\n")),
    st.lists(st.integers(0, 80), max_size=4),
)
def test_ranges_that_meet_share_the_lines_out(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]
):
    path = tmp_path_factory.mktemp("lines") / "file"
    path.write_bytes(data)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [
        line for start, stop in itertools.pairwise(bounds) for line in bounded_lines(path, start, stop, 99)
    ]
    assert b"".join(line for _, line in found if line is not None) == data
    assert [offset for offset, _ in found] == sorted({offset for offset, _ in found})
    for offset, line in found:
        assert line is not None and data[offset : offset + len(line)] == line


def test_a_long_line_is_skipped_and_not_held(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"short\n" + b"x" * 1000 + b"\nlast")
    assert list(bounded_lines(path, 0, path.stat().st_size, 10)) == [
        (0, b"short\n"),
        (6, None),
        (1007, b"last"),
    ]


def test_a_file_that_has_become_shorter_ends(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo")
    assert list(bounded_lines(path, 0, 1000, 10)) == [(0, b"one\n"), (4, b"two")]
    assert list(bounded_lines(path, 500, 1000, 10)) == []
