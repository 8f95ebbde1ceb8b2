"""A run goes on by what it began with: its own fields, its data wherever it is, and further than planned."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import trimask
from trimask import io
from trimask.cli import main
from trimask.config import to_dict
from trimask.model.weights import read_denoiser, save_denoiser
from trimask.sampling.defaults import DEFAULTS
from trimask.tokenizers.bundle import Tokenizers
from trimask.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from trimask.training.tracker import WALL_CLOCK_FIELDS, read_metrics

pytestmark = pytest.mark.usefixtures("few_speeches")

SMALL = ["--data.num-concepts=9", "--data.num-sentences=2", "--model.width=16", "--model.num-heads=1"]


@pytest.fixture
def words(tokenizers_folder: Path) -> list[str]:
    return ["train", "debug", "--tokenizers", str(tokenizers_folder), "--threads=1", *SMALL]


def figures(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in WALL_CLOCK_FIELDS} for row in read_metrics(run)]


def config(run: Path) -> dict[str, Any]:
    return json.loads((run / "config.json").read_text())


def stopped_before(step: int, whole: Path, run: Path) -> None:
    """A copy of a finished run of `step` steps, as if it had stopped one step before its end."""
    shutil.copytree(whole, run)
    (run / "model.safetensors").unlink()
    shutil.rmtree(run / "checkpoints" / f"step_{step:08d}")


def error(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) in (1, 2)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("trimask: error: ")]
    return line


def test_resume_alone_takes_the_runs_own_fields(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    steps = ["--num-steps=3", "--log-every=1", "--checkpoint-every=1"]
    assert main([*words, *steps, "--out", str(whole)]) == 0
    stopped_before(3, whole, run)
    for contradiction, named in (
        (["--seed=7"], "run.seed was 0, is 7"),
        (["--model.depth=5"], "run.model.depth was 2, is 5"),
        (["--num-steps=2"], "started with num_steps 3, and --num-steps 2 is less"),
    ):
        assert named in error(["train", "--out", str(run), "--resume", *contradiction], capsys)
    other = error(["train", "quickstart_mini", "--out", str(run), "--resume"], capsys)
    assert "is a run of debug, not of quickstart_mini" in other
    on = ["--checkpoint-every=2", "--evaluate-every=3", "--model.width=16"]
    assert main(["train", "--out", str(run), "--resume", "--threads=1", *on]) == 0
    assert [row["loss"] for row in figures(run)] == [row["loss"] for row in figures(whole)]
    kept = config(run)["run"]
    assert (kept["checkpoint_every"], kept["evaluate_every"], kept["model"]["width"]) == (2, 3, 16)
    assert "no run has begun" in error(["train", "--out", str(tmp_path / "new"), "--resume"], capsys)
    assert "name a recipe" in error(["train", "--out", str(tmp_path / "new")], capsys)


OLD_SAMPLER = """{"num_steps": 7, "grid": {"type": "Cosine"}, "order": {"type": "Ancestral"}, "filters": [],
    "guidance_scale": 1.5, "guidance_ramp": {"type": "ConstantGuidance"}, "schedule": {"type": "Linear"}}"""


def test_a_run_of_an_earlier_version_goes_on_samples_and_is_exported(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its sampler settings, in config.json, in each checkpoint and in its export, have the old form."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    steps = ["--num-steps=2", "--log-every=1", "--checkpoint-every=1"]
    assert main([*words, *steps, "--out", str(whole)]) == 0
    old = json.loads(OLD_SAMPLER)
    gone = old | {"schedule": {"type": "Cosine"}}
    stopped_before(2, whole, run)
    for path, below in ((run / "config.json", []), *((p, ["config"]) for p in run.rglob("state.json"))):
        stored = io.read_sealed(path)
        inner = stored
        for name in below:
            inner = inner[name]
        inner["run"]["sampler"] |= {"text_to_image": old, "text": gone}
        io.write_sealed(path, stored)
    samplers = trimask.load(run).samplers
    law = to_dict(samplers["text_to_image"])
    assert (law["num_steps"], law["count"]["type"], law["order"]["type"]) == (7, "Ancestral", "Random")
    assert samplers["text"] == DEFAULTS["text"]
    assert main(["sample", str(run), "--task=text", "--num-steps=1", "--span-length=4"]) == 0
    assert main(["train", "--out", str(run), "--resume", "--threads=1"]) == 0
    assert figures(run) == figures(whole)
    assert config(run)["run"]["sampler"]["text_to_image"] == law

    denoiser, facts = read_denoiser(run / "model.safetensors")
    exported: Any = facts | {"run": json.dumps({"sampler": {"text_to_image": old, "text": gone}})}
    save_denoiser(tmp_path / "old.safetensors", denoiser, **exported)
    tokenizers = run / "tokenizers"
    assert trimask.load(tmp_path / "old.safetensors", tokenizers=tokenizers).samplers == {
        "text_to_image": samplers["text_to_image"],
        "text": DEFAULTS["text"],
    }


def test_a_finished_run_goes_further(
    words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The optimizer's state goes on, the rate is that of the longer schedule; stopped again, the same
    numbers.
    """
    run, stopped = tmp_path / "run", tmp_path / "stopped"
    steps = ["--num-steps=2", "--log-every=1", "--checkpoint-every=1"]
    assert main([*words, *steps, "--out", str(run)]) == 0
    shutil.copytree(run, stopped)
    longer = ["--resume", "--threads=1", "--num-steps=5"]
    assert main(["train", "--out", str(run), *longer]) == 0
    assert "goes on from update 2 to 5 instead of 2" in caplog.text and "not the same as a run" in caplog.text
    assert [row["step"] for row in figures(run)] == [1, 2, 3, 4, 5]
    assert config(run)["extended"] == [{"at_update": 2, "num_steps_before": 2}]
    # Begun, and stopped before its first step.
    assert main(["train", "--out", str(stopped), *longer, "--minutes=1e-9"]) == 0
    assert main(["train", "--out", str(stopped), "--resume", "--threads=1"]) == 0
    assert figures(stopped) == figures(run)
    assert (stopped / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert config(stopped)["extended"] == config(run)["extended"]


def test_a_trained_model_without_checkpoints_is_not_trained_over(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a folder that was shared: training from nothing would overwrite its weights."""
    run = tmp_path / "run"
    assert main([*words, "--num-steps=2", "--checkpoint-every=1", "--out", str(run)]) == 0
    shutil.rmtree(run / "checkpoints")
    weights = (run / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert main(["train", "--out", str(run), "--resume", "--num-steps=5"]) == 1
    assert "no checkpoint to resume: begin a new run with its weights" in capsys.readouterr().err
    assert (run / "model.safetensors").read_bytes() == weights


def test_weights_are_not_needed_again_and_tokenizers_are_compared(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    first, run, file = tmp_path / "first", tmp_path / "run", tmp_path / "weights.safetensors"
    steps = ["--num-steps=2", "--checkpoint-every=1", "--log-every=1"]
    assert main([*words, *steps, "--out", str(first)]) == 0
    assert main(["export", str(first), "--out", str(file)]) == 0
    began = tmp_path / "began"
    assert main([*words, *steps, "--weights", str(file), "--out", str(began)]) == 0
    stopped_before(2, began, run)
    other = tmp_path / "tokenizers"
    torch.manual_seed(1)
    own = Tokenizers.load(first / "tokenizers")
    replace(own, image=ImageTokenizer(ImageTokenizerConfig())).save(other)  # of the same size
    fresh = ["train", "debug", "--tokenizers", str(other), "--threads=1", *SMALL, *steps]
    told = error([*fresh, "--weights", str(file), "--out", str(tmp_path / "x")], capsys)
    assert (
        "trained over other tokenizers (image.safetensors differ)" in told and not (tmp_path / "x").exists()
    )
    file.unlink()
    assert main(["train", "--out", str(run), "--resume", "--threads=1"]) == 0
    assert len(figures(run)) == 2
    shutil.rmtree(run / "checkpoints")
    assert "give them again with --weights" in error(["train", "--out", str(run), "--resume"], capsys)


def test_a_start_that_holds_nothing_is_begun_anew(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([*words, "--num-steps=2", "--out", str(run)]) == 0
    again = [*words, "--num-steps=2", "--seed=1", "--out", str(run)]
    assert "is not empty: use --resume" in error(again, capsys)
    shutil.rmtree(run / "checkpoints")
    (run / "model.safetensors").unlink()
    assert "is not empty" in error(again, capsys)  # its metrics are something
    (run / "metrics.jsonl").unlink()
    (run / "notes.txt").write_text("mine")
    assert "is not empty" in error(again, capsys)
    (run / "notes.txt").unlink()
    assert main(again) == 0
    assert config(run)["run"]["seed"] == 1


def test_show_and_plan_take_runs_and_exported_files(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], tokenizers_folder: Path
) -> None:
    run, file = tmp_path / "run", tmp_path / "x.safetensors"
    assert main([*words, "--num-steps=1", "--out", str(run)]) == 0
    assert main(["export", str(run), "--out", str(file)]) == 0
    shown = []
    own = ["--tokenizers", str(tokenizers_folder)]
    for name, more in ((str(run), []), (str(file), own)):
        capsys.readouterr()
        assert main(["show", name, *more, "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
        assert main(["plan", name, *more, "--device=cpu", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["parameters"] == shown[-1]["parameters"]["total"]
    assert shown[0] == shown[1]
    assert shown[0]["config"]["num_steps"] == 1 and shown[0]["recipe"] == "debug"
    assert "give its own" in error(["show", str(file)], capsys)
    for verb, name in (("plan", "runs/none"), ("show", "none.safetensors")):
        assert f"{name} does not exist: give a run directory" in error([verb, name], capsys)
    sampled = ["sample", str(file), "--task=text", "--num-steps=1", "--span-length=4", "--json"]
    assert "give its own" in error(sampled, capsys)
    assert main([*sampled, *own]) == 0
    from_file = json.loads(capsys.readouterr().out)["samples"]
    inside = ["sample", str(run / "model.safetensors"), *sampled[2:]]
    assert main(inside) == 0
    assert len(from_file) == len(json.loads(capsys.readouterr().out)["samples"]) == 1
    beside = [*sampled[:1], str(run), *sampled[2:], *own]
    assert "has its own" in error(beside, capsys)
