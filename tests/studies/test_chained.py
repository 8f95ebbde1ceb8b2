"""Derived values, and a study that uses another one: in Python, and on the command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trimask.cli.entry import main
from trimask.errors import UserError
from trimask.parallel import Local
from trimask.studies.description import STUDY
from trimask.studies.run import run_study
from trimask.studies.store import DERIVED, RESULTS, DerivedValues, Results

from . import chained

FILE = Path(chained.__file__)
NAMES = ["x=0.0", "x=2.0", "x=4.0", "x=3.0,stage=check"]


def request(name: str) -> dict[str, Any]:
    return {"study": f"{FILE}:{name}", "short": False, "data": [], "overrides": {}}


def run(out: Path, study: chained.Parabola = chained.Parabola(), workers: int = 1) -> list[str]:  # noqa: B008
    found = run_study(study, out, request=request("parabola"), engine=Local(workers=workers))
    return [result.name for result in found]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(FILE, tmp_path / "chained.py")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_values_are_stored_before_the_trials_that_need_them(tmp_path: Path) -> None:
    assert run(tmp_path) == NAMES
    values = DerivedValues(tmp_path)
    assert values.values == {"best": 3.0, "forecast": [0.0]}
    assert values.sources("best") == values.sources("forecast") == tuple(NAMES[2::-1])  # longest first
    assert all(len(record["results"]) == 3 for record in lines(tmp_path / DERIVED))
    by_then = {name: result.figure("num_stored") for name, result in Results(tmp_path).by_name.items()}
    assert by_then == dict.fromkeys(NAMES, 0) | {NAMES[-1]: 2}


def test_two_trials_of_one_name_are_refused_before_one_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"two trials are x=2\.0: give each its own factors"):
        run(tmp_path, chained.Parabola(grid=(0.0, 2.0, 2.0)))
    assert not (tmp_path / RESULTS).exists()


def test_a_stopped_study_derives_and_goes_on(tmp_path: Path) -> None:
    run(tmp_path)
    first = (tmp_path / DERIVED).read_text()
    kept = (tmp_path / RESULTS).read_text().splitlines(keepends=True)
    (tmp_path / RESULTS).write_text("".join(kept[:3]))
    assert run(tmp_path) == NAMES and (tmp_path / DERIVED).read_text() == first
    (tmp_path / RESULTS).write_text("".join(kept[:3]))  # stopped before anything was derived
    (tmp_path / DERIVED).write_text(first.splitlines()[0][:20])
    assert run(tmp_path) == NAMES
    assert [record["value"] for record in lines(tmp_path / DERIVED)] == [3.0, [0.0]]


def test_a_stored_value_never_changes(tmp_path: Path) -> None:
    """Not even if the study would derive another one by now."""
    run(tmp_path)
    before = (tmp_path / DERIVED).read_bytes()
    (tmp_path / RESULTS).write_text("".join((tmp_path / RESULTS).read_text().splitlines(keepends=True)[:3]))
    assert run(tmp_path, replace(chained.Parabola(), grid=(1.0, 2.0, 4.0))) == ["x=1.0", *NAMES[1:]]
    assert (tmp_path / DERIVED).read_bytes() == before


@pytest.mark.parametrize("is_gone", [True, False])
def test_results_that_have_changed_are_named(tmp_path: Path, is_gone: bool) -> None:
    run(tmp_path)
    rows = Results(tmp_path).by_name
    (tmp_path / RESULTS).unlink()
    store = Results(tmp_path)
    for name, result in rows.items():
        if name != "x=2.0":
            store.add(replace(result, seconds=99.0))  # the time of a trial changes nothing
        elif not is_gone:
            store.add(replace(result, figures={"loss": 2.0}))
    state = "is gone" if is_gone else "has changed"
    with pytest.raises(ValueError, match=f"best came from the result of x=2.0, which {state}: put the"):
        run(tmp_path)


def test_a_damaged_value_is_told(tmp_path: Path) -> None:
    run(tmp_path)
    text = (tmp_path / DERIVED).read_text()
    (tmp_path / DERIVED).write_text(text.replace("3.0", "3.5"))
    with pytest.raises(ValueError, match=r"derived.jsonl, line 1: .* has changed since it was written"):
        run(tmp_path)
    (tmp_path / DERIVED).write_text("[]\n")
    with pytest.raises(ValueError, match="line 1: not a derived value"):
        run(tmp_path)


def test_a_value_that_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the derived value best is not JSON"):
        DerivedValues(tmp_path).add("best", float("nan"), {})
    with pytest.raises(ValueError, match="the derived value best is not JSON"):
        DerivedValues(tmp_path).add("best", {1, 2}, {})
    assert not (tmp_path / DERIVED).exists()


def test_any_number_of_workers_derives_the_same(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for workers in ("1", "2"):
        command = ["study", "run", "chained.py:parabola", "--out", f"out{workers}", "--workers", workers]
        assert main(command) == 0
        assert "holds: as forecast" in capsys.readouterr().out
    values = [[record["value"] for record in lines(desk / out / DERIVED)] for out in ("out1", "out2")]
    assert values[0] == values[1]
    report = (desk / "out2" / "report.md").read_text()
    assert "| best | 3.0 | 20" in report and "| forecast | [0.0] | 20" in report


def test_a_study_that_uses_another(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["study", "run", "chained.py:around", "--out", "out", "--workers=1"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "chained.py:around needs the results of the study chained.py:parabola" in told
    assert "`trimask study run chained.py:parabola --out grid`" in told and "--uses grid=grid" in told
    assert not (desk / "out").exists()
    assert main(["study", "run", "chained.py:parabola", "--out", "grid", "--workers=1"]) == 0
    assert main(["study", "plan", "chained.py:around", "--uses", "grid=grid"]) == 0
    assert "2 trials, 0 done" in capsys.readouterr().out
    assert main([*command, "--uses", "grid=grid"]) == 0
    assert "x=2.5: 0.25, x=3.5: 0.25" in capsys.readouterr().out
    used = json.loads((desk / "out" / STUDY).read_text())["uses"]["grid"]
    assert used["study"] == "chained.py:parabola" and used["hash"].startswith("sha256:")
    report = (desk / "out" / "report.md").read_text()
    assert "--uses grid=grid" in report and "- uses grid: chained.py:parabola, 4 results" in report
    # Its copy is enough from now on, whatever becomes of the folder.
    shutil.move(desk / "grid", desk / "moved")
    assert main(command) == 0 and main(["study", "report", "out"]) == 0
    assert "--uses grid=grid" in (desk / "out" / "report.md").read_text()
    assert main([*command, "--uses", "grid=moved"]) == 0
    capsys.readouterr()
    store = Results(desk / "moved")
    store.add(replace(next(iter(store.by_name.values())), factors={"x": 9.0}))
    for words, message in (
        (["grid=moved"], "its results are not those that out was begun with"),
        (
            ["grid=out"],
            "it holds the study chained.py:around, and chained.py:around needs chained.py:parabola",
        ),
        (["grid=lost"], "lost holds no study"),
        (["other=moved"], "needs no study under this name; it needs grid"),
    ):
        assert main([*command, "--uses", *words]) == 2
        assert message in capsys.readouterr().err
    for words, message in ((["grid"], "give NAME=DIR"), (["grid=a", "--uses", "grid=b"], "is given twice")):
        assert main([*command, "--uses", *words]) == 2
        assert message in capsys.readouterr().err
    assert main(["study", "run", "chained.py:parabola", "--out", "new", "--uses", "grid=moved"]) == 2
    assert "it needs none: leave --uses out" in capsys.readouterr().err


def test_a_damaged_copy_of_another_study_is_told(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["study", "run", "chained.py:around", "--out", "out", "--workers=1"]
    assert main(["study", "run", "chained.py:parabola", "--out", "grid", "--workers=1"]) == 0
    assert main([*command, "--uses", "grid=grid"]) == 0
    path = desk / "out" / "used" / "grid" / DERIVED
    path.write_text(path.read_text().replace("3.0", "3.5"))
    assert main(command) == 2
    assert "has changed since it was written" in capsys.readouterr().err


def test_a_start_that_is_stopped_while_it_copies_goes_on(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["study", "run", "chained.py:around", "--out", "out", "--workers=1", "--uses", "grid=grid"]
    assert main(["study", "run", "chained.py:parabola", "--out", "grid", "--workers=1"]) == 0

    def stop(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:40])
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(shutil, "copyfile", stop)
        assert main(command) == 130
    assert main(command) == 0
    assert (desk / "out" / "used" / "grid" / STUDY).read_bytes() == (desk / "grid" / STUDY).read_bytes()
