import json
import pathlib
from collections.abc import Callable

import pytest

from trimask.cli import main
from trimask.demo import demo
from trimask.runs import load


def test_what_the_demo_is_given_and_what_it_gives(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def run_demo(
        out: pathlib.Path, *, minutes: float, seed: int, program: str, report: Callable[[str], None]
    ) -> pathlib.Path:
        given.append((out, minutes, seed))
        assert program
        report("encoding images 1/1")
        print("generating")
        return out / "report.html"

    monkeypatch.setattr(demo, "run_demo", run_demo)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--minutes", "0.5", "--seed", "3", "--json"]) == 0
    printed = capsys.readouterr()
    assert given == [(pathlib.Path("demo"), 0.5, 3)]
    assert json.loads(printed.out)["report"] == "demo/report.html"
    assert "generating" in printed.err and str(tmp_path / "demo") in printed.err


def test_a_missing_model_is_one_line(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "QUICKSTART", tmp_path / "gone.safetensors")
    assert main(["demo", "--out", str(tmp_path / "demo"), "--minutes", "0"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the shipped model is missing" in error and not (tmp_path / "demo").exists()
