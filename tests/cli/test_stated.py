"""Recipes whose data is stated: shown without any data or tokenizers, trained on data that is given."""

import json
from pathlib import Path

import pytest

from trimask.cli import main
from trimask.recipes.reference import ROW

TINY = [
    "--model.width=128",
    "--model.depth=1",
    "--model.num-heads=1",
    "--logical-batch=2",
    "--num-steps=2",
    "--compute.compile=false",
    "--threads=1",
]


@pytest.fixture
def prepared(tokenizers_folder: Path, tmp_path: Path) -> Path:
    source = tmp_path / "text"
    source.mkdir()
    rows = [json.dumps({"text": "red apple " * (5 + n)}) for n in range(8)]
    (source / "a.jsonl").write_text("\n".join(rows))
    out = tmp_path / "prepared"
    options = ["--tokenizers", str(tokenizers_folder), "--workers=1", "--validation=0", "--test=0"]
    assert main(["prepare", str(source), "--out", str(out), *options]) == 0
    return out


def fails(capsys: pytest.CaptureFixture[str], words: list[str], *parts: str) -> None:
    capsys.readouterr()
    assert main(words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("trimask: error: ") and not [part for part in parts if part not in line], line


def test_a_reference_is_shown_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "trimodal_3b", "--json", "--data.spaces.text.codebook_size=1000"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["vocabulary"] == 1000 + 1 + 16_384 + 8 * 1025 + 17
    assert shown["parameters"]["embedding"] == shown["vocabulary"] * 2816
    assert (
        {row["epochs"] for row in shown["mixture"]} == {row["tokens"] for row in shown["mixture"]} == {None}
    )
    assert main(["show", "trimodal_3b"]) == 0
    assert "text_to_speech, speech           [3]" in capsys.readouterr().out
    fails(capsys, ["show", "trimodal_3b", "--tokenizers", "."], "states its code spaces", "--data")


def test_training_without_data_says_what_to_prepare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "trimodal_3b", "--out", str(tmp_path / "run")]
    for words in (command, [*command, "--dry-run"]):
        fails(capsys, words, "but has none", "trimask tokenizers --text", f"--text-window {ROW - 3}")
    assert not list(tmp_path.iterdir())


def test_a_reference_trains_on_prepared_data(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "trimodal_3b", "--data", str(prepared), "--out", str(tmp_path / "run"), *TINY]
    assert main([*command, "--row-length=256", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["steps"], result["stopped"]) == (2, "finished")
    config = json.loads((tmp_path / "run" / "config.json").read_text())["run"]
    assert config["data"]["type"] == "PreparedData" and config["data"]["text_window"] == 128
    assert [c["source"] for c in config["mixture"]["components"]] == ["text"]


def test_what_does_not_fit_a_row_is_told_before_anything_is_done(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "trimodal_3b", "--data", str(prepared), "--out", str(tmp_path / "run"), *TINY]
    fails(capsys, [*command, "--row-length=40"], "text has a text sequence of up to", "--row-length", "none")
    assert not (tmp_path / "run").exists()
