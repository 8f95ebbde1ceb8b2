"""A model as a folder for others: the same model, alone, without what was private to its run."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trimask
from small_model import write_small_model
from trimask import io
from trimask.cli import main
from trimask.data.selection import PreparedData
from trimask.generation.generate import Generator
from trimask.model.weights import load_denoiser
from trimask.runs.export import export
from trimask.runs.load import load_run_config
from trimask.sharing.contents import gather_contents
from trimask.sharing.folder import _write_files, save_model
from trimask.training.run_directory import CONFIG

# A model that has learned nothing does not end its texts.
pytestmark = pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning")


@pytest.fixture(scope="module")
def finished(tokenizers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    write_small_model(run, tokenizers_folder)
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def samples(model: Generator) -> list[Any]:
    picture = np.array(model.generate("text_to_image", "red apple", seed=5, num_steps=4))
    speech, rate = model.generate("text_to_speech", "red apple", seed=5, num_steps=4, span_length=10)
    text = model.generate("text", seed=5, num_steps=4, span_length=12)
    return [picture.tolist(), np.asarray(speech).tolist(), rate, text]


def assert_same(model: Generator, other: Generator) -> None:
    assert (model.samplers, model.lengths, model.seen) == (other.samplers, other.lengths, other.seen)
    assert model.vocabulary == other.vocabulary
    assert samples(model) == samples(other)


def test_a_folder_is_the_same_model(run: Path, tmp_path: Path) -> None:
    expected = trimask.load(run)
    shared = tmp_path / "shared"
    trimask.save_pretrained(run, shared)
    shutil.rmtree(run)
    assert_same(trimask.load(shared), expected)
    assert trimask.load(shared, preset="fast").samplers["text_to_image"].num_steps == 2
    save_model(shared, tmp_path / "again")
    for path in sorted(shared.rglob("*")):
        if path.is_file() and path.name != "README.md":  # which names the folder
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(shared)).read_bytes(), path


def test_an_exported_file_becomes_the_same_folder(run: Path, tokenizers_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "file" / "small.safetensors"
    export(run, file, dtype=torch.float32)
    shutil.copytree(tokenizers_folder, file.parent / "tokenizers")
    save_model(run, tmp_path / "of_run")
    save_model(file, tmp_path / "of_file")
    assert_same(trimask.load(tmp_path / "of_file"), trimask.load(tmp_path / "of_run"))
    for name in ("presets.json", CONFIG):
        assert (tmp_path / "of_file" / name).read_bytes() == (tmp_path / "of_run" / name).read_bytes()


def test_the_shipped_model(tmp_path: Path) -> None:
    assert save_model("quickstart", tmp_path / "q") == {"recipe": "quickstart", "steps": "12000"}
    model, shipped = trimask.load(tmp_path / "q", preset="best"), trimask.load("quickstart", preset="best")
    assert (model.samplers, model.lengths, model.seen) == (shipped.samplers, shipped.lengths, shipped.seen)
    weights = load_denoiser(tmp_path / "q" / "model.safetensors").state_dict()
    for name, tensor in gather_contents("quickstart").denoiser.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert (tmp_path / "q" / "README.md").read_text().startswith("---\nlibrary_name: trimask\n")


def test_rounded_weights_keep_their_presets(run: Path, tmp_path: Path) -> None:
    save_model(run, tmp_path / "half", dtype="float16")
    model = trimask.load(tmp_path / "half", preset="fast")
    assert model.samplers["text_to_image"].num_steps == 2
    weights = load_denoiser(tmp_path / "half" / "model.safetensors").state_dict()
    for name, tensor in load_denoiser(run / "model.safetensors").state_dict().items():
        assert torch.equal(tensor.half().float(), weights[name])


def test_no_path_of_the_data_is_told(run: Path, tmp_path: Path) -> None:
    contents = gather_contents(run)
    data = PreparedData(
        folders=(Path("/secret/place/photos"),), manifests=("0" * 64,), text_window=32
    ).without_places()
    _write_files(replace(contents, config=replace(contents.config, data=data)), tmp_path, torch.float32)
    assert load_run_config(tmp_path).data == replace(data, folders=(Path("photos"),))
    stored = io.read_sealed(run / CONFIG)
    stored["run"]["data"] = {
        "type": "PreparedData",
        "folders": ["/secret/place/photos"],
        "manifests": ["0" * 64],
        "text_window": 32,
    }
    io.write_sealed(run / CONFIG, stored)
    save_model(run, tmp_path / "shared")
    for path in (tmp_path / "shared").rglob("*.*"):
        assert b"secret" not in path.read_bytes(), path


def test_a_scorecard_of_other_weights_is_left_out(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores = run / "scorecard.json"
    io.write_json(scores, {"format": "trimask scorecard", "suite": "quick", "seed": 3, "num_sequences": 4})
    save_model(run, tmp_path / "new")
    assert (tmp_path / "new" / "scorecard.json").exists()
    assert "seed 3, 4 examples a figure" in (tmp_path / "new" / "README.md").read_text()
    os.utime(scores, (1, 1))
    save_model(run, tmp_path / "old")
    assert not (tmp_path / "old" / "scorecard.json").exists() and "is older than the weights" in caplog.text
    assert "None were measured" in (tmp_path / "old" / "README.md").read_text()
    scores.write_text("[]")
    with pytest.raises(trimask.UserError, match=r"scorecard.json is not a scorecard: write it with"):
        save_model(run, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(trimask.UserError, match="is not an empty folder"):
        trimask.save_pretrained(run, run)
    with pytest.raises(trimask.UserError, match="dtype is 'int8': give one of float32, bfloat16, float16"):
        trimask.save_pretrained(run, tmp_path / "x", dtype="int8")
    with pytest.raises(FileNotFoundError, match="is not a run directory"):
        trimask.save_pretrained(tmp_path / "gone", tmp_path / "x")


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = tmp_path / "shared"
    words = ["--license", "apache-2.0", "--languages", "en", "fr", "--json"]
    assert main(["export", str(run), "--out", str(shared), *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["folder"], told["dtype"], told["steps"]) == (str(shared), "float32", "20")
    head = (shared / "README.md").read_text().split("---\n")[1]
    assert 'license: "apache-2.0"\nlanguage: ["en", "fr"]\n' in head
    assert main(["sample", str(shared), "--task", "text", "--num-steps", "2", "--json"]) == 0
    capsys.readouterr()
    for wrong, problem in (
        ([], "nothing to write: give --out"),
        (["--out", "x.safetensors", "--push", "me/x"], "are for a folder"),
        (["--out", "x", "--private"], "--private is for --push"),
    ):
        assert main(["export", str(run), *wrong]) == 2
        assert problem in capsys.readouterr().err
    assert main(["export", str(run), "--out", str(shared)]) == 1
    assert "is not an empty folder" in capsys.readouterr().err
