"""Files as people have them: each picture and recording with its text, each document, or a reason by name."""

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trimask.media.names import find_named
from trimask.media.recording import decode_recording
from trimask.media.rejection import Rejection
from trimask.prepare.decode import read_part
from trimask.prepare.passages import clean_text
from trimask.sources.columns import ColumnError
from trimask.sources.item import Item
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import make_plan

DEFAULTS = PrepareOptions()


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read(source: Path, options: PrepareOptions = DEFAULTS) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """(file or "", text) of the items, and why by key."""
    found: list[tuple[str, str]] = []
    rejected: dict[str, str] = {}
    for part in make_plan(str(source), options).parts:
        for item in read_part(part, options):
            if isinstance(item, Rejection):
                rejected[item.key] = f"{item.reason.value}: {item.detail}"
                continue
            assert isinstance(item, Item)
            media = item.image or item.speech
            name = media.relative_to(source).as_posix() if isinstance(media, Path) else ""
            found.append((name, clean_text(item.text)))
    return found, rejected


def test_ljspeech(tmp_path: Path) -> None:
    table = "".join(f'LJ{n}|"It was {n}, he said.|It was number {n}, "he said.\n' for n in range(4))
    write(tmp_path, {"metadata.csv": table, "README": "x"} | {f"wavs/LJ{n}.wav": "W" for n in range(4)})
    found, rejected = read(tmp_path)
    assert found == [(f"wavs/LJ{n}.wav", f'It was number {n}, "he said.') for n in range(4)]
    assert list(rejected) == ["README"]


def test_librispeech(tmp_path: Path) -> None:
    place = "dev-clean/84/121123/84-121123"
    table = "".join(f"84-121123-{n:04d} THEN, IT WAS NUMBER {n}\n" for n in range(3))
    write(tmp_path, {f"{place}.trans.txt": table, "SPEAKERS.TXT": "84 | F", "README.TXT": "about"})
    write(tmp_path, {f"{place}-{n:04d}.flac": "F" for n in range(3)})
    found, rejected = read(tmp_path)
    assert found == [(f"{place}-{n:04d}.flac", f"THEN, IT WAS NUMBER {n}") for n in range(3)]
    assert list(rejected) == ["README.TXT", "SPEAKERS.TXT"]
    items = [i for part in make_plan(str(tmp_path), DEFAULTS).parts for i in read_part(part, DEFAULTS)]
    assert {item.speaker for item in items if isinstance(item, Item)} == {"84"}


def test_libritts(tmp_path: Path) -> None:
    place = "train-clean/84/121123/84_121123_000001_000000"
    write(
        tmp_path, {f"{place}.wav": "W", f"{place}.normalized.txt": "so it is", "train-clean/1/a-1.wav": "W"}
    )
    items = [i for part in make_plan(str(tmp_path), DEFAULTS).parts for i in read_part(part, DEFAULTS)]
    assert [item.speaker for item in items if isinstance(item, Item)] == ["84"]


def test_common_voice(tmp_path: Path) -> None:
    names = "client_id\tpath\tsentence_id\tsentence\tup_votes\tlocale\n"
    said = ['"Wait," she said.', '"And he', "nobody", 'said "no"']
    for split, numbers in (("train", [0, 1]), ("dev", [2]), ("test", [3])):
        lines = "".join(f"a9f\tc{n}.mp3\tb{n}\t{said[n]}\t2\ten\n" for n in numbers)
        write(tmp_path, {f"{split}.tsv": names + lines})
    durations = "clip\tduration[ms]\n" + "".join(f"c{n}.mp3\t1500\n" for n in range(4))
    write(tmp_path, {"clip_durations.tsv": durations} | {f"clips/c{n}.mp3": "M" for n in range(4)})
    found, rejected = read(tmp_path)
    assert sorted(found) == [(f"clips/c{n}.mp3", said[n]) for n in range(4)]
    assert len(rejected) == 1 and "no text column, only duration" in next(iter(rejected.values()))


@pytest.mark.parametrize("indent", [None, 1])
def test_coco(tmp_path: Path, indent: int | None) -> None:
    images = [{"id": n, "file_name": f"{n:03d}.jpg"} for n in range(3)]
    captions = [{"id": 9 - n, "image_id": n % 3, "caption": f"told {n}"} for n in range(6)]
    lost = {"id": 7, "image_id": 99, "caption": "lost"}
    document = {"info": {"year": 2017}, "images": images, "annotations": [*captions, lost]}
    boxes = {"images": images, "annotations": [{"image_id": 0, "bbox": [0, 0, 1, 1]}]}
    write(tmp_path, {"annotations/captions_train2017.json": json.dumps(document, indent=indent)})
    write(tmp_path, {"annotations/instances_train2017.json": json.dumps(boxes)})
    write(tmp_path, {f"train2017/{n:03d}.jpg": "J" for n in range(3)})
    options = PrepareOptions(text_column="caption")
    found, rejected = read(tmp_path)
    assert (
        found == [(f"annotations/../train2017/{n % 3:03d}.jpg", f"told {n}") for n in range(6)]
        and read(tmp_path, options)[0] == found
    )
    assert sorted(reason.split(":")[0] for reason in rejected.values()) == ["columns", "missing_file"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("captions.txt", 'image,caption\n0.jpg,red\n0.jpg,"a red, and"\n1.jpg,blue\n'),
        ("captions.token.txt", "0.jpg#0\tred\n0.jpg#1\ta red, and\n1.jpg#0\tblue\n"),
        ("captions.json", '{"0.jpg": ["red", "a red, and"], "1.jpg": "blue"}'),
        ("c.json", '[{"image": "0", "text": ["red", "a red, and"]},\n{"image": "1", "text": "blue"}]'),
        ("list.txt", "Images/0.jpg|3|red\nImages/0.jpg|4|a red, and\nImages/1.jpg|5|blue\n"),
        ("table.csv", "id,label,caption\n0,3,red\n0,4,\"a red, and\"\n1,5,blue\n"),
    ],
)  # fmt: skip
def test_lists_of_captions(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path, {name: content, "Images/0.jpg": "J", "Images/1.jpg": "J"})
    found, rejected = read(tmp_path)
    assert found == [("Images/0.jpg", "red"), ("Images/0.jpg", "a red, and"), ("Images/1.jpg", "blue")]
    assert not rejected


def test_folders_of_classes(tmp_path: Path) -> None:
    write(tmp_path, {"train/golden_retriever/0.jpg": "J", "val/cat/0.jpg": "J", "train/1.jpg": "J"})
    found, rejected = read(tmp_path)
    assert not found and all("--caption-from folder" in detail for detail in rejected.values())
    found, rejected = read(tmp_path, PrepareOptions(caption_from="folder"))
    assert found == [("train/golden_retriever/0.jpg", "golden retriever"), ("val/cat/0.jpg", "cat")]
    assert rejected == {"train/1.jpg": "no_text: it is in no folder whose name could be its caption"}


def test_captions_of_what_is_not_read_are_no_documents(tmp_path: Path) -> None:
    write(tmp_path, {"0.svg": "<svg/>", "0.txt": "a red box", "1.heic": "x", "1.txt": "a blue box"})
    found, rejected = read(tmp_path)
    assert not found and set(rejected) == {"0.svg", "0.txt", "1.heic", "1.txt"}
    write(tmp_path / "table", {"0.svg": "<svg/>", "metadata.csv": "file_name,text\n0.svg,a red box\n"})
    found, rejected = read(tmp_path / "table")
    assert not found and set(rejected) == {"0.svg", "metadata.csv@15"}
    write(tmp_path / "links", {"table.csv": "url,caption\nhttps://x.org/a.jpg,a red box\n"})
    found, rejected = read(tmp_path / "links")
    assert not found and "URLs are not downloaded" in rejected["table.csv@12"]


def test_each_folder_is_what_it_is(tmp_path: Path) -> None:
    books = {f"books/{n}.txt": f"chapter {n}" for n in range(3)}
    stray = {f"tales/{n}.txt": f"tale {n}" for n in range(3)} | {"tales/cover.jpg": "J"}
    photos = {"photos/0.png": "P", "photos/0.txt": "red", "photos/9.txt": "lost its picture"}
    parallel = {"sound/a.wav": "W", "said/a.txt": "what was said"}
    write(tmp_path, books | stray | photos | parallel | {"notes.txt": "of all", "README.txt": "about"})
    write(tmp_path, {"more/stories.jsonl": '{"text": "a story"}\n', "more/README.md": "about"})
    found, rejected = read(tmp_path)
    documents = [f"{what} {n}" for what in ("chapter", "tale") for n in range(3)]
    assert sorted(found) == [("", text) for text in ["a story", *documents]] + [("photos/0.png", "red")]
    assert set(rejected) == {
        "tales/cover.jpg",
        "photos/9.txt",
        "sound/a.wav",
        "said/a.txt",
        "notes.txt",
        "README.txt",
        "more/README.md",
    }
    assert "is not in the same folder" in rejected["said/a.txt"]


def test_a_table_of_text_beside_pictures(tmp_path: Path) -> None:
    write(tmp_path, {"photos/0.png": "P", "photos/metadata.csv": "file_name,text\n0.png,red\n"})
    stories = "".join(json.dumps({"text": f"story {n}"}) + "\n" for n in range(11))
    write(tmp_path, {"stories.jsonl": stories})
    found, rejected = read(tmp_path)
    assert len(found) == 12 and not rejected
    write(tmp_path, {"cover.jpg": "J"})  # a stray one
    assert len(read(tmp_path)[0]) == 12
    write(tmp_path, {"back.jpg": "J"})
    found, rejected = read(tmp_path)
    assert len(found) == 1 and "its columns are text" in rejected["stories.jsonl"]


def test_a_table_without_text_takes_no_file_from_its_caption(tmp_path: Path) -> None:
    write(tmp_path, {"0.png": "P", "0.txt": "red", "boxes.csv": "file_name,box\n0.png,1 2 3 4\n"})
    found, rejected = read(tmp_path)
    assert found == [("0.png", "red")] and "only box" in rejected["boxes.csv"]
    (tmp_path / "0.txt").unlink()
    with pytest.raises(ColumnError, match=r"boxes.csv has no text column, only box"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("picture", "caption"),
    [
        ("IMG_1.JPG", "IMG_1.TXT"),
        ("a.jpg", "a.jpg.txt"),
        ("a.jpg", "a.caption"),
        ("a.b.jpg", "a.b.txt"),
        (unicodedata.normalize("NFD", "café.png"), unicodedata.normalize("NFC", "café.txt")),
        ("a.wav", "a.lab"),
        ("a.wav", "a.normalized.txt"),
    ],
)
def test_captions_beside(tmp_path: Path, picture: str, caption: str) -> None:
    write(tmp_path, {picture: "P", caption: b"\xef\xbb\xbfa red box\r\n"})
    found, rejected = read(tmp_path)
    assert [(name, text.strip()) for name, text in found] == [(picture, "a red box")] and not rejected


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (unicodedata.normalize("NFC", "Äpfel.png"), unicodedata.normalize("NFD", "Äpfel.png")),
        ("img\\0.png", "img/0.png"),
        ("./img/0.png", "img/0.png"),
        ("IMG/0.PNG", "img/0.png"),
        ("img/0", "img/0.png"),
        ("0", "wavs/0.wav"),
        ("0.png", "Images/0.png"),
        ("my photos (new)/a  b #1%.png", "my photos (new)/a  b #1%.png"),
    ],
)
def test_names_that_were_typed_elsewhere(tmp_path: Path, name: str, file: str) -> None:
    write(tmp_path, {file: "P", "metadata.jsonl": json.dumps({"file_name": name, "text": "red"})})
    assert read(tmp_path) == ([(file, "red")], {})


def test_names_that_mean_no_one_file(tmp_path: Path) -> None:
    write(tmp_path / "in", {"a.png": "P", "A.PNG": "P", "0.png": "P", "0.wav": "W"})
    write(tmp_path, {"out.png": "P"})
    for name in ("0", "../OUT.png", "..\\out.png", "", "x" * 300, "a\0b", "C:\\in\\0.png", "aa.png"):
        assert find_named(tmp_path / "in", name) is None
    assert find_named(tmp_path / "in", "A") == tmp_path / "in" / "A.PNG"
    assert find_named(tmp_path / "in", "A.PNG") == tmp_path / "in" / "A.PNG"


def test_marks_and_encodings(tmp_path: Path) -> None:
    table = "file_name,text\n0.png,une boîte\n"
    write(tmp_path / "a", {"0.png": "P", "0.txt": "une boîte".encode("utf-16")})
    assert read(tmp_path / "a") == ([("0.png", "une boîte")], {})
    write(tmp_path / "b", {"note.txt": b"\xef\xbb\xbfone\n", "wide.txt": "two\n".encode("utf-16")})
    assert read(tmp_path / "b")[0] == [("", "one\n"), ("", "two\n")]
    assert read(tmp_path / "b", PrepareOptions(sample_by="line")) == ([("", "one"), ("", "two")], {})
    write(tmp_path / "c", {"0.png": "P", "metadata.csv": table.encode("utf-16")})
    assert read(tmp_path / "c") == ([("0.png", "une boîte")], {})


def test_letters_of_another_encoding_are_told(tmp_path: Path) -> None:
    table = "file_name,text\n0.png,une boîte\n".encode("latin-1")
    write(tmp_path, {"0.png": "P", "metadata.csv": table})
    with pytest.raises(
        Exception, match="byte 0xee at character 6 is not valid UTF-8: save the file as UTF-8"
    ):
        read(tmp_path)


def test_values_of_parquet(tmp_path: Path) -> None:
    import datasets

    samples = np.random.default_rng(0).normal(0, 0.1, 8000)
    rows = {
        "audio": [{"array": samples.tolist(), "sampling_rate": 8000}] * 3,
        "text": [["one", "two"], ["three"], ["four"]],
        "speaker": [1.0, 2.0, None],
        "sampling_rate": [8000.0, None, 8000.0],
    }
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    (part,) = make_plan(str(tmp_path), DEFAULTS).parts
    items = [item for item in read_part(part, DEFAULTS) if isinstance(item, Item)]
    assert [item.text for item in items] == ["one", "two", "three", "four"]
    assert [item.key for item in items][:2] == ["a.parquet:0#0", "a.parquet:0#1"]
    assert [item.speaker for item in items] == [1, 1, 2, None]
    assert [item.rate for item in items] == [8000, 8000, None, 8000]
    assert isinstance(items[0].speech, bytes)
    heard = decode_recording(items[0].speech, sample_rate=8000, limits=DEFAULTS.limits, stated_rate=8000)
    np.testing.assert_allclose(heard, samples.astype(np.float32), atol=1e-7)
    features = datasets.Features({"text": datasets.ClassLabel(names=["cat", "dog"])})
    datasets.Dataset.from_dict({"text": [1, 0]}, features=features).to_parquet(tmp_path / "b.parquet")
    (part,) = make_plan(str(tmp_path / "b.parquet"), DEFAULTS).parts
    assert [item.text for item in read_part(part, DEFAULTS) if isinstance(item, Item)] == ["dog", "cat"]


@pytest.mark.parametrize(
    "audio",
    [
        {"array": [0.1] * 9, "sampling_rate": 0},
        {"array": [[[0.1]]], "sampling_rate": 8000},
        {"array": [10**6] * 9, "sampling_rate": 8000},
        {"array": ["a"], "sampling_rate": 8000},
    ],
)
def test_arrays_that_are_no_recording(tmp_path: Path, audio: dict[str, Any]) -> None:
    write(tmp_path, {"a.jsonl": json.dumps({"audio": audio, "text": "said"})})
    (part,) = make_plan(str(tmp_path), DEFAULTS).parts
    (found,) = read_part(part, DEFAULTS)
    assert isinstance(found, Rejection) and found.reason in ("corrupt", "sample_rate")


def test_numbers_are_no_texts(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(Exception, match="the number 0 instead of text: replace class numbers by names"):
        read(tmp_path)


def test_a_mistyped_folder_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"data/photos/0.png": "P"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trimask.sources.plan.hub_readers", None)  # the hub is not asked
    with pytest.raises(FileNotFoundError, match=r"data/photoss does not exist .*has 'photos'"):
        make_plan("data/photoss", DEFAULTS)
    with pytest.raises(FileNotFoundError, match="data/xyz does not exist"):
        make_plan("data/xyz", DEFAULTS)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_table_stops_nothing(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path, {"docs/story.txt": "it was a long way", name: content})
    assert read(tmp_path) == ([("", "it was a long way")], {name: "empty: a table without rows"})
    for name in ("story.txt", ""):
        (tmp_path / "docs" / name).unlink() if name else (tmp_path / "docs").rmdir()
    assert list(read(tmp_path)[1].values()) == ["empty: a table without rows"]


def test_a_table_of_which_nothing_can_be_read_stops_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "it was a long way", "b.json": "[" * 200_000, "c.csv": "text\n"})
    items, rejected = read(tmp_path)
    assert items == [("", "it was a long way")]
    assert rejected["c.csv"] == "empty: a table without rows"
    assert rejected["b.json"].startswith("empty: no row that can be read: ")
