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
