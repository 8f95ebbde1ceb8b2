"""`trimask evaluate` on the command line; what it computes is tested beside recipes and evaluation."""

import json
from pathlib import Path
from typing import Any

import pytest

from trimask import io
from trimask.cli import main
from trimask.evaluation.judges import fetch
from trimask.evaluation.judges.panel import Panel
from trimask.runs.load import QUICKSTART
from trimask.scorecard import evaluate


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks for; the answer is the scorecard that ships."""
    seen: dict[str, Any] = {}

    def answer(run: str, **options: Any) -> dict[str, Any]:
        seen.update(options, run=run)
        return io.read_json(QUICKSTART.parent / "scorecard.json")

    monkeypatch.setattr(evaluate, "evaluate", answer)
    return seen


def test_tables_for_people(asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "scores.json"
    assert main(["evaluate", "quickstart", "--out", str(out), "--seed", "3"]) == 0
    printed = capsys.readouterr()
    assert "Likelihood" in printed.out and "unigram" in printed.out and "floor: shuffled" in printed.out
    assert f"wrote {out}" in printed.err
    assert io.read_json(out)["format"] == "trimask scorecard"
    assert asked["suite"].name == "quick" and asked["judges"] == Panel() and asked["seed"] == 3


def test_json_for_programs_and_the_suite(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--suite", "full", "--num-sequences", "7", "--judges", "language-model=gpt2", "speaker=a/b"]
    assert main(["evaluate", "quickstart", "--json", *words, "--lm-tasks", "lambada"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 0
    suite = asked["suite"]
    assert (suite.name, suite.num_sequences, suite.num_clips, suite.num_masks) == ("full", 7, 7, 8)
    assert asked["judges"].as_json() == {
        "speaker": {"name": "b", "source": "b"},
        "language_model": {"name": "gpt2", "source": "gpt2"},
    }
    assert asked["harness_tasks"] == ("lambada",)


def test_fetching_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(folder: Path, *, report: Any) -> list[str]:
        report("judges: fetching some 1/1")
        return ["some"]

    monkeypatch.setattr(fetch, "fetch", fake)
    assert main(["evaluate", "--fetch-judges", str(tmp_path / "judges"), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"folder": str(tmp_path / "judges"), "fetched": ["some"]}
    assert "score with --judges" in printed.err


def test_a_missing_library_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(run: str, **options: Any) -> dict[str, Any]:
        raise ImportError("the sentence judge needs transformers: install trimask[eval]")

    monkeypatch.setattr(evaluate, "evaluate", fail)
    assert main(["evaluate", "quickstart"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "install trimask[eval]" in lines[0]


@pytest.mark.slow
def test_a_run_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scores.json"
    assert (
        main(["evaluate", "quickstart", "--num-sequences", "4", "--num-masks", "1", "--out", str(out)]) == 0
    )
    assert "Left out: " in capsys.readouterr().out
    scores = io.read_json(out)
    assert {"images", "captions", "speech", "text", "continuation", "image_distances"} <= set(scores)
    assert scores["num_sequences"] == 4 and scores["machine"]["device"] == "cpu"
