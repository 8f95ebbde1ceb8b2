"""A run's weights as one file, and a run that starts from it; a run of two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from trimask import io
from trimask.cli import main
from trimask.prepare.prepare import prepare
from trimask.sources.options import PrepareOptions
from trimask.training.tracker import WALL_CLOCK_FIELDS, read_metrics

SMALL = ["--data.num-concepts=9", "--data.num-sentences=2", "--model.width=16", "--model.num-heads=1"]


@pytest.fixture
def words(tokenizers_folder: Path) -> list[str]:
    return ["debug", "--tokenizers", str(tokenizers_folder), "--threads", "1", *SMALL]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return io.load_tensors(path, kind="denoiser").tensors


@pytest.mark.usefixtures("few_speeches")
def test_a_run_starts_from_exported_weights(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = tmp_path / "run", tmp_path / "exported" / "model.safetensors"
    steps = ["--num-steps=4", "--checkpoint-every=2"]
    assert main(["train", *words, *steps, "--out", str(run)]) == 0
    earlier = run / "checkpoints" / "step_00000002"
    capsys.readouterr()
    assert main(["export", str(earlier), "--out", str(file), "--dtype", "float32", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["recipe"], told["steps"], told["bytes"]) == ("debug", "2", file.stat().st_size)
    two, four = weights(file), weights(run / "model.safetensors")
    assert any(not torch.equal(two[name], four[name]) for name in four)

    half = tmp_path / "half.safetensors"
    assert main(["export", str(run), "--out", str(half)]) == 0
    for name, tensor in weights(half).items():
        assert torch.equal(tensor, four[name].half())

    # At a rate of nothing the weights stay those that it began with.
    still = [*words, "--num-steps=1", "--optimizer.learning-rate=1e-30", "--weights", str(file)]
    assert main(["train", *still, "--out", str(tmp_path / "on")]) == 0
    for name, tensor in weights(tmp_path / "on" / "model.safetensors").items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=1e-12)

    capsys.readouterr()
    other = tmp_path / "other"
    assert main(["train", *still, "--model.depth=3", "--out", str(other)]) == 1
    assert "the weights are of a model with depth 2, and this one has 3" in capsys.readouterr().err
    assert not other.exists()
    assert main(["train", *words, "--weights", str(run), "--out", str(other)]) == 2
    assert "is not a file: `trimask export" in capsys.readouterr().err
    assert main(["train", *words, "--compute.precision=float8", "--out", str(other)]) == 2
    assert "precision float8 on one CPU process" in capsys.readouterr().err
    assert not other.exists()
    assert main(["export", str(run), "--out", str(tmp_path / "x.bin")]) == 2
    assert "does not end in .safetensors" in capsys.readouterr().err
    assert main(["export", str(run / "checkpoints" / "step_00000003"), "--out", str(half)]) == 1
    assert "step_00000003 is not there, or no longer" in capsys.readouterr().err


def torchrun(arguments: list[str]) -> str:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "trimask",
    ]
    done = subprocess.run(
        [*command, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def test_a_run_of_two_processes_goes_on_in_one(tokenizers_folder: Path, tmp_path: Path) -> None:
    """Stopped by the deadline after its first step, finished alone: the figures of a run that was alone."""
    raw, data = tmp_path / "raw", tmp_path / "data"
    raw.mkdir()
    drawn = np.random.default_rng(0)
    for number in range(16):
        PIL.Image.fromarray(drawn.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(raw / f"{number}.png")
        (raw / f"{number}.txt").write_text(f"shade {number}")
    options = PrepareOptions(validation=0.3, test=0.0)
    prepare(str(raw), data, options=options, tokenizer_folder=tokenizers_folder)
    words = ["debug", "--data", str(data), "--threads=1", "--model.width=16", "--model.num-heads=1"]
    steps = ["--num-steps=4", "--log-every=1", "--evaluate-every=2"]
    alone, both = tmp_path / "alone", tmp_path / "both"
    assert main(["train", *words, *steps, "--out", str(alone)]) == 0
    said = torchrun(["train", *words, *steps, "--out", str(both), "--minutes", "1e-6"])
    assert said.count("deadline after 1 of 4 steps") == 1  # one of them speaks
    assert "resume with: torchrun --nproc-per-node=2 -m trimask train debug" in said
    assert len(list(both.glob("checkpoints/step_00000001/*.safetensors"))) == 2
    assert main(["train", *words, *steps, "--out", str(both), "--resume"]) == 0
    figures = read_metrics(alone)
    assert "evaluation/text_to_image_image_bits_per_token" in figures[-1]
    for one, two in zip(figures, read_metrics(both), strict=True):
        for name in one.keys() - set(WALL_CLOCK_FIELDS):
            assert two[name] == pytest.approx(one[name], rel=1e-4), name
