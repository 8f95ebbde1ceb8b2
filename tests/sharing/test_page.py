"""The page on sharing shows code that runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trimask.training.trackers import open_trackers

PAGE = (Path(__file__).parents[2] / "docs" / "share-a-model.md").read_text(encoding="utf-8")
SHARE, TRACK = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_shipped_model_is_saved_and_loaded(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", f"{SHARE}picture.save('strawberry.png')"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "strawberry.png").exists()
    assert 'license: "apache-2.0"' in (tmp_path / "shared" / "quickstart" / "README.md").read_text()


def test_the_tracker_writes_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(TRACK)
    with open_trackers(["mine.py:Lines"], tmp_path, {}) as write:
        write(1, {"step": 1, "loss": 0.5})
        write(2, {"step": 2, "evaluation/x": 0.5})
    assert Path("losses.txt").read_text() == "1 0.5\n"


def test_the_files_of_the_table_are_those_that_are_written() -> None:
    from trimask.runs.lengths import LENGTHS
    from trimask.runs.presets import PRESETS
    from trimask.runs.pretrain import MODEL, TOKENIZERS
    from trimask.runs.seen import SEEN
    from trimask.sharing.contents import CARD, SCORES
    from trimask.training.run_directory import CONFIG

    table = PAGE.split("| file | what |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    files = {MODEL, CONFIG, SEEN, LENGTHS, PRESETS, CARD, SCORES, f"{TOKENIZERS}/", "modules/"}
    assert named == files
