"""What stands in the place of a file is told, and never read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from trimask.reading import find_problem, name_path_in_errors, read_text, require_file

PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "does not exist"),
    "a folder": (Path.mkdir, "is a folder, not a file: name the file inside"),
    "a pipe": (os.mkfifo, "is a pipe or a device, not a file: give a file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device"),
    "a lost link": (lambda path: path.symlink_to("gone"), "is a broken link"),
    "a circle": (lambda path: path.symlink_to(path.name), "is a broken link"),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_file(name: str, tmp_path: Path) -> None:
    make, problem = PLACES[name]
    path = tmp_path / "x"
    make(path)
    assert (find_problem(path) or "").startswith(problem)
    for read in (require_file, read_text):
        with pytest.raises((ValueError, FileNotFoundError), match=f"x {problem}"):
            read(path)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_what_is_no_name(name: str) -> None:
    assert "is not a valid file name" in (find_problem(name) or "")


def test_a_name_beyond_the_system_s_limit() -> None:
    assert "cannot be read: File name too long" in (find_problem("x" * 5000) or "")


def test_what_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("é")
    (tmp_path / "link").symlink_to("x")
    assert find_problem(tmp_path / "x") is None and read_text(tmp_path / "link") == "é"
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="x is not UTF-8 text"):
        read_text(tmp_path / "x")
    assert read_text(tmp_path / "x", errors="replace") == "\ufffd"


def test_an_error_of_the_system_has_a_name() -> None:
    with pytest.raises(OSError, match="bad sector") as caught, name_path_in_errors("a/b"):
        raise OSError(5, "bad sector")
    assert (caught.value.errno, caught.value.filename) == (5, "a/b")
    with pytest.raises(OSError, match="No such device") as caught, name_path_in_errors("a/b"):
        raise OSError("No such device (os error 19)")  # as a library of another language tells it
    assert caught.value.filename == "a/b"
    with pytest.raises(FileNotFoundError) as caught, name_path_in_errors("a/b"):
        Path("gone/gone").read_text()
    assert caught.value.filename == "gone/gone"
