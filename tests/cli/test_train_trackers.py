"""`trimask train --tracker`: more places for the same metrics, and the same run."""

import json
import shutil
from pathlib import Path

import pytest

from trimask.cli import main
from trimask.training.tracker import WALL_CLOCK_FIELDS, read_metrics
from trimask.training.trackers import IDS

SMALL = ["--data.num-concepts=9", "--data.num-sentences=2", "--model.width=16", "--model.num-heads=1"]
STEPS = ["--num-steps=4", "--log-every=2", "--checkpoint-every=2", "--evaluate-every=4", "--threads=1"]
FILE = """
from trimask.training.trackers import OutsideTracker


class Mine(OutsideTracker):
    def open(self, run):
        print("opened", run.id, run.config["recipe"])
        self.file = (run.folder / "mine.txt").open("a")
        return "seven"

    def write(self, step, values):
        print(step, "loss" in values, "seconds" in values, file=self.file)

    def close(self, *, has_failed):
        self.file.close()
        raise RuntimeError("no goodbye")
"""


def test_a_tracker_changes_nothing_of_a_run(
    tokenizers_folder: Path,
    few_speeches: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FILE)
    words = ["train", "debug", "--tokenizers", str(tokenizers_folder), *SMALL, *STEPS]
    assert main([*words, "--out", "plain"]) == 0
    track = ["--tracker", "mine.py:Mine"]
    assert main([*words, "--out", "tracked", "--minutes", "1e-9", *track, "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["steps"] == 0
    assert "resume with: trimask train debug --out tracked --resume --tracker mine.py:Mine" in told.err
    assert main(["train", "--out", "tracked", "--resume", *track]) == 0
    told = capsys.readouterr()
    assert "opened None debug" in told.err and told.err.count("could not end (RuntimeError: no goodbye)") <= 1
    plain, tracked = Path("plain"), Path("tracked")
    assert (tracked / "mine.txt").read_text() == "2 True True\n4 True True\n"
    shutil.rmtree(tracked / "checkpoints" / "step_00000004")
    assert main(["train", "--out", "tracked", "--resume", *track]) == 0
    assert "opened seven debug" in capsys.readouterr().err
    assert (tracked / "mine.txt").read_text() == "2 True True\n4 True True\n4 True True\n"
    assert (plain / "config.json").read_bytes() == (tracked / "config.json").read_bytes()
    assert (plain / "model.safetensors").read_bytes() == (tracked / "model.safetensors").read_bytes()
    for row, other in zip(read_metrics(plain), read_metrics(tracked), strict=True):
        for name in row.keys() - set(WALL_CLOCK_FIELDS):
            assert row[name] == other[name]
    assert json.loads((tracked / IDS).read_text()) == {"mine.py:Mine": "seven"}
    assert main(["train", "--out", "tracked", "--resume", "--num-steps=6"]) == 0  # without one again


def test_wrong_trackers_are_told_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert main(["train", "debug", "--out", out, "--tracker", "wandbb"]) == 2
    assert "unknown tracker 'wandbb'" in capsys.readouterr().err
    assert main(["train", "text_tokenizer", "--out", out, "--tracker", "wandb"]) == 2
    assert "text_tokenizer has no metrics to track: leave --tracker out" in capsys.readouterr().err
    assert not Path(out).exists()
