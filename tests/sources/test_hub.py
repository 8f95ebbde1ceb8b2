"""Data sets on the hub. A local one stands for them: the same library finds and reads it."""

import io
import json
import tarfile
from collections.abc import Iterator
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
from trimask.sources import confined
from trimask.sources.columns import ColumnError
from trimask.sources.hub import HubData, _with_bytes, hub_rows, shards_of
from trimask.sources.item import Item, SourceUnavailable
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import Part, hub_readers
from trimask.tables.parquet import rows_of, schema_of

DEFAULTS = PrepareOptions()


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Also for the processes that read."""
    monkeypatch.setattr("datasets.config.HF_UPDATE_DOWNLOAD_COUNTS", False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(confined, "_idle", [])
    yield
    confined._end_all()


def at(folder: Path) -> Path:
    """Where data lies: beside the library's cache, and under a name without the word of a split."""
    path = folder / "data"
    path.mkdir(exist_ok=True)
    return path


def named(folder: Path) -> HubData:
    return HubData(dataset=str(folder / "data"), configuration=None, revision=None)


def read(folder: Path, options: PrepareOptions = DEFAULTS) -> dict[str | None, list[Item | Rejection]]:
    found: dict[str | None, list[Item | Rejection]] = {}
    readers, _ = hub_readers(str(folder / "data"), options)
    for number, (reader, split) in enumerate(readers):
        found.setdefault(split, []).extend(
            read_part(Part(number=number, reader=reader, split=split), options)
        )
    return found


def texts(found: list[Item | Rejection]) -> list[str]:
    return [item.text if isinstance(item, Item) else f"{item.reason}: {item.detail}" for item in found]


def test_its_own_splits(tmp_path: Path):
    for name, words in (("train-0", ["a", "b"]), ("train-1", ["c"]), ("test-0", ["d"])):
        pq.write_table(pa.table({"text": words}), at(tmp_path) / f"{name}.parquet")
    found = {split: texts(items) for split, items in read(tmp_path).items()}
    assert found == {"train": ["a", "b", "c"], "test": ["d"]}
    ((reader, _), *_), _ = hub_readers(str(at(tmp_path)), DEFAULTS)
    reader.check(DEFAULTS)
    with pytest.raises(ColumnError, match=r"no column 'words' .* only text"):
        reader.check(PrepareOptions(text_column="words"))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "txt"])
def test_every_format_that_the_library_reads(tmp_path: Path, kind: str):
    rows = [f"text {n}" for n in range(150)]
    path = at(tmp_path) / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"text": rows}), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    else:
        path.write_text("".join(f"{row}\n" for row in ["text", *rows][kind == "txt" :]))
    (found,) = read(tmp_path).values()
    assert texts(found) == rows


def test_archives_of_pictures(tmp_path: Path):
    picture = io.BytesIO()
    PIL.Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(picture, format="PNG")
    with tarfile.open(at(tmp_path) / "a.tar", "w") as archive:
        for number in range(3):
            for suffix, data in (("png", picture.getvalue()), ("txt", b"number %d" % number)):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    (found,) = read(tmp_path).values()
    assert texts(found) == ["number 0", "number 1", "number 2"]
    assert [item.image for item in found if isinstance(item, Item)] == [picture.getvalue()] * 3


def test_a_row_group_is_not_held_whole(tmp_path: Path):
    """The library would: a shard of one row group would take its whole size."""
    chunk = pa.array([b"x" * 100_000] * 20)
    table = pa.table({"image": pa.chunked_array([chunk] * 100), "text": [str(n) for n in range(2000)]})
    pq.write_table(table, at(tmp_path) / "a.parquet", row_group_size=2000, use_dictionary=False)
    before = pa.total_allocated_bytes()
    count, most = 0, 0
    for found in hub_rows(named(tmp_path), "train", (0, 1), ["image", "text"], 10**6):
        count += len(found)
        most = max(most, pa.total_allocated_bytes() - before)
    assert count == 2000 and most < 40_000_000 < table.nbytes / 4


def test_files_elsewhere_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import fsspec

    table = pa.table(
        {"image": [bytes([n]) * 100_000 for n in range(200)], "text": [str(n) for n in range(200)]}
    )
    with fsspec.open("memory://folder/a.parquet", "wb") as file:
        pq.write_table(table, file, use_dictionary=False, compression="none")
    found = [row for rows in rows_of("memory://folder/a.parquet", ["image", "text"], 10**6) for row in rows]
    assert found == table.to_pylist()
    (schema,) = schema_of("memory://folder/a.parquet")
    assert schema == table.schema


def test_values_beyond_the_limit_are_set_aside_alone(tmp_path: Path):
    values = [b"x" * 10, b"x" * 5000, b"x" * 20]
    pq.write_table(pa.table({"image": values, "text": ["a", "b", "c"]}), at(tmp_path) / "a.parquet")
    (found,) = read(tmp_path, PrepareOptions(limits=Limits(max_bytes=1000))).values()
    assert texts(found)[::2] == ["a", "c"]
    assert isinstance(found[1], Rejection) and found[1].reason == Reason.OVERSIZED


def test_what_takes_too_much_memory_is_read_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    lines = "".join(json.dumps({"text": str(n)}) + "\n" for n in range(200))
    (at(tmp_path) / "a.jsonl").write_text(lines)
    whole = datasets.IterableDataset.iter

    def short_of_memory(self: datasets.IterableDataset, batch_size: int, **others: Any):
        for number, batch in enumerate(whole(self, batch_size=batch_size, **others)):
            if batch_size > 1 and number == 2:
                raise MemoryError
            yield batch

    monkeypatch.setattr(datasets.IterableDataset, "iter", short_of_memory)
    found = [row for rows in hub_rows(named(tmp_path), "train", (0, 1), ["text"], 1000) for row in rows]
    assert [row["text"] for row in found if isinstance(row, dict)] == [str(n) for n in range(200)]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_damage_is_no_lost_connection(tmp_path: Path, suffix: str):
    rows = {"text": [f"a text of some words {n}" for n in range(5000)]}
    path = at(tmp_path) / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table(rows), path, compression="none", use_dictionary=False)
        data = bytearray(path.read_bytes())
        data[50:90] = b"\xff" * 40
        path.write_bytes(data)
    else:
        path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows["text"]) + '{"text": "cut')
    (found,) = read(tmp_path).values()
    assert isinstance(found[-1], Rejection) and found[-1].reason == Reason.UNREADABLE_FILE


def test_files_on_the_hub_are_fetched_as_far_as_they_may(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datasets.utils.file_utils.xopen", lambda path, mode: io.BytesIO(path.encode()))
    row = {
        "image": {"bytes": None, "path": "hf://x"},
        "audio": {"bytes": None, "path": "/etc/passwd"},
        "text": "hf://y",
    }
    assert _with_bytes(row, 6) == {**row, "image": {"bytes": b"hf://x", "path": "hf://x"}}
    assert _with_bytes(row, 5) == 6


def test_a_lost_connection_is_no_damage(monkeypatch: pytest.MonkeyPatch):
    """Nothing is set aside for it: it travels out of the process that reads as what it is."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(SourceUnavailable, match=r"owner/none .* cannot be reached"):
        list(
            confined.run_confined(shards_of, HubData(dataset="owner/none", configuration=None, revision=None))
        )


def test_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub.errors import RepositoryNotFoundError

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    none = HubData(dataset="owner/none", configuration=None, revision=None)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.load_dataset_builder", None)
    with pytest.raises(SourceUnavailable, match="check the name or the connection"):
        list(shards_of(none))

    def unknown(*_: object, **__: object) -> None:
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unknown)
    with pytest.raises(ValueError, match="neither a local file or folder nor a data set on the hub"):
        list(shards_of(none))
