import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

import pytest

from trimask.parallel import Local, Work, WorkerLost


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
    next(results)
    assert len(taken) < 10
    results.close()  # type: ignore[attr-defined]


def test_a_lost_worker_is_told():
    with pytest.raises(WorkerLost, match="run the same command again"):
        list(Local(workers=2).run(Dies(), range(3)))


def test_no_workers():
    with pytest.raises(ValueError, match="workers 0"):
        Local(workers=0)
