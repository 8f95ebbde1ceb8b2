"""docs/add-a-study.md: its file runs, is stopped, grows and is used by another study, as the page says."""

import json
import re
from pathlib import Path

import pytest

from command_lines import commands
from trimask.cli.entry import main

pytestmark = pytest.mark.usefixtures("few_speeches")

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-study.md").read_text(encoding="utf-8")
SMALL = [
    "--base.num-steps=2",
    "--base.logical-batch=8",
    "--base.model.width=32",
    "--base.model.num-heads=1",
    "--base.model.depth=1",
    "--base.data.num-concepts=8",
    "--base.data.num-sentences=8",
]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (mine,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.py").write_text(mine)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_about_studies(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = commands(PAGE)
    assert len(listed) == 4
    for program, verb, action, study, *words in listed:
        small = [] if action == "report" else [*SMALL, "--workers=1"]
        small += ["--seeds=10"] if study.endswith("best_again") else []
        assert program == "trimask" and main([verb, action, study, *words, *small]) == 0, words
    printed = capsys.readouterr().out
    assert "3 trials, 0 done" in printed
    assert "the best of the short runs, beats none in long ones" in printed
    report = (desk / "studies" / "decays" / "report.md").read_text()
    (derived,) = map(json.loads, (desk / "studies/decays/derived.jsonl").read_text().splitlines())
    assert f'| best | "{derived["value"]}" | {derived["time"]} | 3 |' in report
    assert len(derived["results"]) == 3
    results = (desk / "studies" / "decays" / "results.jsonl").read_text().splitlines()
    longer = [row for row in map(json.loads, results) if row["factors"]["length"] == 2]
    assert {row["factors"]["arm"] for row in longer} == {"none", derived["value"]}
    assert (desk / "studies" / "again" / "used" / "chosen" / "derived.jsonl").is_file()
    # An arm of one's own: the study grows.
    (more,) = re.findall(r"^```\n(def .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    with (desk / "mine.py").open("a") as file:
        file.write(f"\n\n{more}")
    assert main(["study", "plan", "mine.py:more", *SMALL]) == 0
    assert "arm=half,seed=0,length=1" in capsys.readouterr().out
