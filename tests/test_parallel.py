import os
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import pytest

from trimask.parallel import Local, Work, WorkerLost, block_interrupts


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers must find this module, from wherever the tests are started."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


@final
@dataclass(frozen=True)
class Squared(Work[int, int]):
    offset: int

    def __call__(self, item: int) -> int:
        return item * item + self.offset


@final
@dataclass(frozen=True)
class SeenGPU(Work[int, str]):
    """The GPU that the worker sees; long enough for each worker to get some."""

    folder: Path

    def __call__(self, item: int) -> str:
        (self.folder / f"{os.getpid()}").touch()
        end = time.monotonic() + 60
        while len(list(self.folder.iterdir())) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        return f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}"


@final
@dataclass(frozen=True)
class Dies(Work[int, int]):
    def __call__(self, item: int) -> int:
        os._exit(1)


def test_any_number_of_workers_gives_the_same():
    alone = sorted(Local(workers=1).run(Squared(1), range(20)))
    assert sorted(Local(workers=2).run(Squared(1), range(20))) == alone == [x * x + 1 for x in range(20)]


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = Local(workers=2).run(Squared(0), items())
    assert isinstance(results, Generator)
    next(results)
    assert len(taken) < 10
    results.close()


def test_with_nothing_ahead_an_item_is_taken_when_a_worker_is_free():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = Local(workers=2).run(Squared(0), items(), ahead=0)
    assert isinstance(results, Generator)
    next(results)
    assert len(taken) <= 4  # two begin; at most as many are over and followed before one is seen
    results.close()


@pytest.mark.parametrize("seen", [None, "7,9"])
def test_each_worker_sees_one_gpu_and_they_share_them_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: str | None
):
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    found = Local(workers=3, num_gpus=2).run(SeenGPU(tmp_path), range(6), ahead=0)
    by_worker = dict(each.split(" ", 1) for each in found)
    first, second = ("0", "1") if seen is None else seen.split(",")
    assert sorted(by_worker.values()) == [first, first, second]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen


def test_a_lost_worker_is_told():
    with pytest.raises(WorkerLost, match="run the same command again"):
        list(Local(workers=2).run(Dies(), range(3)))


@final
@dataclass(frozen=True)
class Slow(Work[int, int]):
    folder: Path

    def __call__(self, item: int) -> int:
        time.sleep(20)
        (self.folder / str(item)).touch()
        return item


def test_ctrl_c_ends_the_workers_at_once(tmp_path: Path):
    def items():
        yield from range(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Local(workers=2).run(Slow(tmp_path), items()))
    assert not list(tmp_path.iterdir())
    assert sorted(Local(workers=2).run(Squared(0), range(3))) == [0, 1, 4]  # others can be started


def test_a_process_never_gets_a_held_interrupt():
    with block_interrupts():
        program = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('goes on')"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "goes on\n" and not done.stderr


def test_no_workers():
    with pytest.raises(ValueError, match="workers 0"):
        Local(workers=0)
