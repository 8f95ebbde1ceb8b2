"""Processes that are killed, and that go on as more or fewer."""

import functools
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from trimask.training.tracker import WALL_CLOCK_FIELDS, read_metrics

SCRIPT = Path(__file__).with_name("killable_run.py")
NUM_STEPS = 40
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


class Runs:
    """Talks to `killable_run.py`."""

    def __init__(self, num_steps: int) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            env=ENVIRONMENT | {"NUM_STEPS": str(num_steps)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, out: Path, num_processes: int, fault: str = "0 none") -> list[int]:
        """Starts or resumes the run in `out`; returns its process ids."""
        assert self._server.stdin is not None
        print(num_processes, fault, out, file=self._server.stdin, flush=True)
        return self._next_numbers()

    def exit_codes(self) -> list[int]:
        return self._next_numbers()

    def _next_numbers(self) -> list[int]:
        assert self._server.stdout is not None
        return [int(word) for word in self._server.stdout.readline().split()]

    def close(self) -> None:
        self._server.communicate()  # closes its stdin, at which it ends


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    server = Runs(NUM_STEPS)
    yield server
    server.close()


def kill_many(runs: Runs, out: Path, num_processes: int, num_kills: int) -> None:
    """Kills a run as often, then lets it finish."""
    draws = random.Random(num_kills)
    for index in range(num_kills):
        # Half of them while it writes a checkpoint (the hidden folder is there), half at random.
        kill(runs, out, num_processes, draws, (".step_*.tmp", "step_*")[index % 2])
    finish(runs, out, num_processes)


@pytest.fixture(scope="module")
def whole_run(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A run of so many processes that nothing happened to."""

    @functools.cache
    def make(num_processes: int) -> Path:
        out = tmp_path_factory.mktemp("whole") / "run"
        finish(runs, out, num_processes)
        return out

    return make


def finish(runs: Runs, out: Path, num_processes: int, fault: str = "0 none") -> None:
    runs.start(out, num_processes, fault)
    assert runs.exit_codes() == [0] * num_processes


def figures(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in WALL_CLOCK_FIELDS} for row in read_metrics(run)]


def newest(run: Path) -> str:
    return max(path.name for path in (run / "checkpoints").glob("step_*"))


def parts(run: Path) -> dict[str, Tensor]:
    """What the files of the newest checkpoint hold, by process and name."""
    found = {}
    for path in sorted((run / "checkpoints" / newest(run)).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names = file.keys()  # (it is no dict, and cannot be iterated over)
            found |= {f"{path.name} {name}": file.get_tensor(name) for name in names}
    return found


def assert_same_run(run: Path, other: Path) -> None:
    assert figures(run) == figures(other)
    assert len(figures(run)) >= 9
    mine, others = parts(run), parts(other)
    assert mine.keys() == others.keys()
    assert all(torch.equal(mine[name], others[name]) for name in mine)


def wait_for_new(folder: Path, pattern: str) -> None:
    """Returns once something that was not there before matches."""
    before = set(folder.glob(pattern))
    limit = time.monotonic() + 60
    while not set(folder.glob(pattern)) - before:
        assert time.monotonic() < limit, f"nothing in {folder} matches {pattern}"


def kill(runs: Runs, out: Path, num_processes: int, draws: random.Random, pattern: str) -> None:
    """Kills one process of the run soon after a name turns up in its folder; the others end by themselves."""
    processes = runs.start(out, num_processes)
    wait_for_new(out / "checkpoints", pattern)
    time.sleep(draws.uniform(0, 0.1 if pattern == "step_*" else 0.002))
    victim = draws.randrange(num_processes)
    os.kill(processes[victim], signal.SIGKILL)
    codes = runs.exit_codes()
    assert codes[victim] == -signal.SIGKILL and 0 not in codes


@pytest.mark.parametrize(("num_processes", "num_kills"), [(1, 3), (2, 2)])
def test_killed_runs_resume_to_the_same_numbers(
    num_processes: int, num_kills: int, runs: Runs, whole_run: Callable[[int], Path], tmp_path: Path
) -> None:
    kill_many(runs, tmp_path / "run", num_processes, num_kills)
    assert_same_run(tmp_path / "run", whole_run(num_processes))


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
def test_runs_killed_25_times_resume_to_the_same_numbers(num_processes: int, tmp_path: Path) -> None:
    runs = Runs(num_steps=500)
    kill_many(runs, tmp_path / "killed", num_processes, 25)
    finish(runs, tmp_path / "whole", num_processes)
    runs.close()
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("sizes", [(2, 1), (2, 4), (1, 2)])
def test_a_run_goes_on_with_more_or_fewer_processes(
    sizes: tuple[int, int], runs: Runs, whole_run: Callable[[int], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    # Interrupted in one process: all stop at the same update.
    finish(runs, run, sizes[0], "23 SIGINT")
    assert newest(run) == "step_00000023"
    finish(runs, run, sizes[1])
    rows, others = figures(run), figures(whole_run(1))
    assert [row.keys() for row in rows] == [row.keys() for row in others]
    for row, other in zip(rows, others, strict=True):
        for name, value in row.items():
            assert math.isclose(value, other[name], rel_tol=1e-4), (row["step"], name)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_full_disk_stops_all_processes_and_leaves_a_whole_checkpoint(
    num_processes: int,
    runs: Runs,
    whole_run: Callable[[int], Path],
    tmp_path: Path,
) -> None:
    runs.start(tmp_path / "run", num_processes, "20 ENOSPC")
    assert runs.exit_codes() == [2] * num_processes
    assert newest(tmp_path / "run") in ("step_00000018", "step_00000019")  # 19 may have been under way
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    finish(runs, tmp_path / "run", num_processes)
    assert_same_run(tmp_path / "run", whole_run(num_processes))


def test_a_truncated_newest_of_two_processes_is_set_aside(
    runs: Runs, whole_run: Callable[[int], Path], tmp_path: Path
) -> None:
    finish(runs, tmp_path / "run", 2, "23 SIGINT")
    (path,) = (tmp_path / "run" / "checkpoints" / "step_00000023").glob("shard-00002-*")
    path.write_bytes(path.read_bytes()[:-1])
    finish(runs, tmp_path / "run", 2)
    assert (tmp_path / "run" / "checkpoints" / "step_00000023.corrupt").is_dir()
    assert_same_run(tmp_path / "run", whole_run(2))


@pytest.mark.slow
def test_torchrun_starts_killed_workers_again(whole_run: Callable[[int], Path], tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    process = subprocess.Popen(
        [*launcher, "--max-restarts=3", "--monitor-interval=0.1", str(SCRIPT), str(tmp_path / "killed")],
        env=ENVIRONMENT | {"NUM_STEPS": str(NUM_STEPS)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        errors = process.communicate(timeout=300)[1]
    finally:
        process.terminate()  # where it hangs: it ends its workers
    assert process.returncode == 0, errors
    assert errors.count("failed (exitcode: -9)") == 2
    assert_same_run(tmp_path / "killed", whole_run(2))
