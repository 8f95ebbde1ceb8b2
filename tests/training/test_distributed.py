"""The same updates in one process and in many."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from trimask import io
from trimask.data.stream import deal
from trimask.errors import UserError
from trimask.training.compute import ComputeConfig, Precision
from trimask.training.distributed import World, open_world

Run = tuple[list[dict[str, float]], dict[str, torch.Tensor]]
"""The metrics of each update, and the weights and their average at the end."""

SCRIPT = Path(__file__).parent / "distributed_steps.py"


def launch(out: Path, num_processes: int, *words: str) -> Run:
    """Metrics of `distributed_steps.py`, its final weights and their average; with 1 process, without
    torchrun.
    """
    out.mkdir()
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    command = [sys.executable, *(torchrun if num_processes > 1 else []), str(SCRIPT), str(out), *words]
    paths = os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((out / "metrics.json").read_text())
    tensors = {
        f"{name} {tensor}": value
        for name in ("model", "average")
        for tensor, value in io.load_tensors(out / f"{name}.safetensors", kind="denoiser").tensors.items()
    }
    return metrics, tensors


def assert_equal(one: Run, other: Run, *, rtol: float = 1e-4) -> None:
    (rows, weights), (other_rows, other_weights) = one, other
    for row, other_row in zip(rows, other_rows, strict=True):
        assert row == pytest.approx(other_row, rel=rtol, nan_ok=True)
    for name, tensor in weights.items():
        torch.testing.assert_close(other_weights[name], tensor, rtol=10 * rtol, atol=rtol, msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return launch(tmp_path_factory.mktemp("alone") / "run", 1)


@pytest.mark.parametrize(
    ("num_processes", "words"),
    [
        (2, ["micro_batch=2", 'recompute="selective"']),
        (2, ["replicas=2"]),
        pytest.param(4, ["replicas=2"], id="hybrid", marks=pytest.mark.slow),
        pytest.param(2, ["reshard=false", 'recompute="full"'], marks=pytest.mark.slow),
        pytest.param(4, ["micro_batch=1"], marks=pytest.mark.slow),
        pytest.param(3, [], marks=pytest.mark.slow),
    ],
)
def test_the_same_updates_in_many_processes(alone: Run, tmp_path: Path, num_processes: int, words: list[str]):
    """13 sequences of three tasks in rows of different number; parameters that no number divides."""
    assert_equal(alone, launch(tmp_path / "run", num_processes, *words))


@pytest.mark.slow
def test_the_same_updates_with_two_views(tmp_path: Path):
    words = ["anti_masking=true"]
    assert_equal(launch(tmp_path / "one", 1, *words), launch(tmp_path / "two", 2, *words, "micro_batch=2"))


@pytest.mark.slow
def test_the_same_updates_without_qk_norm_and_with_a_loss_over_all_codes(tmp_path: Path):
    words = ["model.qk_norm=none", "model.normalization=all"]
    assert_equal(launch(tmp_path / "one", 1, *words), launch(tmp_path / "two", 2, *words))


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "rtol"), [("bf16", 0.03), ("float8", 0.2)])
def test_low_precision_is_close(alone: Run, tmp_path: Path, precision: str, rtol: float):
    """Matrix products alone are rounded: masters and moments are fp32."""
    rows, weights = launch(tmp_path / "run", 2, f'precision="{precision}"')
    for row, other in zip(rows, alone[0], strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=rtol)
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    assert rows[0]["loss"] == pytest.approx(alone[0][0]["loss"], rel=1e-5)  # a uniform prediction


@pytest.mark.parametrize("num_parts", [1, 2, 5, 8])
def test_all_parts_have_as_much_to_do(num_parts: int):
    sizes = [100, 3, 50, 50, 7, 99, 1, 20, 21, 22, 60, 61, 5]
    parts = [deal(sizes, rank=rank, num_parts=num_parts) for rank in range(num_parts)]
    assert sorted(place for part in parts for place in part) == list(range(len(sizes)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    loads = [sum(sizes[place] for place in part) for part in parts]
    assert max(loads) - min(loads) <= max(sizes)


def test_a_world_of_one_decides_alone():
    with open_world("cpu") as world:
        assert (world.size, world.is_main, world.mesh) == (1, True, None)
        assert world.any(True) and not world.any(False)
        assert world.gather(3) == [3]
        with pytest.raises(UserError, match="shared"), world.main_first():
            raise UserError("shared")
        assert torch.equal(world.total(torch.tensor([1, 2])), torch.tensor([1, 2]))
    assert World().device.type == "cpu"


def test_the_main_process_goes_first_and_its_errors_are_everyones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads in the place of two processes, which meet where `gather` does."""
    meeting, values = threading.Barrier(2, timeout=60), [None, None]

    def gather(found: list[Any], value: Any, group: None) -> None:
        values[int(threading.current_thread().name)] = value
        meeting.wait()
        found[:] = values
        meeting.wait()

    monkeypatch.setattr(dist, "all_gather_object", gather)
    succeeded: list[int] = []
    failed: list[int] = []
    errors: dict[int, str] = {}

    def run(rank: int) -> None:
        world = World(rank=rank, size=2, control=group)
        with world.main_first():
            time.sleep(0.0 if rank else 0.2)  # the other one would be faster
            succeeded.append(rank)
        try:
            with world.main_first():
                failed.append(rank)
                raise UserError(f"of {rank}")
        except UserError as error:
            errors[rank] = str(error)

    make_group: Any = dist.ProcessGroup  # its stubs lack this constructor
    group = make_group(0, 2)
    threads = [threading.Thread(target=run, args=(rank,), name=str(rank)) for rank in (1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert succeeded == [0, 1]
    assert failed == [0]  # after an error of the main process, the others do not begin
    assert errors == {0: "of 0", 1: "of 0"}


def test_replicas_must_divide_the_processes():
    world = open_world("cpu", replicas=2)
    with pytest.raises(ValueError, match="replicas 2: must divide the 1 processes"), world:
        pass


def test_precision_follows_the_device():
    compute = ComputeConfig()
    assert compute.precision_on(torch.device("cpu")) is Precision.FP32
    assert compute.precision_on(torch.device("cuda")) is Precision.BF16
    assert ComputeConfig(precision=Precision.FP32).precision_on(torch.device("cuda")) is Precision.FP32
    assert (compute.data_workers_on(torch.device("cpu")), compute.data_workers_on(torch.device("cuda"))) == (
        0,
        2,
    )
