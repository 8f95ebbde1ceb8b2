import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from trimask.cli import main
from trimask.training.checkpoint import Checkpoints
from trimask.training.run_directory import read_config
from trimask.training.tracker import WALL_CLOCK_FIELDS, read_metrics

pytestmark = pytest.mark.usefixtures("few_speeches")

SMALL = [
    "--data.num-concepts=9",
    "--data.num-sentences=2",
    "--log-every=1",
    "--model.width=16",
    "--model.num-heads=1",
]


@pytest.fixture
def words(tokenizers_folder: Path) -> list[str]:
    return ["train", "debug", "--tokenizers", str(tokenizers_folder), "--threads", "1", *SMALL]


def figures(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in WALL_CLOCK_FIELDS} for row in read_metrics(run)]


def test_show_counts_what_it_will_cost(tokenizers_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--tokenizers", str(tokenizers_folder)]
    assert main(["show", "debug", *folder, "--json", "--num-steps", "100", "--model.depth=3"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["config"]["num_steps"], shown["config"]["model"]["depth"]) == (100, 3)
    assert shown["sequences"] == 100 * shown["config"]["logical_batch"]
    assert shown["parameters"]["total"] == sum(v for k, v in shown["parameters"].items() if k != "total")
    assert sum(row["sequences"] for row in shown["mixture"]) == pytest.approx(shown["sequences"], abs=4)
    assert all(row["epochs"] > 0 for row in shown["mixture"])
    assert shown["training_flops"] > 3 * 2 * shown["parameters"]["blocks"] * shown["sequences"]
    assert main(["show", "debug", *folder]) == 0
    printed = capsys.readouterr().out
    assert '"depth": 2' in printed and "epochs" in printed and "training FLOPs" in printed


def test_show_derives_each_number_with_its_rule(
    tokenizers_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    larger = ["--model.width=64", "--model.num-heads=4", "--model.depth=4", "--physical-batch=32"]
    tuned = ["--num-steps=80", "--tuned.logical-batch=8", "--tuned.num-steps=20"]
    command = ["show", "debug", "--tokenizers", str(tokenizers_folder), *larger, *tuned]
    assert main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    values = {row["name"]: row["value"] for row in shown["derived"]["values"]}
    kappa = (1 / 4) ** 0.44 * 4
    assert (values["m_N"], values["m_L"], values["residual multiplier"]) == (2, 2, 0.5)
    assert (values["horizon"], values["updates"]) == (640, 20)
    assert values["κ"] == pytest.approx(kappa)
    assert values["learning_rate"] == pytest.approx(4e-3 * kappa**0.5)
    assert values["token horizon"] == sum(row["target_tokens"] for row in shown["mixture"])
    assert values["warm-up tokens"] == round(0.03 * values["token horizon"])
    for row in shown["derived"]["values"]:
        assert row["rule"] and row["source"]
    tensors = {row["tensor"]: row for row in shown["derived"]["tensors"]}
    assert len(tensors) == 11 and "blocks.*.feed_forward.down" in tensors
    qkv = tensors["blocks.*.attention.qkv"]
    assert qkv["role"] == "hidden weight" and qkv["init_std"] == pytest.approx(1 / 8)
    assert qkv["learning_rate"] == pytest.approx(4e-3 * kappa**0.5 / 2)
    assert qkv["eps"] == pytest.approx(1e-8 / kappa**0.5 / 4)
    assert qkv["weight_decay"] == pytest.approx(0.05 * kappa**0.5 * 2)
    assert qkv["rules"]["learning_rate"] == "m_N^-1 m_L^(α-1)" and "[L]" in qkv["source"]
    (caution,) = shown["derived"]["cautions"]
    assert "past the critical one of 1: it leaves 20 updates" in caution
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert caution in printed and "m_N^-1 m_L^(α-1)" in printed and "arXiv 2602.21472 [P]" in printed


def test_a_dry_run_writes_nothing(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--out", str(tmp_path / "a" / "run"), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"]["total"] > 0
    assert not list(tmp_path.iterdir())


def test_from_a_recipe_to_samples(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    steps = ["--num-steps=2", "--checkpoint-every=1", "--out", str(run)]
    assert main([*words, *steps, "--json"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["steps"], result["stopped"], result["run"]) == (2, "finished", str(run))
    assert "encoding images" in printed.err and f"trimask sample {run}" in printed.err
    assert [row["step"] for row in figures(run)] == [1, 2]
    assert main(["sample", str(run), "--task", "text", "--num-steps=2", "--span-length=8", "--json"]) == 0
    assert "text" in json.loads(capsys.readouterr().out)["samples"][0]

    def fails(more: list[str], status: int, *parts: str) -> None:
        assert main([*words, *more]) == status
        (line,) = [
            x for x in capsys.readouterr().err.splitlines() if "set aside" not in x and "so far" not in x
        ]
        assert line.startswith("trimask: error: ") and not [part for part in parts if part not in line], line

    fails(steps, 2, "is not empty", "--resume")
    fails([*steps, "--resume", "--seed=7"], 2, "run.seed was 0, is 7", "--out")
    fails(["--out", str(run / "config.json")], 2, "is a file")
    for state in run.glob("checkpoints/*/*.safetensors"):
        state.write_bytes(state.read_bytes()[:1000])
    fails([*steps, "--resume"], 1, "no checkpoint", "is intact", "another --out")
    (run / "config.json").write_text("{")
    fails([*steps, "--resume"], 1, "config.json is not valid JSON")


def test_a_run_with_another_physical_batch(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Twice the batch in half the updates, three rows at a time; resumed, it ends in the same weights."""
    run, resumed = tmp_path / "run", tmp_path / "resumed"
    batches = ["--num-steps=8", "--physical-batch=16", "--compute.micro-batch=3", "--checkpoint-every=1"]
    assert main([*words, *batches, "--out", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["steps"], result["num_steps"]) == (4, 4)
    assert "physical batch of 16 sequences is past the critical one" in caplog.text
    shutil.copytree(run, resumed)
    (resumed / "model.safetensors").unlink()
    shutil.rmtree(resumed / "checkpoints" / "step_00000004")
    assert main([*words, *batches, "--out", str(resumed), "--resume"]) == 0
    assert figures(resumed) == figures(run)
    assert (resumed / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_the_deadline_stops_a_run_that_can_go_on(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "my run"
    assert main([*words, "--minutes", "1e-9", "--out", str(run)]) == 0
    printed = capsys.readouterr().err
    assert "deadline after" in printed
    (command,) = [
        line.partition("resume with: ")[2] for line in printed.splitlines() if "resume with" in line
    ]
    # The run knows its own fields.
    assert command.endswith(f" train debug --out '{run}' --resume")


def start(words: list[str], run: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "trimask", *words, "--out", str(run)]
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def finish(process: "subprocess.Popen[str]") -> None:
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors


def wait_for_step(process: "subprocess.Popen[str]", run: Path, step: int) -> None:
    end = time.monotonic() + 300
    while not list(run.glob(f"checkpoints/step_{step:08d}/state.json")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_numbers(words: list[str], tmp_path: Path) -> None:
    steps = [*words, "--num-steps=40", "--checkpoint-every=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(steps, whole))
    process = start(steps, killed)
    wait_for_step(process, killed, 4)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "model.safetensors").exists()
    finish(start([*steps, "--resume"], killed))
    assert figures(killed) == figures(whole)
    assert len(figures(whole)) == 40
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on(words: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    steps = [*words, "--num-steps=5000", "--checkpoint-every=2"]
    process = start(steps, run)
    wait_for_step(process, run, 2)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert "interrupted after" in errors and "--resume" in errors and "Traceback" not in errors
    assert (run / "model.safetensors").exists()
    updates = {"step": torch.tensor(0)}
    restored = Checkpoints(run, config=read_config(run), keep=2).load_newest(updates)
    assert restored is not None and restored.step == int(updates["step"])
