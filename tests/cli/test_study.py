import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trimask.cli.entry import main
from trimask.studies.catalog import STUDIES

SMALL = [
    "--base.num-steps=2",
    "--base.logical-batch=8",
    "--base.model.width=32",
    "--base.model.num-heads=1",
    "--base.model.depth=1",
    "--base.data.num-concepts=8",
    "--base.data.num-sentences=8",
    "--batches=4,8",
    "--others=",
    "--noise-batches=2",
    "--noise-pairs=2",
]


def test_plan_tells_the_trials(capsys: pytest.CaptureFixture[str]):
    assert main(["study", "plan", "coordinate_check", "--short"]) == 0
    printed = capsys.readouterr().out
    assert "parametrization=standard,width=512,depth=3,seed=0" in printed
    assert "12 trials, 0 done" in printed
    assert main(["study", "plan", "horizon", "--json", "--seeds=0"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert len(planned["trials"]) == 12
    assert sum(trial["share_of_cost"] for trial in planned["trials"]) == pytest.approx(1)


@pytest.mark.usefixtures("few_speeches")
def test_run_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "study"
    command = ["study", "run", "batch_invariance", "--short", "--out", str(out), "--workers=1", *SMALL]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "κ rule keeps the loss" in printed.out
    assert "trial 2/2: rule=κ" in printed.err
    assert f"tables and plots: {out / 'report.md'}" in printed.err
    assert "--base.num_steps=2" in (out / "report.md").read_text()
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["report"] == str(out / "report.md") and found["claims"]
    assert main(["study", "plan", "batch_invariance", "--short", "--out", str(out), *SMALL]) == 0
    assert "2 trials, 2 done" in capsys.readouterr().out
    for words in (["batch_invariance", "--out", str(out)], [str(out)], [str(out), "--out", str(out)]):
        (out / "report.md").unlink()
        assert main(["study", "report", *words]) == 0
        assert (out / "report.md").exists()
    for words, message in (
        (["report", str(tmp_path)], f"{tmp_path} holds no study"),
        (["run", str(out)], f"trimask study run batch_invariance --out {out}"),
        (
            ["report", str(out), "--out", str(tmp_path)],
            f"{out} is a folder, and --out {tmp_path} another one",
        ),
    ):
        assert main(["study", *words]) in (1, 2)
        assert message in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("few_speeches")
def test_encoding_is_reported_within_the_bar_of_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    command = ["study", "run", "batch_invariance", "--short", "--out", str(tmp_path / "study"), *SMALL]
    assert main([*command, "--workers=1"]) == 0
    shown = terminal.getvalue()
    lines = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", shown).split("\n")
    assert "\x1b" not in "".join(lines) and not [line for line in lines if "[K" in line]
    assert "encoding" in shown and "2/2" in shown
    assert len(lines) < 10, "the bar is drawn in one line"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "horizn", "--out", "x"], "unknown study 'horizn': did you mean horizon?"),
        (["ran", "horizon"], "unknown action 'ran': did you mean run?"),
        (
            ["list"],
            "unknown action 'list': choose one of plan, run, report, fit (`trimask list` names the studies)",
        ),
        (["debug", "list"], "unknown action 'debug': choose one of plan, run, report, fit (`trimask list`"),
        (["fit"], "name a table of runs: trimask study fit FILE.csv"),
        (["run"], "name a study: trimask study run STUDY (`trimask list` names the studies)"),
        (["run", "horizon"], "give the study's folder: trimask study run horizon --out DIR"),
        (["run", "horizon", "--out", "x", "--workers=0"], "--workers is 0: give at least 1"),
        (["run", "horizon", "--out", "x", "--factor=2"], "factor"),
        (["report", "horizon", "--out", "x", "--base.num-steps=2"], "leave --base.num_steps out"),
        (["plan", "mixing", "--priorities.text=-1"], "give none below 0, and one above it"),
        (["plan", "mixing", "--trust=0"], "trust 0, most_epochs 4: must be above 0"),
        (["plan", "mixing", "--most-epochs=0"], "trust 0.2, most_epochs 0: must be above 0"),
        (["plan", "mixing", "--default-seeds="], "default_seeds: the study has none"),
        (["plan", "mixing", "--default-seeds=1,1"], "default_seeds: 1 is given twice"),
    ],
)
def test_wrong_arguments(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def command(out: Path, *words: str) -> "subprocess.Popen[str]":
    study = ["study", "run", "batch_invariance", "--short", "--seeds=0,1", "--out", str(out), *SMALL]
    run = [sys.executable, "-m", "trimask", *study, *words]
    return subprocess.Popen(run, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def figures(out: Path) -> dict[str, dict[str, float]]:
    rows = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    return {str(row["factors"]): row["figures"] for row in rows}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    process = command(out, "--workers=1")
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return out


@pytest.mark.slow
def test_a_killed_study_goes_on_to_the_same_results(whole: Path, tmp_path: Path):
    results = tmp_path / "results.jsonl"
    process = command(tmp_path, "--workers=2")
    end = time.monotonic() + 300
    while not results.exists() or results.stat().st_size == 0:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(results.read_text().splitlines()) < 4
    again = command(tmp_path, "--workers=2")
    _, errors = again.communicate(timeout=600)
    assert again.returncode == 0, errors
    assert "trials were done before" in errors
    assert figures(tmp_path) == figures(whole)


@pytest.mark.slow
def test_a_cluster_gives_the_same_results(whole: Path, tmp_path: Path):
    process = command(tmp_path, "--workers=2", "--engine=ray")
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert figures(tmp_path) == figures(whole)


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "sampling"])
def test_every_study_refuses_to_have_no_seeds_or_one_twice(name: str, capsys: pytest.CaptureFixture[str]):
    assert main(["study", "plan", name, "--short", "--seeds="]) == 2
    assert "seeds" in capsys.readouterr().err
    assert main(["study", "plan", name, "--short", "--seeds=3,3"]) == 2
    assert "twice" in capsys.readouterr().err
