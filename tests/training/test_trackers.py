"""Other people's trackers get each row under its step; whatever they do, the run goes on."""

import contextlib
import io
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, final

import pytest

from trimask import UserError
from trimask.io import read_json, write_json
from trimask.training import trackers
from trimask.training.trackers import (
    IDS,
    TRACKERS,
    OutsideTracker,
    TrackedRun,
    find_tracker,
    open_trackers,
)

ROWS = [
    {"step": 5, "seconds": 1.5, "loss": 2.0, "grad_norm": None},
    {"step": 10, "seconds": 3.0, "loss": 1.0, "evaluation/text_bits_per_token": 0.5},
]
CONFIG = {"recipe": "debug", "run": {"seed": 0}}
FILE = """
from trimask.training.trackers import OutsideTracker


class Mine(OutsideTracker):
    def open(self, run):
        self.path = run.folder / "mine.txt"
        self.path.open("a").close()
        return "mine"

    def write(self, step, values):
        with self.path.open("a") as file:
            print(step, values["loss"], file=file)

    def close(self, *, has_failed):
        print("this is for people, and not the result")
        with self.path.open("a") as file:
            print("failed" if has_failed else "ended", file=file)


class Other:
    pass


class Half(OutsideTracker):
    def open(self, run): ...


class Asks(Mine):
    def open(self, run):
        return input("key: ")


class Broken(Mine):
    def __init__(self):
        raise RuntimeError("no screen")
"""


def track(names: list[str], run: Path, rows: list[dict[str, Any]] = ROWS) -> None:
    run.mkdir(exist_ok=True)
    with open_trackers(names, run, CONFIG) as write:
        for row in rows:
            write(row["step"], row)


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(FILE)
    return f"{tmp_path}/mine.py:Mine"


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_a_tracker_of_ones_own(mine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    track([mine, mine], run)  # named twice, it is still one
    assert (run / "mine.txt").read_text() == "5 2.0\n10 1.0\nended\n"
    assert read_json(run / IDS) == {"mine.py:Mine": "mine"}
    told = capsys.readouterr()
    assert not told.out and "this is for people" in told.err
    with pytest.raises(ZeroDivisionError), open_trackers([mine], run, CONFIG) as write:
        write(15, {"step": 15, "loss": 0.5})
        raise ZeroDivisionError
    assert (run / "mine.txt").read_text().endswith("15 0.5\nfailed\n")


def test_a_run_without_rows_opens_nothing(mine: str, tmp_path: Path) -> None:
    track([mine], tmp_path / "run", [])
    assert not any((tmp_path / "run").iterdir())


def test_none_asks_at_the_terminal(
    mine: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO("typed for something else\n")
    monkeypatch.setattr(sys, "stdin", terminal)
    track([mine.replace("Mine", "Asks")], tmp_path / "run")
    assert "could not begin (EOFError" in caplog.text
    assert sys.stdin is terminal and terminal.read() == "typed for something else\n"


def test_names(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError, match=r"unknown tracker 'wandbb': give tensorboard, wandb, trackio, mlflow"
    ):
        find_tracker("wandbb")
    with pytest.raises(UserError, match=r"Other is not a tracker: give a subclass of trimask"):
        find_tracker(mine.replace("Mine", "Other"))
    with pytest.raises(UserError, match=r"mine.py:Half failed .* abstract class Half .* write"):
        find_tracker(mine.replace("Mine", "Half"))
    with pytest.raises(UserError, match=r"mine.py:Broken failed .* RuntimeError: no screen"):
        find_tracker(mine.replace("Mine", "Broken"))
    for name, tracker in TRACKERS.items():
        assert tracker.library is not None
        monkeypatch.setitem(sys.modules, tracker.library, None)
        with pytest.raises(ImportError, match=f"tracker {name} needs {tracker.library} .*: pip install"):
            find_tracker(name)


@final
class Broken(OutsideTracker):
    """Fails where it is told to."""

    at = ""
    calls: tuple[str, ...] = ()

    def _call(self, what: str) -> None:
        type(self).calls += (what,)
        if what == self.at:
            raise SystemExit("it gives up") if what == "write" else OSError("no connection")

    def open(self, run: TrackedRun) -> None:
        self._call("open")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._call("write")

    def close(self, *, has_failed: bool) -> None:
        self._call("close")


@pytest.mark.parametrize(
    ("at", "said", "calls"),
    [
        ("open", "could not begin (OSError: no connection)", ("open",)),
        ("write", "could not write a row (SystemExit: it gives up)", ("open", "write", "write", "close")),
        ("close", "could not end (OSError: no connection)", ("open", "write", "write", "close")),
    ],
)
def test_what_fails_is_told_once(
    at: str,
    said: str,
    calls: tuple[str, ...],
    mine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Broken, "at", at)
    monkeypatch.setattr(Broken, "calls", ())
    monkeypatch.setattr(trackers, "TRACKERS", {"broken": Broken})
    track(["broken", mine], tmp_path / "run")
    assert Broken.calls == calls
    (record,) = caplog.records
    assert f"tracker broken {said}: the run goes on" in record.getMessage()
    assert (tmp_path / "run" / "mine.txt").read_text() == "5 2.0\n10 1.0\nended\n"


def test_one_that_hangs_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    freed = threading.Event()

    @final
    class Hanging(OutsideTracker):
        def open(self, run: TrackedRun) -> None:
            freed.wait(60)

        def write(self, step: int, values: Mapping[str, float]) -> None:
            pass

        def close(self, *, has_failed: bool) -> None:
            pass

    monkeypatch.setattr(trackers, "TRACKERS", {"hanging": Hanging})
    monkeypatch.setattr(trackers, "_PATIENCE", 0.1)
    track(["hanging"], tmp_path / "run")
    freed.set()
    assert "tracker hanging has not ended after 0 s; its last rows may be missing" in caplog.text


def test_a_damaged_list_of_ids_is_told(mine: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run").mkdir()
    write_json(tmp_path / "run" / IDS, ["x"])
    track([mine], tmp_path / "run")
    assert "does not list the ids of trackers: remove it" in caplog.text


def test_tensorboard(tmp_path: Path) -> None:
    """Its own reader finds each row once, those that a resumed run repeats with their later values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    track(["tensorboard"], run)
    track(["tensorboard"], run, [{"step": 8, "loss": 1.5}])
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    assert [(each.step, each.value) for each in found.Scalars("loss")] == [(5, 2.0), (8, 1.5)]
    assert [each.value for each in found.Scalars("seconds")] == [1.5]
    assert not found.Scalars("evaluation/text_bits_per_token")  # of step 10, which will come again
    assert not (run / IDS).exists()


@pytest.mark.slow
def test_the_real_libraries_keep_a_resumed_run_as_one(tmp_path: Path) -> None:
    """In a process of their own: they start threads and services, and read the environment when imported."""
    run = tmp_path / "run"
    environment = {**os.environ, "WANDB_MODE": "offline", "TRACKIO_DIR": str(tmp_path / "trackio")}
    environment |= {"HF_HUB_OFFLINE": "1", "WANDB_SILENT": "true"}
    mlflow_database = tmp_path / "mlflow.db"
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{mlflow_database}"}
    words = [word for name in TRACKERS for word in ("--tracker", name)]
    for command in (
        ["debug", "--out", str(run), "--num-steps", "10", *words],
        ["--out", str(run), "--resume", "--num-steps", "20", *words],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "trimask", "train", *command],
            cwd=tmp_path,  # MLflow keeps artifacts in the working directory
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "metrics.jsonl has all" not in done.stderr  # what is said of a tracker that fails
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss"] for row in rows if row.get("loss") is not None}
    ids = read_json(run / IDS)
    (database,) = (tmp_path / "trackio").glob("*.db")
    with contextlib.closing(sqlite3.connect(database)) as opened:
        found = opened.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    shown = {step: json.loads(metrics) for name, step, metrics in found if name == ids["trackio"]}
    assert {step: row["loss"] for step, row in shown.items() if "loss" in row} == losses
    with contextlib.closing(sqlite3.connect(mlflow_database)) as opened:
        found = opened.execute("SELECT run_uuid, step, value FROM metrics WHERE key = 'loss'").fetchall()
    assert {step: value for _, step, value in found} == losses
    assert {id for id, *_ in found} == {ids["mlflow"]}
    assert len(list((run / "wandb").glob(f"offline-run-*-{ids['wandb']}/run-{ids['wandb']}.wandb"))) == 2


class FakeRun:
    """A run of wandb or trackio."""

    def __init__(self, begun: dict[str, Any]) -> None:
        self.begun = begun
        self.rows: list[Any] = []
        self.exit_code: int | None = None

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))

    def finish(self, exit_code: int = 0) -> None:
        self.exit_code = exit_code


@pytest.mark.parametrize(("name", "key"), [("wandb", "id"), ("trackio", "name")])
def test_a_resumed_run_keeps_its_id(
    name: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[FakeRun] = []

    def init(**options: Any) -> FakeRun:
        runs.append(FakeRun(options))
        return runs[-1]

    fake(monkeypatch, name, init=init)
    monkeypatch.delenv(f"{name.upper()}_PROJECT", raising=False)
    track([name], tmp_path / "run")
    monkeypatch.setenv(f"{name.upper()}_PROJECT", "mine")
    track([name], tmp_path / "run", [{"step": 10, "loss": 1.0}])
    track([name], tmp_path / "other")
    first, resumed, other = runs
    assert first.begun[key] == resumed.begun[key] == read_json(tmp_path / "run" / IDS)[name]
    assert other.begun[key] != first.begun[key]
    assert (first.begun["project"], resumed.begun["project"]) == ("trimask", "mine")
    assert first.begun["resume"] == "allow" and first.begun["config"] == CONFIG
    loss = {"seconds": 1.5, "loss": 2.0}
    assert first.rows[0] == (5, loss) and resumed.rows == [(10, {"loss": 1.0})]
    assert [run.exit_code for run in runs] == [0, 0, 0]


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Client:
        def get_experiment_by_name(self, name: str) -> Any:
            found = [each for each in calls if each == ("experiment", name)]
            return SimpleNamespace(experiment_id="7") if found else None

        def create_experiment(self, name: str) -> str:
            calls.append(("experiment", name))
            return "7"

        def create_run(self, experiment: str, run_name: str) -> Any:
            calls.append(("run", experiment, run_name))
            return SimpleNamespace(info=SimpleNamespace(run_id=f"r{len(calls)}"))

        def update_run(self, id: str, status: str) -> None:
            calls.append((id, status))

        def log_dict(self, id: str, value: Any, file: str) -> None:
            calls.append((id, value, file))

        def log_batch(self, id: str, metrics: list[Any]) -> None:
            calls.append((id, [(name, value, step) for name, value, _, step in metrics]))

        def set_terminated(self, id: str, status: str) -> None:
            calls.append((id, status))

    fake(monkeypatch, "mlflow", MlflowClient=Client)
    fake(monkeypatch, "mlflow.entities", Metric=lambda *parts: parts)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    track(["mlflow"], tmp_path / "run", ROWS[:1])
    track(["mlflow"], tmp_path / "run", [{"step": 10, "loss": 1.0}])
    assert calls == [
        ("experiment", "trimask"),
        ("run", "7", "run"),
        ("r2", CONFIG, "config.json"),
        ("r2", [("seconds", 1.5, 5), ("loss", 2.0, 5)]),
        ("r2", "FINISHED"),
        ("r2", "RUNNING"),
        ("r2", [("loss", 1.0, 10)]),
        ("r2", "FINISHED"),
    ]
