"""Readers: every item once, whatever is wrong with its neighbours."""

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trimask.media.limits import Limits
from trimask.media.rejection import Rejection
from trimask.sources.columns import ColumnError
from trimask.sources.files import MediaFiles
from trimask.sources.hugging_face import ParquetFile
from trimask.sources.item import Item, Reader
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import make_plan, split_name

DEFAULTS = PrepareOptions()


def read(source: Path, options: PrepareOptions = DEFAULTS) -> tuple[list[Item], dict[str, str]]:
    """All items, and reason by key."""
    plan = make_plan(str(source), options)
    found = [item for part in plan.parts for item in part.reader.items(options)]
    items = [item for item in found if isinstance(item, Item)]
    return items, {item.key: item.reason.value for item in found if isinstance(item, Rejection)}


def names_of(reader: Reader) -> tuple[str, ...]:
    assert isinstance(reader, MediaFiles)
    return reader.names


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def archive(path: Path, members: dict[str, bytes], mode: Literal["w", "w:gz"] = "w") -> None:
    with tarfile.open(path, mode) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def test_captions_beside_files(tmp_path: Path):
    write(tmp_path, {"a.png": "A", "a.txt": "an a", "sub/b.wav": "B", "sub/b.txt": "a b", "c.jpg": "C"})
    write(tmp_path, {"README.txt": "x", ".hidden.png": "x", "notes.doc": "x"})
    items, rejected = read(tmp_path)
    assert [(item.key, item.text) for item in items] == [("a.png", b"an a"), ("sub/b.wav", b"a b")]
    assert items[0].image == tmp_path / "a.png" and items[0].speech is None
    assert items[1].modalities == {"text", "speech"}
    assert rejected == {"c.jpg": "no_text", "README.txt": "unused_file", "notes.doc": "unused_file"}


def test_what_is_no_file_is_not_opened(tmp_path: Path):
    write(tmp_path, {"a.txt": "text"})
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "broken.csv").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    items, rejected = read(tmp_path)
    assert [item.text for item in items] == [b"text"]
    assert set(rejected) == {"broken.txt", "broken.csv", "pipe.txt"}


def test_a_table_names_the_files(tmp_path: Path):
    table = (
        "﻿file_name,caption,speaker\n"
        'a.png,"two\nlines, and ""quotes""",ann\n'
        "clip.wav,said,ben\n"
        "missing.png,x,y\n"
        "../outside.png,x,y\n"
        "a.png,too,many,cells\n"
        "\n"
        "b.gif,last,ann\n"
    )
    source = write(
        tmp_path / "in", {"metadata.csv": table, "a.png": "A", "clips/clip.wav": "W", "b.gif": "B"}
    )
    write(tmp_path, {"outside.png": "secret"})
    write(source, {"unnamed.png": "x"})
    items, rejected = read(source, PrepareOptions(speaker_column="speaker"))
    assert [item.text for item in items] == ['two\nlines, and "quotes"', "said", "last"]
    assert [item.speaker for item in items] == ["ann", "ben", "ann"]
    assert items[0].image == source / "a.png" and items[1].speech == source / "clips/clip.wav"
    assert sorted(rejected.values()) == ["malformed_row", "missing_file", "missing_file", "no_text"]
    assert rejected["unnamed.png"] == "no_text"


@pytest.mark.parametrize("first", ["file_name", "image"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_table_of_triples(tmp_path: Path, first: str, suffix: str):
    rows = [
        {first: "a.png", "audio": "a.wav", "text": "both"},
        {first: "b.png", "audio": "", "text": "no recording"},
        {first: "", "audio": "c.wav", "text": "no picture"},
        {first: "", "audio": "", "text": "nothing"},
        {first: "a.wav", "audio": "c.wav", "text": "two recordings"},
        {first: "b.png", "audio": "gone.wav", "text": "lost"},
        {first: "notes.doc", "audio": "c.wav", "text": "no picture"},
    ]
    if suffix == ".csv":
        lines = [",".join(row) for row in [list(rows[0]), *(row.values() for row in rows)]]
    else:
        lines = [json.dumps({name: value or None for name, value in row.items()}) for row in rows]
    source = write(tmp_path, {f"metadata{suffix}": "\n".join(lines)})
    write(source, {"a.png": "A", "b.png": "B", "a.wav": "a", "c.wav": "c"})
    items, rejected = read(source)
    pair, said = {"text", "image"}, {"text", "speech"}
    assert [(item.text, item.modalities, item.image, item.speech) for item in items] == [
        ("both", pair | said, source / "a.png", source / "a.wav"),
        ("no recording", pair, source / "b.png", None),
        ("no picture", said, None, source / "c.wav"),
    ]
    assert list(rejected.values()) == ["missing_file", "malformed_row", "missing_file", "unused_file"]


def test_only_one_more_column_names_files_and_of_the_other_kind(tmp_path: Path):
    row = {"file_name": "a.png", "image": "b.png", "audio": "a.wav", "speech": "b.wav", "text": "said"}
    source = write(tmp_path, {"metadata.jsonl": json.dumps(row), "a.png": "A", "a.wav": "a"})
    items, rejected = read(source)
    assert [(item.image, item.speech) for item in items] == [(source / "a.png", source / "a.wav")]
    assert not rejected
    items, _ = read(source, PrepareOptions(audio_column="audio"))
    assert [(item.image, item.speech) for item in items] == [(None, source / "a.wav")]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl"])
def test_ranges_of_a_table_share_its_rows_out(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    texts = [f'text {i}, "said"\nand more' for i in range(40)]
    if name.endswith("jsonl"):
        content = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    else:
        quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
        content = "text,n,\t\n"[:4] + "\n" + "\n".join(quoted) + "\n"
    write(tmp_path, {name: content})
    monkeypatch.setattr("trimask.sources.plan._ROWS_PER_PART", 7)
    monkeypatch.setattr("trimask.sources.plan._TABLE_BYTES", 100)
    assert len(make_plan(str(tmp_path), DEFAULTS).parts) > 3
    items, rejected = read(tmp_path)
    assert [item.text for item in items] == texts and not rejected
    assert len({item.key for item in items}) == len(texts)


def test_bad_lines_of_json_are_set_aside_alone(tmp_path: Path):
    lines = [b'{"text": "one"}', b"{broken", b"[1]", b'{"text": "\xff"}', b"", b'{"text": "two"}']
    write(tmp_path, {"a.jsonl": b"\n".join(lines)})
    items, rejected = read(tmp_path)
    assert [item.text for item in items] == ["one", "two"]
    assert list(rejected.values()) == ["malformed_row", "malformed_row", "not_utf8"]


def test_a_table_that_names_other_files_is_text(tmp_path: Path):
    write(tmp_path, {"a.jsonl": '{"path": "src/a.py", "text": "code"}\n', "b.csv": "file,text\nx.c,more\n"})
    items, rejected = read(tmp_path)
    assert [(item.text, set(item.modalities)) for item in items] == [
        ("code", {"text"}),
        ("more", {"text"}),
    ]
    assert not rejected


def test_documents_paragraphs_lines(tmp_path: Path):
    write(tmp_path, {"a.txt": "one\ntwo\n\n\nthree\r\n", "b.txt": "four"})
    texts = {
        how: [item.text for item in read(tmp_path, PrepareOptions(sample_by=how))[0]]
        for how in ("document", "paragraph", "line")
    }
    assert texts["document"] == [b"one\ntwo\n\n\nthree\r\n", b"four"]
    assert texts["paragraph"] == [b"one\ntwo", b"three", b"four"]
    assert texts["line"] == [b"one", b"two", b"three", b"four"]


def test_a_long_document_is_not_read(tmp_path: Path):
    write(tmp_path, {"a.txt": "x" * 100, "b.txt": "short\n\n" + "y" * 100})
    for how in ("document", "paragraph", "line"):
        options = PrepareOptions(sample_by=how, limits=Limits(max_bytes=50))
        items, rejected = read(tmp_path, options)
        assert set(rejected.values()) == {"oversized"} and len(rejected) == 2
        assert [item.text for item in items] == ([] if how == "document" else [b"short"])


def test_an_archive(tmp_path: Path):
    members = {
        "x/0.png": b"P0",
        "x/0.txt": b"first",
        "x/1.png": b"P1",
        "x/2.png": b"P2",
        "x/2.txt": b"third",
        "x/3.txt": b"no picture",
        "x/4.png": b"P" * 99,
        "x/4.txt": b"large",
        "README": b"x",
    }
    archive(tmp_path / "data.tar", members)
    items, rejected = read(tmp_path, PrepareOptions(limits=Limits(max_bytes=50)))
    assert [(item.key, item.image, item.text) for item in items] == [
        ("data.tar:x/0", b"P0", b"first"),
        ("data.tar:x/2", b"P2", b"third"),
    ]
    assert rejected == {
        "data.tar:x/1": "columns",
        "data.tar:x/3": "empty",
        "data.tar:x/4.png": "oversized",
        "data.tar:x/4": "empty",
    }


def test_a_caption_that_lost_its_picture_is_no_text(tmp_path: Path):
    archive(tmp_path / "data.tar", {"0.txt": b"alone", "1.txt": b"with", "1.png": b"P"})
    items, rejected = read(tmp_path)
    assert [item.text for item in items] == [b"with"] and rejected == {"data.tar:0": "empty"}


def test_an_archive_with_captions_in_json(tmp_path: Path):
    members = {"0.jpg": b"J", "0.json": b'{"caption": "zero"}', "1.jpg": b"J", "1.json": b"{"}
    archive(tmp_path / "data.tar.gz", members, "w:gz")
    items, rejected = read(tmp_path)
    assert [item.text for item in items] == ["zero"]
    assert list(rejected.values()) == ["malformed_row", "columns"]


def test_an_archive_that_is_cut_keeps_what_was_before(tmp_path: Path):
    archive(
        tmp_path / "data.tar", {f"{i}.{suffix}": b"x" * 600 for i in range(9) for suffix in ("png", "txt")}
    )
    whole = (tmp_path / "data.tar").read_bytes()
    (tmp_path / "data.tar").write_bytes(whole[:6000])
    (part,) = make_plan(str(tmp_path), DEFAULTS).parts
    found: list[Item | Rejection] = []
    with pytest.raises(tarfile.TarError):
        found.extend(part.reader.items(DEFAULTS))
    assert 0 < len(found) < 9
    (tmp_path / "more.tar.gz").write_bytes(gzip.compress(whole)[:100])  # ends within its first example
    (_, more) = make_plan(str(tmp_path), DEFAULTS).parts
    with pytest.raises(EOFError):  # told, rather than an archive without members
        list(more.reader.items(DEFAULTS))


def test_parquet(tmp_path: Path):
    rows = {
        "image": [
            {"bytes": b"P", "path": None},
            {"bytes": None, "path": "a.png"},
            {"bytes": None, "path": "b.png"},
        ],
        "info": [{"caption": "one"}, {"caption": "two"}, {"caption": "three"}],
        "other": [1, 2, 3],
    }
    write(tmp_path, {"a.png": "A"})
    pq.write_table(pa.table(rows), tmp_path / "data.parquet")
    reader = ParquetFile(root=tmp_path, name="data.parquet")
    first, second, third = reader.items(DEFAULTS)
    assert isinstance(first, Item) and (first.image, first.text, first.key) == (b"P", "one", "data.parquet:0")
    assert isinstance(second, Item) and (second.image, second.text) == (tmp_path / "a.png", "two")
    assert isinstance(third, Rejection) and third.reason == "missing_file"
    with pytest.raises(ColumnError, match=r"only image, info, info.caption, other"):
        reader.check(PrepareOptions(text_column="words"))


def test_splits_that_the_source_names(tmp_path: Path):
    write(tmp_path, {"train/a.png": "x", "val/b.png": "x", "val/test_2.png": "x", "other/c.png": "x"})
    plan = make_plan(str(tmp_path), DEFAULTS)
    splits = {name: part.split for part in plan.parts for name in names_of(part.reader)}
    assert splits == {
        "train/a.png": "train",
        "val/b.png": "validation",
        "val/test_2.png": "validation",
        "other/c.png": None,
    }
    assert plan.own_splits == {"train", "validation"}
    names = {"train-00000-of-00002": "train", "dev": "validation", "test_1": "test", "testimony": None}
    assert {name: split_name(name) for name in names} == names


def test_the_plan_is_the_same_until_the_source_changes(tmp_path: Path):
    write(tmp_path, {"a.txt": "one", "b.txt": "two"})
    first = make_plan(str(tmp_path), DEFAULTS)
    assert make_plan(str(tmp_path), DEFAULTS) == first
    write(tmp_path, {"b.txt": "three"})
    assert make_plan(str(tmp_path), DEFAULTS).fingerprint != first.fingerprint


def test_sources_that_are_none(tmp_path: Path):
    with pytest.raises(ValueError, match="has no files"):
        make_plan(str(tmp_path), DEFAULTS)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        make_plan(str(tmp_path / "nowhere"), DEFAULTS)
    write(tmp_path, {"a.csv": "x,y\n1,2\n"})
    with pytest.raises(ColumnError, match=r"a.csv has no text column, only x, y"):
        make_plan(str(tmp_path), DEFAULTS)
    for mistyped in ("photos", "photos/"):  # no name of a data set: the hub is not asked
        with pytest.raises(FileNotFoundError, match="owner/name"):
            make_plan(mistyped, DEFAULTS)
