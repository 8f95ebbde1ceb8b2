"""The examples for clusters: linted, valid, and the Slurm script run on two nodes that are this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
    done = subprocess.run([BIN / "shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


class Slurm:
    """A job of two nodes with one process each; its commands are those in `fake_slurm`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: list[subprocess.Popen[str]] = []
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
        job = subprocess.Popen(
            ["bash", SLURM, *words],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.jobs.append(job)
        return job

    def signal(self) -> None:
        """SIGTERM to what `srun` has started, as Slurm would do it."""
        for task in map(int, self.tasks.read_text().split()):
            os.kill(task, signal.SIGTERM)

    def close(self) -> None:
        """Ends the jobs that a failed test has left."""
        for job in self.jobs:
            if job.poll() is None:
                self.signal()
            job.communicate()

    def has_been_requeued(self) -> bool:
        return self.requeued.exists() and self.requeued.read_text().split() == [str(os.getpid())]


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    running = Slurm(tmp_path)
    yield running
    running.close()


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


def test_the_slurm_script_starts_torchrun_on_each_node(slurm: Slurm, tmp_path: Path) -> None:
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
def test_a_job_that_gets_on_is_requeued(makes: str, is_requeued: bool, slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints" / "step_00000400").mkdir(parents=True)
    fake_torchrun(slurm, f'mkdir -p "{tmp_path}/run/checkpoints/{makes}"', "exit 1")
    job = slurm.start(str(tmp_path / "run"), "debug")
    assert finished(job) == 1
    assert slurm.has_been_requeued() == is_requeued


SHORT = ["--num-steps=60", "--log-every=1", "--evaluate-every=1000"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short run in one process, that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    command = [sys.executable, "-m", "trimask", "train", "debug", *SHORT, "--out", str(out)]
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["stopped by Slurm", "a worker killed"])
def test_a_job_that_ends_early_goes_on(fault: str, slurm: Slurm, whole: Path, tmp_path: Path) -> None:
    """With the real torchrun: begun with --resume, ended, requeued, and finished to the same figures."""
    run = tmp_path / "run"
    is_stopped = fault == "stopped by Slurm"
    words = ["debug", *SHORT, f"--checkpoint-every={1000 if is_stopped else 5}"]
    job = slurm.start(str(run), *words)
    wait_for_rows(run, 1, job)
    if is_stopped:
        slurm.signal()
    else:
        wait_until(lambda: any(run.glob("checkpoints/step_*")), job)
        task = slurm.tasks.read_text().split()[1]
        worker = Path(f"/proc/{task}/task/{task}/children").read_text().split()[0]
        os.kill(int(worker), signal.SIGKILL)
    assert finished(job) != 0 and slurm.has_been_requeued()
    newest = max((run / "checkpoints").glob("step_*"))
    state = read_json(newest / "state.json")
    assert state["num_processes"] == 2 and 0 < state["step"] < 60
    if is_stopped:
        assert state["step"] == read_metrics(run)[-1]["step"]  # that it was in

    slurm.requeued.unlink()
    assert finished(slurm.start(str(run), *words, num_restarts=1)) == 0 and not slurm.has_been_requeued()
    assert_same_figures(run, whole)


def wait_for_rows(run: Path, number: int, *jobs: "subprocess.Popen[str]") -> None:
    wait_until(lambda: (run / "metrics.jsonl").exists() and len(read_metrics(run)) >= number, *jobs)


def wait_until(holds: Callable[[], bool], *jobs: "subprocess.Popen[str]") -> None:
    limit = time.monotonic() + 300
    while not holds():
        assert all(job.poll() is None for job in jobs)
        assert time.monotonic() < limit
        time.sleep(0.05)


def assert_same_figures(run: Path, other: Path) -> None:
    """All but the clock's, to rounding."""
    for row, other_row in zip(read_metrics(run), read_metrics(other), strict=True):
        assert row.keys() == other_row.keys()
        for name in row.keys() - set(WALL_CLOCK_FIELDS):
            assert row[name] == pytest.approx(other_row[name], rel=1e-3), (row["step"], name)


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


@pytest.mark.slow
@pytest.mark.parametrize("preempted", [0, 1])
def test_pods_that_are_preempted_go_on(
    preempted: int, documents: dict[str, dict[str, Any]], whole: Path, tmp_path: Path
) -> None:
    """The example's command, each pod a process of this machine that is started again until it succeeds."""
    (container,) = documents["Job"]["spec"]["template"]["spec"]["containers"]
    run = tmp_path / "run"
    command = as_it_fits_here(container["command"], run)

    def start(index: int) -> "subprocess.Popen[str]":
        with (tmp_path / f"pod-{index}.log").open("a") as log:
            return subprocess.Popen(
                [BIN / command[0], *command[1:]],
                env=os.environ
                | {"OMP_NUM_THREADS": "1", **{e["name"]: e["value"] for e in container["env"]}},
                stdout=log,
                stderr=log,
                text=True,
            )

    pods, num_starts = [start(0), start(1)], 2
    try:
        wait_for_rows(run, 1, *pods)
        pods[preempted].send_signal(signal.SIGTERM)
        limit = time.monotonic() + 300
        while any(pod.poll() != 0 for pod in pods):
            assert time.monotonic() < limit and num_starts < 10, (tmp_path / "pod-0.log").read_text()
            for index, pod in enumerate(pods):
                if pod.poll():
                    pods[index], num_starts = start(index), num_starts + 1
            time.sleep(0.05)
    finally:
        for pod in pods:
            pod.terminate()
            pod.wait()
    assert num_starts >= 4  # the other one was started again too
    assert_same_figures(run, whole)


def as_it_fits_here(command: list[str], run: Path) -> list[str]:
    """With one process a pod, that meet at this machine, and the short run in place of the example's."""
    changed = {
        "--nproc-per-node": "1",
        "--rdzv-endpoint": f"localhost:{free_port()}",
        "--out": str(run),
    }
    words = []
    for word in command:
        name, equals, _ = word.partition("=")
        if name in changed:
            word = name + equals + changed.pop(name)
        if word not in ("--data=/shared/data/pairs", "--compute.replicas=2"):
            words.append("debug" if word == "pilot_320m" else word)
    assert not changed and "debug" in words
    return [*words, *SHORT, "--checkpoint-every=1000"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
