"""Files that ask for more than there is, or end the process that reads them."""

import io
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trimask.media.limits import Limits
from trimask.media.rejection import Reason, Rejection
from trimask.prepare.decode import read_part
from trimask.sources import confined as module
from trimask.sources.confined import run_confined
from trimask.sources.item import Item
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import make_plan
from trimask.tables.parquet import rows_of


def read(path: Path, options: PrepareOptions) -> tuple[list[Item], list[Rejection]]:
    plan = make_plan(str(path), options)
    found = [item for part in plan.parts for item in read_part(part, options)]
    return [i for i in found if isinstance(i, Item)], [r for r in found if isinstance(r, Rejection)]


def test_values_come_one_by_one_and_a_process_is_used_again():
    assert list(run_confined(range, 3)) == [0, 1, 2]
    assert len(module._idle) == 1
    first = module._idle[0]
    assert list(run_confined(os.listdir, "/proc/self/fd")) and module._idle == [first]
    assert next(run_confined(range, 5)) == 0  # nobody wants the rest
    assert list(run_confined(sorted, "ba")) == ["a", "b"]


def test_two_at_once():
    both = zip(run_confined(range, 4), run_confined(range, 4), strict=True)
    assert list(both) == [(n, n) for n in range(4)]


def test_errors_and_ends_are_told():
    with pytest.raises(ValueError, match="no-such-file"):
        list(run_confined(os.listdir, "no-such-file"))
    with pytest.raises(ValueError, match="crashed"):
        list(run_confined(os._exit, 1))
    with pytest.raises(ValueError, match="needs more than 2 GB of memory"):
        list(run_confined(bytes, 4 << 30))
    assert list(run_confined(range, 2)) == [0, 1]


def test_no_code_of_the_current_folder_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("pickle", "random", "trimask"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_idle", [])
    assert list(run_confined(range, 2)) == [0, 1]
    module._end_all()


def test_one_large_value_that_all_rows_share(tmp_path: Path):
    """64 rows of one value of 60 MB take 3 kB on the disk, and 4 GB as rows."""
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int32()), pa.array([b"\0" * 60_000_000]))
    table = pa.table({"image": shared, "text": [str(n) for n in range(64)]})
    pq.write_table(table, tmp_path / "bomb.parquet", compression="zstd")
    assert (tmp_path / "bomb.parquet").stat().st_size < 10_000
    items, rejections = read(tmp_path / "bomb.parquet", PrepareOptions())
    assert 0 < len(items) < 8
    assert [(r.reason, r.detail) for r in rejections] == [
        (Reason.UNREADABLE_FILE, f"after {len(items)} items: it inflates to more than 200 times its size")
    ]


def test_rows_of_more_bytes_than_fit_are_set_aside_alone(tmp_path: Path):
    values = [b"x" * 10, b"x" * 5000, b"x" * 20]
    pq.write_table(pa.table({"image": values, "text": ["a", "b", "c"]}), tmp_path / "a.parquet")
    items, rejections = read(tmp_path / "a.parquet", PrepareOptions(limits=Limits(max_bytes=1000)))
    assert [item.text for item in items] == ["a", "c"]
    assert [(r.key, r.reason) for r in rejections] == [("a.parquet:1", Reason.OVERSIZED)]


def test_too_many_rows_for_so_few_bytes(tmp_path: Path):
    pq.write_table(pa.table({"text": pa.array(["a"] * 3_000_000)}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"3000000 rows by its footer, too many for \d+ bytes"):
        list(rows_of(tmp_path / "a.parquet", ["text"], 1000))


def test_rows_of_pages_that_do_not_fit_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A batch that has no room is cut smaller, and no row is given twice."""
    pq.write_table(pa.table({"text": [str(n) for n in range(200)]}), tmp_path / "a.parquet")
    whole = pq.ParquetFile.iter_batches

    def short_of_memory(self: pq.ParquetFile, batch_size: int, **others: Any):
        for number, batch in enumerate(whole(self, batch_size=batch_size, **others)):
            if batch_size > 1 and number == 2:
                raise MemoryError
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", short_of_memory)
    rows = [row for rows in rows_of(tmp_path / "a.parquet", ["text"], 1000) for row in rows]
    assert [row["text"] for row in rows if isinstance(row, dict)] == [str(n) for n in range(200)]


def test_damaged_files_are_reported(tmp_path: Path):
    drawn = random.Random(0)
    picture = io.BytesIO()
    PIL.Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(picture, format="PNG")
    table = pa.table({"image": [picture.getvalue()] * 20, "text": [f"t {n}" for n in range(20)]})
    pq.write_table(table, tmp_path / "whole.parquet")
    data = (tmp_path / "whole.parquet").read_bytes()
    for number in range(30):
        damaged = bytearray(data)
        for _ in range(4):
            damaged[drawn.randrange(len(data))] = drawn.randrange(256)
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(damaged)
        try:
            items, rejections = read(path, PrepareOptions())
        except ValueError as error:
            assert "column" in str(error)
        else:
            assert len(items) == 20 or rejections
