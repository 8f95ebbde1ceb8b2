"""The examples for clusters: linted, valid, and the Slurm script run on two nodes that are this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from command_lines import launched, taken
from trimask.cli.train import Train
from trimask.io import read_json
from trimask.training.tracker import WALL_CLOCK_FIELDS, read_metrics

ROOT = Path(__file__).parents[2]
SLURM = ROOT / "examples" / "cluster" / "train.slurm"
KUBERNETES = ROOT / "examples" / "cluster" / "job.yaml"
FAKES = ROOT / "tests" / "fake_slurm"
BIN = Path(sys.executable).parent


@pytest.mark.parametrize("script", [SLURM, *sorted(FAKES.iterdir())], ids=lambda path: path.name)
def test_scripts_are_clean(script: Path) -> None:
    done = subprocess.run([BIN / "shellcheck", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


class Slurm:
    """A job of two nodes with one process each; its commands are those in `fake_slurm`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = [FAKES, BIN]
        self.tasks, self.requeued = folder / "tasks", folder / "requeued"

    def start(self, *words: str, num_restarts: int = 0) -> "subprocess.Popen[str]":
        self.tasks.unlink(missing_ok=True)
        environment = {
            "PATH": os.pathsep.join(map(str, [*self.path, os.environ["PATH"]])),
            "OMP_NUM_THREADS": "1",
            "FAKE_SLURM": str(self.folder),
            "SLURM_JOB_ID": str(os.getpid()),  # of which the script makes the port
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_NNODES": "2",
            "SLURM_GPUS_ON_NODE": "1",
            "SLURM_RESTART_COUNT": str(num_restarts),
        }
        return subprocess.Popen(
            ["bash", SLURM, *words],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def has_been_requeued(self) -> bool:
        return self.requeued.exists() and self.requeued.read_text().split() == [str(os.getpid())]


def finished(job: "subprocess.Popen[str]") -> int:
    """The exit status of a job, once it has one; what it printed is shown if the test fails."""
    print(job.communicate(timeout=300)[0])
    return job.returncode


def fake_torchrun(slurm: Slurm, *lines: str) -> None:
    path = slurm.folder / "bin" / "torchrun"
    path.parent.mkdir()
    path.write_text("\n".join(["#!/bin/bash", *lines]) + "\n")
    path.chmod(0o755)
    slurm.path = [path.parent, *slurm.path]


def test_the_slurm_script_starts_torchrun_on_each_node(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path)
    fake_torchrun(slurm, 'printf "%s\\n" torchrun "$@" >"$FAKE_SLURM/words.$BASHPID"')
    run = tmp_path / "a run"
    job = slurm.start(str(run), "quickstart", "--compute.replicas", "2", num_restarts=3)
    assert finished(job) == 0 and not slurm.has_been_requeued()
    words, others = (path.read_text().splitlines() for path in tmp_path.glob("words.*"))
    assert words == others
    options = launched(words)
    assert (options.nnodes, options.nproc_per_node, options.rdzv_backend) == ("2", "1", "c10d")
    host, _, port = options.rdzv_endpoint.partition(":")
    assert host == "localhost" and 20000 <= int(port) < 30000
    assert options.rdzv_id == f"{os.getpid()}.3"
    verb, overrides = taken(words)
    assert isinstance(verb, Train) and (verb.recipe, verb.out, verb.resume) == ("quickstart", run, True)
    assert overrides == {"compute.replicas": "2"}


@pytest.mark.parametrize(
    ("makes", "is_requeued"), [("step_00000500", True), ("step_00000500.corrupt", False)]
)
def test_a_job_that_gets_on_is_requeued(makes: str, is_requeued: bool, tmp_path: Path) -> None:
    slurm = Slurm(tmp_path)
    (tmp_path / "run" / "checkpoints" / "step_00000400").mkdir(parents=True)
    fake_torchrun(slurm, f'mkdir -p "{tmp_path}/run/checkpoints/{makes}"', "exit 1")
    job = slurm.start(str(tmp_path / "run"), "debug")
    assert finished(job) == 1
    assert slurm.has_been_requeued() == is_requeued


@pytest.mark.slow
def test_a_job_that_slurm_stops_goes_on(tmp_path: Path) -> None:
    """With the real torchrun: begun with --resume, stopped at a whole step, finished after the requeue."""
    slurm, run = Slurm(tmp_path), tmp_path / "run"
    words = ["debug", "--num-steps=60", "--log-every=1", "--checkpoint-every=1000", "--evaluate-every=1000"]
    job = slurm.start(str(run), *words)
    wait_for_rows(run, job)
    for task in map(int, slurm.tasks.read_text().split()):
        os.kill(task, signal.SIGTERM)
    printed, _ = job.communicate(timeout=120)
    assert job.returncode != 0 and "interrupted after" in printed and slurm.has_been_requeued(), printed
    (checkpoint,) = (run / "checkpoints").iterdir()
    state = read_json(checkpoint / "state.json")
    assert state["num_processes"] == 2 and 0 < state["step"] < 60

    slurm.requeued.unlink()
    job = slurm.start(str(run), *words, num_restarts=1)
    assert finished(job) == 0 and not slurm.has_been_requeued()
    whole = tmp_path / "whole"
    alone = [sys.executable, "-m", "trimask", "train", *words, "--out", str(whole)]
    subprocess.run(alone, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    for row, other in zip(figures(run), figures(whole), strict=True):
        assert row == pytest.approx(other, rel=1e-3)


def wait_for_rows(run: Path, job: "subprocess.Popen[str]") -> None:
    limit = time.monotonic() + 300
    while not (run / "metrics.jsonl").exists() or not read_metrics(run):
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < limit
        time.sleep(0.05)


def figures(run: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name not in WALL_CLOCK_FIELDS}
        for row in read_metrics(run)
    ]


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
def test_kubernetes_would_take_the_job(documents: dict[str, dict[str, Any]], version: str) -> None:
    for document in documents.values():
        kubernetes_validate.validate(document, version, strict=True)


def test_the_pods_find_each_other(documents: dict[str, dict[str, Any]]) -> None:
    service, job = documents["Service"], documents["Job"]
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = launched(container["command"])
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(options.nnodes)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == service["metadata"]["name"]
    first = f"{job['metadata']['name']}-0.{pod['subdomain']}"  # as an Indexed Job names its pods
    assert options.rdzv_backend == "c10d" and options.rdzv_endpoint.partition(":")[0] == first
    assert container["resources"]["limits"]["nvidia.com/gpu"] == int(options.nproc_per_node)


def test_the_pods_train_and_go_on(documents: dict[str, dict[str, Any]]) -> None:
    pod = documents["Job"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    verb, overrides = taken(container["command"])
    assert isinstance(verb, Train) and verb.resume
    options = launched(container["command"])
    num_processes = int(options.nnodes) * int(options.nproc_per_node)
    assert num_processes % int(overrides["compute.replicas"]) == 0
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert all(path.is_relative_to(mounts["shared"]) for path in (verb.out, *verb.data))
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert int(environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) < pod["terminationGracePeriodSeconds"]
