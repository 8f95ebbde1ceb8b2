"""How far a part is, told while it runs."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

import pytest

from trimask.parallel import Local, Work
from trimask.prepare import tally
from trimask.prepare.tally import RUNNING, Counts, ProgressTracker, Tally


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers must find this module, from wherever the tests are started."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SlowPart(Work[int, int]):
    """A part of three items, which then waits until it is told that it was seen."""

    out: Path

    def __call__(self, item: int) -> int:
        with Tally(self.out, item) as counted:
            for _ in range(3):
                time.sleep(tally._INTERVAL)
                counted.add()
            while not (self.out / "seen").exists():
                time.sleep(0.01)
        return item


@pytest.mark.parametrize("workers", [1, 2])
def test_items_within_parts_are_told_before_any_part_is_done(tmp_path: Path, workers: int) -> None:
    tracker = ProgressTracker(tmp_path, num_parts=3, num_done=1, items=5, num_items=11)
    told: list[Counts] = []

    def show(counts: Counts) -> None:
        told.append(counts)
        if counts.fresh_items >= 3 * workers or counts.items == 10:
            (tmp_path / "seen").touch()

    with tracker.report_periodically(show, interval=0.05) as now:
        now()
        for _ in Local(workers=workers).run(SlowPart(out=tmp_path), range(2)):
            tracker.finish(3)
            now()
    within = [counts.items for counts in told if counts.num_fresh == 0]
    # The last item counts as done only when its part is.
    assert within[0] == 5 and max(within) == {1: 8, 2: 10}[workers] and within == sorted(within)
    assert told[-1] == Counts(num_done=3, num_parts=3, num_fresh=2, items=11, fresh_items=6, num_items=11)
    assert told[-1].share_left == 0
    assert not (tmp_path / RUNNING).exists()


def test_what_a_killed_process_left_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / RUNNING).mkdir()
    (tmp_path / RUNNING / "000000").write_text("400")
    told: list[Counts] = []
    with ProgressTracker(tmp_path, num_parts=1, num_done=0, items=0).report_periodically(told.append) as now:
        now()
        (tmp_path / RUNNING).mkdir()
        (tmp_path / RUNNING / "000000").write_text("")  # being written
        (tmp_path / RUNNING / ".DS_Store").write_bytes(b"\0\xff")
        now()
    assert [counts.items for counts in told] == [0, 0]


@pytest.mark.parametrize(
    ("counts", "left"),
    [
        (Counts(num_done=0, num_parts=1, num_fresh=0, items=25, fresh_items=25, num_items=100), 3.0),
        (Counts(num_done=0, num_parts=1, num_fresh=0, items=25, fresh_items=0, num_items=100), None),
        (Counts(num_done=2, num_parts=4, num_fresh=1, items=25, fresh_items=9), 2.0),
        (Counts(num_done=0, num_parts=4, num_fresh=0, items=25, fresh_items=25), None),
        (Counts(num_done=4, num_parts=4, num_fresh=0, items=25, fresh_items=0, num_items=30), 0.0),
    ],
)
def test_time_left_follows_items_where_they_are_known_else_parts(counts: Counts, left: float | None) -> None:
    assert counts.share_left == left
