"""What a person who waits is told: lines of a long job, and how to call the program."""

import os
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

from trimask.cli.console import Report
from trimask.cli.program import program


def test_a_silent_job_is_told_to_be_still_at_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Report(interval=0.02) as report:
        report("fitting the codebooks")
        deadline = time.monotonic() + 20
        lines: list[str] = []
        while time.monotonic() < deadline and not any("so far" in line for line in lines):
            time.sleep(0.01)
            lines += capsys.readouterr().err.splitlines()
        report("")
        assert "trimask: fitting the codebooks" in lines
        assert any(line.startswith("trimask: fitting the codebooks, 0:0") for line in lines)
        assert not [thread for thread in threading.enumerate() if thread is report._watch]
        capsys.readouterr()
        time.sleep(0.1)
        assert capsys.readouterr().err == "", "what has ended is not told to go on"


def test_a_job_that_counts_keeps_its_time_left_while_it_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with Report(interval=0.02) as report:
        report("encoding images 1/4")
        report._began -= 30.0
        deadline, told = time.monotonic() + 20, ""
        while time.monotonic() < deadline and "left" not in told:
            time.sleep(0.01)
            told += capsys.readouterr().err
    assert "trimask: encoding images 1/4, 0:30 so far, 1:30 left\n" in told


def test_what_is_expected_to_be_quick_is_told_only_if_it_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with Report(interval=60.0) as report:
        report.expect("counting")
    assert capsys.readouterr().err == ""
    with Report(interval=0.02) as report:
        report.expect("counting")
        deadline, told = time.monotonic() + 20, ""
        while time.monotonic() < deadline and not told:
            time.sleep(0.01)
            told = capsys.readouterr().err
    assert told.startswith("trimask: counting, 0:0")


def test_no_thread_is_left_when_the_data_loader_forks() -> None:
    before = threading.active_count()
    with Report() as report:
        report("encoding images 1/2")
        assert threading.active_count() == before + 1
        report("encoding images 2/2")
        assert threading.active_count() == before
        with pytest.raises(RuntimeError), Report() as other:
            other("reading")
            raise RuntimeError
        assert threading.active_count() == before


def test_lines_that_count_have_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("trimask.cli.console.time.monotonic", lambda: now[0])
    report = Report()
    for done, now[0] in ((1, 100.0), (2, 102.0), (4, 108.0), (10, 120.0)):
        report(f"encoding images {done}/10")
    assert capsys.readouterr().err.splitlines() == [
        "trimask: encoding images 1/10",
        "trimask: encoding images 4/10, 0:12 left",
        "trimask: encoding images 10/10",
    ]


@pytest.mark.parametrize(
    ("called", "on_path", "expected"),
    [
        (".venv/bin/trimask", "", "./.venv/bin/trimask"),
        (".venv/bin/trimask", ".venv/bin", "trimask"),
        ("other folder/trimask", ".venv/bin", "'./other folder/trimask'"),
        ("tests/runner", "", "trimask"),
    ],
)
def test_commands_run_from_where_the_person_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, on_path: str, expected: str
) -> None:
    for name in (".venv/bin/trimask", "other folder/trimask"):
        script = tmp_path / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text("#!/bin/sh\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / on_path) if on_path else "/nowhere")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / called)])
    assert program() == expected


def test_a_module_is_called_by_its_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [os.path.join("trimask", "__main__.py")])
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == "./.venv/bin/python -m trimask"
