"""Nothing stands in two splits: neither a file nor a text, whoever reads them, whatever the source says."""

import io
import json
import tarfile
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trimask.datasets.quickstart.splits import hash_fraction
from trimask.media.rejection import Rejected, Rejection
from trimask.parallel import Local
from trimask.prepare.decision import Decision
from trimask.prepare.decode import Decoder, read_part
from trimask.prepare.identity import name_node, text_key
from trimask.prepare.splits import Decisions, decide, read_decisions
from trimask.prepare.tally import Counts
from trimask.sources.columns import ColumnError
from trimask.sources.item import Item
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import make_plan
from trimask.sources.stated import Note, split_name, stated_split
from trimask.sources.unreviewed import unreviewed_tables
from trimask.tokenizer_training.decoded import decode_signals, raw_items, raw_signals

Row = tuple[int, str, str]  # a picture by its number, a caption, a split or ""
HALVES = PrepareOptions(validation=0.3, test=0.3)


def png(number: int) -> bytes:
    out = io.BytesIO()
    drawn = PIL.Image.new("RGB", (9, 9), (number % 256, 7, 9))
    drawn.paste("white", (0, 0, 5, 9))
    drawn.save(out, format="PNG")
    return out.getvalue()


def wav(number: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(number.to_bytes(2, "little") * 1600)
    return out.getvalue()


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def verdicts(
    source: Path, options: PrepareOptions = HALVES
) -> tuple[list[tuple[Item, Decision]], Decisions, dict[str, str]]:
    """All items with what is decided about them, the summary, and why other items are set aside."""
    plan, found, rejected = make_plan(str(source), options), [], {}
    with tempfile.TemporaryDirectory() as out:
        summary = decide(plan, options, Path(out))
        for part in plan.parts:
            decisions = read_decisions(Path(out), part.number)
            for item in read_part(part, options):
                if isinstance(item, Rejection):
                    rejected[item.key] = item.reason.value
                else:
                    found.append((item, next(decisions)))
    return found, summary, rejected


def kept(source: Path, options: PrepareOptions = HALVES) -> list[tuple[bytes, str, str]]:
    """Content of the file, text and split of each item that is not set aside."""
    rows = []
    for item, decision in verdicts(source, options)[0]:
        media = item.image if item.image is not None else item.speech
        content = media.read_bytes() if isinstance(media, Path) else media or b""
        text = item.text.decode() if isinstance(item.text, bytes) else str(item.text)
        if decision.status == 0:
            rows.append((content, text, decision.split))
    return rows


def split_of(source: Path, options: PrepareOptions = HALVES) -> dict[str, str]:
    """Split, or the reason for which an item is set aside, by text."""
    found = {}
    for item, decision in verdicts(source, options)[0]:
        text = item.text.decode() if isinstance(item.text, bytes) else str(item.text)
        try:
            decision.check()
            found[text] = decision.split
        except Rejected as error:
            found[text] = error.reason.value
    return found


# Readers: each writes the same rows as its kind of source.


def loose(folder: Path, rows: list[Row]) -> None:
    for place, (number, caption, split) in enumerate(rows):
        path = folder / split / f"{place}.png"
        write(path, png(number))
        write(path.with_suffix(".txt"), caption)


def table(suffix: str, *, by_folder: bool) -> Callable[[Path, list[Row]], None]:
    """A table at the root; the split is the folder of the file, or a column."""

    def make(folder: Path, rows: list[Row]) -> None:
        named = []
        for number, caption, split in rows:
            name = f"{split or 'images'}/{number}.png" if by_folder else f"{number}.png"
            write(folder / name, png(number))
            column = {} if by_folder else {"split": split}
            named.append({"file_name": name, "text": caption, **column})
        if suffix == ".jsonl":
            write(folder / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in named))
        elif suffix == ".parquet":
            named = [{"image": row.pop("file_name"), **row} for row in named]
            pq.write_table(pa.Table.from_pylist(named), folder / "rows.parquet")
        else:
            comma, quote = (",", '"') if suffix == ".csv" else ("\t", "")
            lines = [comma.join(f"{quote}{cell}{quote}" for cell in row.values()) for row in named]
            write(folder / f"metadata{suffix}", "\n".join([comma.join(named[0]), *lines]) + "\n")

    return make


def embedded(folder: Path, rows: list[Row]) -> None:
    for split in {split for *_, split in rows}:
        chosen = [(number, caption) for number, caption, own in rows if own == split]
        columns = {"image": [png(number) for number, _ in chosen], "text": [text for _, text in chosen]}
        pq.write_table(pa.table(columns), folder / f"{split or 'rows'}-00000.parquet")


def archive(folder: Path, rows: list[Row]) -> None:
    with tarfile.open(folder / "all.tar", "w") as file:
        for place, (number, caption, split) in enumerate(rows):
            for suffix, data in (("png", png(number)), ("txt", caption.encode())):
                info = tarfile.TarInfo(f"{split or 'other'}/{place}.{suffix}")
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))


def several_tables(folder: Path, rows: list[Row]) -> None:
    """As speech corpora are published: a table for each split, and one of all."""
    for split in {split for *_, split in rows} | {None}:
        chosen = [(number, caption) for number, caption, own in rows if split in (own, None)]
        lines = [f'{{"path": "{number}.wav", "sentence": {json.dumps(text)}}}\n' for number, text in chosen]
        for number, _ in chosen:
            write(folder / "clips" / f"{number}.wav", wav(number))
        write(folder / f"{'validated' if split is None else split or 'more'}.jsonl", "".join(lines))


READERS: dict[str, Callable[[Path, list[Row]], None]] = {
    "loose": loose,
    "csv, folders": table(".csv", by_folder=True),
    "csv, column": table(".csv", by_folder=False),
    "tsv, folders": table(".tsv", by_folder=True),
    "jsonl, folders": table(".jsonl", by_folder=True),
    "jsonl, column": table(".jsonl", by_folder=False),
    "parquet of names, folders": table(".parquet", by_folder=True),
    "parquet of names, column": table(".parquet", by_folder=False),
    "parquet of bytes": embedded,
    "tar": archive,
    "several tables": several_tables,
}
CAPTIONS = [
    "a cat",
    "A cat.",
    "\ufeffa  cat",
    "un café",
    "un cafe\u0301",
    "a dog",
    "two dogs!",
    "“two dogs”",
    "red",
]
ROWS = st.lists(
    st.tuples(
        st.integers(0, 7), st.sampled_from(CAPTIONS), st.sampled_from(["", "", "", "train", "val", "test"])
    ),
    min_size=1,
    max_size=14,
)


@pytest.mark.parametrize("reader", READERS)
@given(rows=ROWS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_file_and_no_text_in_two_splits(reader: str, rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        READERS[reader](Path(folder), rows)
        found = kept(Path(folder))
        splits: dict[bytes | str, set[str]] = {}
        for content, text, split in found:
            splits.setdefault(content, set()).add(split)
            splits.setdefault(text_key(text), set()).add(split)
        assert all(len(among) == 1 for among in splits.values())
        # Nothing that the source tests on is lost: each of its files and texts is still in its test split.
        tested = {(text_key(text)) for _, text, split in rows if split == "test"}
        assert tested <= {text_key(text) for _, text, split in found if split == "test"}
        # And nothing is there twice.
        assert len({(content, text_key(text)) for content, text, _ in found}) == len(found)


@given(rows=ROWS)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_splits_depend_neither_on_the_order_nor_on_the_reader(rows: list[Row]) -> None:
    """What is drawn of equal rows is the same, however they are kept, and in whatever order."""
    rows = [(number, text, "") for number, text, _ in rows]
    found = []
    for reader in ("loose", "csv, column", "jsonl, folders", "parquet of bytes", "tar"):
        for order in (rows, rows[::-1]):
            with tempfile.TemporaryDirectory() as folder:
                READERS[reader](Path(folder), order)
                found.append(
                    {(content, text_key(text), split) for content, text, split in kept(Path(folder))}
                )
    assert all(splits == found[0] for splits in found)


def test_a_table_at_the_root_leaves_files_where_their_folders_say(tmp_path: Path) -> None:
    rows = []
    for number in range(30):
        split = ["train", "train", "train", "val", "test"][number % 5]
        rows.append((number, f"bar number {number} of {split}", split))
    table(".jsonl", by_folder=True)(tmp_path, rows)
    found = split_of(tmp_path)
    assert all(found[text] == {"val": "validation"}.get(split, split) for _, text, split in rows)


def test_a_file_that_any_table_holds_out_is_not_trained_on(tmp_path: Path) -> None:
    rows = [(n, f"sentence number {n} of the list", s) for n, s in enumerate(["train"] * 12 + ["dev"] * 6)]
    several_tables(tmp_path, rows)
    write(tmp_path / "invalidated.jsonl", '{"path": "90.wav", "sentence": "wrong words"}\n')
    write(tmp_path / "other.jsonl", '{"path": "91.wav", "sentence": "unheard"}\n')
    for number in (90, 91):
        write(tmp_path / "clips" / f"{number}.wav", wav(number))
    found, summary, rejected = verdicts(tmp_path, PrepareOptions(validation=0.0, test=0.0))
    splits = [decision.split for _, decision in found if decision.status == 0]
    assert {split: splits.count(split) for split in splits} == {"train": 12, "validation": 6}
    assert summary.counts == {"held_out": 6, "repeated": 12}
    assert summary.examples["held_out"][0].startswith("validated.jsonl@")
    assert summary.own == ("train", "validation")
    assert rejected == {"invalidated.jsonl": "unused_file", "other.jsonl": "unused_file"}
    # For tokenizers, too, which take recordings without a text.
    without_text = PrepareOptions(needs_text=False, validation=0.0, test=0.0)
    assert len(kept(tmp_path, without_text)) == 18
    # Who asks for such a table gets it.
    assert list(split_of(tmp_path / "invalidated.jsonl")) == ["wrong words"]


def test_what_each_says_about_a_row() -> None:
    cases = {
        ("test", "train", "train/a.png"): ("test", Note.NONE),
        ("train", "test", "a.png"): ("train", Note.OVERRULED),
        ("train", None, "val/a.png"): ("train", Note.OVERRULED),
        (" ", "train", "a.png"): ("train", Note.NONE),
        (None, None, "a.png"): (None, Note.NONE),
        (None, None, "x/val/a.png"): ("validation", Note.NONE),
        (None, "train", "test/a.png"): ("test", Note.CONTRADICTION),
        (None, "test", "train/a.png"): ("test", Note.CONTRADICTION),
        (None, "validation", "test/a.png"): ("validation", Note.CONTRADICTION),
    }
    for (column, own, place), expected in cases.items():
        assert stated_split(column, own, [place]) == expected
    with pytest.raises(Rejected, match="'elsewhere' is not one of train"):
        stated_split("elsewhere", None, [])
    names = {
        "metadata_train": "train",
        "val2017": "validation",
        "test-clean": "test",
        "train_images": "train",
    }
    names |= {
        "train_images": "train",
        "testament": None,
        "trained": None,
        "contest": None,
        "dev-other": "validation",
    }
    assert {name: split_name(name) for name in names} == names


def test_a_table_against_a_folder_is_held_out_and_told(tmp_path: Path) -> None:
    for number, folder in enumerate(("train", "test")):
        write(tmp_path / folder / f"{number}.png", png(number))
    write(tmp_path / "train.csv", "file_name,text\ntrain/0.png,zero\ntest/1.png,one\n")
    _, summary, _ = verdicts(tmp_path)
    assert split_of(tmp_path) == {"zero": "train", "one": "test"}
    assert summary.counts == {"contradiction": 1} and len(summary.examples["contradiction"]) == 1
    told = summary.describe()
    assert told == "splits: 1 held out, since their table and their folder name different splits"


def test_what_another_split_holds_out_is_set_aside(tmp_path: Path) -> None:
    """Also where a closing dot, a capital or a byte-order mark is all that tells them apart."""
    write(tmp_path / "train.jsonl", '{"text": "One line"}\n{"text": "Another"}\n{"text": "a third"}\n')
    write(tmp_path / "val.jsonl", '{"text": "another."}\n{"text": "\ufeffA  third!"}\n')
    write(tmp_path / "test.jsonl", '{"text": "A THIRD"}\n')
    found, summary, _ = verdicts(tmp_path)
    splits = [(item.text, decision.split if decision.status == 0 else "") for item, decision in found]
    assert dict(splits) == {
        "A THIRD": "test",
        "Another": "",
        "One line": "train",
        "\ufeffA  third!": "",
        "a third": "",
        "another.": "validation",
    }
    assert summary.counts == {"held_out": 3}
    with pytest.raises(Rejected, match="its text is also in the source's test split"):
        next(decision for item, decision in found if item.text == "a third").check()


def captions(folder: Path) -> Path:
    """Four pictures of five captions each; every picture is called a thing, too."""
    lines = [
        json.dumps({"file_name": f"{n}.png", "text": f"picture {n}, words {k}" if k else "thing"})
        for n in range(12)
        for k in range(5)
    ]
    for number in range(12):
        write(folder / f"{number}.png", png(number))
    write(folder / "metadata.jsonl", "\n".join(lines))
    return folder


def test_grouped_by_file_texts_may_be_in_two_splits(tmp_path: Path) -> None:
    source = captions(tmp_path / "x")
    joined = verdicts(source, PrepareOptions(validation=0.4, test=0.0))
    # All are joined by one caption: a group of more than half is trained on, and told.
    assert {decision.split for _, decision in joined[0]} == {"train"}
    assert joined[1].largest_group == 60
    options = PrepareOptions(validation=0.4, test=0.0, group_by="image")
    found = kept(source, options)
    splits = {content: {split for other, _, split in found if other == content} for content, _, _ in found}
    assert len(found) == 60 and all(len(among) == 1 for among in splits.values())
    assert {split for among in splits.values() for split in among} == {"train", "validation"}
    decoder = Decoder(options=options, image_size=8, sample_rate=None)
    groups = {(d := decoder(item, Decision(split="train"))).group for item, _ in verdicts(source, options)[0]}
    assert len(groups) == 12 and d.text


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_groups_by_the_file(reader: str, tmp_path: Path) -> None:
    READERS[reader](tmp_path, [(number % 3, f"words {number}", "") for number in range(9)])
    word = "audio" if reader == "several tables" else "image"
    found = kept(tmp_path, PrepareOptions(validation=0.4, group_by=word))
    assert len({(content, split) for content, _, split in found}) == 3 and len(found) == 9


def test_documents_have_no_file_to_group_by(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "words")
    with pytest.raises(ColumnError, match="no column 'image'"):
        make_plan(str(tmp_path), PrepareOptions(group_by="image"))
    write(tmp_path / "a.txt", "").unlink()
    write(tmp_path / "a.jsonl", '{"text": "words"}\n')
    with pytest.raises(ColumnError, match="no column 'image'"):
        make_plan(str(tmp_path), PrepareOptions(group_by="image"))


def test_a_column_groups_across_what_is_held_out(tmp_path: Path) -> None:
    """A speaker who is tested on is not trained on; compositions are variants of what is trained on."""
    rows = [("ann", "train"), ("ben", "test"), ("ben", "train"), ("cy", "composition"), ("cy", "train")]
    lines = [json.dumps({"text": f"{n}", "who": who, "split": split}) for n, (who, split) in enumerate(rows)]
    write(tmp_path / "a.jsonl", "\n".join(lines))
    found = split_of(tmp_path, PrepareOptions(group_by="who", validation=0.0))
    assert found == {"0": "train", "1": "test", "2": "held_out", "3": "composition", "4": "train"}


@given(st.text(max_size=12), st.sampled_from(["{}.", "{}!", "\ufeff{}", " {}\n", "\u00ab{}\u00bb"]))
def test_equal_texts(text: str, written: str) -> None:
    key = text_key(text)
    if any(character.isalnum() for character in text):
        assert text_key(written.format(text)) == key
        assert text_key(key) == key


def test_texts_that_are_equal_and_that_are_not() -> None:
    equal = [
        "Un café noir",
        "un cafe\u0301 noir.",
        "\ufeffUN CAFÉ  NOIR",
        "“un café noir!”",
        "un\ncafé\tnoir",
    ]
    assert len({text_key(text) for text in equal}) == 1
    different = ["a cat", "a cat and", "a-cat", "a c at", "?", "!", "1 cat", "क", "का", "C+", "C"]
    assert len({text_key(text) for text in different}) == len(different)


@given(st.text(min_size=1, max_size=20))
def test_a_text_alone_falls_where_its_hash_does(text: str) -> None:
    assert (name_node(text) >> 12) / 2**52 == hash_fraction("split", text)


def test_any_number_of_processes_decides_the_same_and_goes_on(tmp_path: Path) -> None:
    rows = [(n % 40, f"words {n}", ["", "train", "val"][n % 3]) for n in range(60)]
    READERS["several tables"](tmp_path / "x", rows)
    options = PrepareOptions(validation=0.2, test=0.2)
    plan = make_plan(str(tmp_path / "x"), options)
    told: list[Counts] = []
    summaries = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        engine = Local(workers=workers)
        summaries.append(decide(plan, options, out, engine=engine, on_survey=told.append))
    assert summaries[0] == summaries[1]
    num_parts = len(plan.parts)
    assert (told[-1].num_done, told[-1].num_parts, told[-1].items) == (num_parts, num_parts, 120)
    files = {path.name: path.read_bytes() for path in (tmp_path / "1" / "parts").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "2" / "parts").iterdir()}
    # Stopped before the end, it goes on with the parts that are missing.
    (tmp_path / "2" / "splits.json").unlink()
    (tmp_path / "2" / "parts" / "000001.items.parquet").unlink()
    told.clear()
    decide(plan, options, tmp_path / "2", on_survey=told.append)
    assert (told[-1].num_done, told[-1].num_fresh, told[-1].items) == (num_parts, 1, 120)
    assert told[-1].fresh_items == 20
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "2" / "parts").iterdir()}


def test_a_source_that_changes_meanwhile_and_files_that_are_damaged(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", '{"text": "words"}\n')
    options = PrepareOptions()
    plan = make_plan(str(source), options)
    decide(plan, options, tmp_path / "out")
    decisions = read_decisions(tmp_path / "out", 0)
    assert next(decisions).split in ("train", "validation", "test")
    with pytest.raises(ValueError, match="changed while it was being read"):
        next(decisions)
    parts = tmp_path / "out" / "parts"
    before = {path.name: path.read_bytes() for path in parts.iterdir()}
    for name in ("splits.json", "parts/000000.splits.parquet"):
        path = tmp_path / "out" / name
        data = path.read_bytes()
        for place in range(0, len(data), 97):  # one flipped bit is found, and mended
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            decide(plan, options, tmp_path / "out")
            assert path.read_bytes() == data
    assert before == {path.name: path.read_bytes() for path in parts.iterdir()}
    (parts / "000000.splits.parquet").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"splits.parquet is damaged: run the same command"):
        next(read_decisions(tmp_path / "out", 0))
    (parts / "000000.items.parquet").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"items.parquet is damaged: delete it"):
        decide(plan, options, tmp_path / "out")


def test_tables_that_nobody_reviewed() -> None:
    names = ["cv/invalidated.tsv", "cv/other.tsv", "cv/validated.tsv", "other.tsv", "cv/reported.tsv"]
    assert set(unreviewed_tables(names)) == {"cv/invalidated.tsv", "cv/other.tsv", "cv/reported.tsv"}
    assert unreviewed_tables(["invalidated.tsv"]) == {}


def test_tokenizers_see_no_file_that_is_held_out(tmp_path: Path) -> None:
    """By the folder that a row names, too; texts that are labels hold nothing out of theirs."""
    rows = [(n, f"label {n % 2}", ["train", "train", "val", "test"][n % 4]) for n in range(16)]
    table(".csv", by_folder=True)(tmp_path / "raw", rows)
    with (tmp_path / "raw" / "metadata.csv").open("a") as file:
        file.write("train/0.png,again\n")
    write(tmp_path / "raw" / "train" / "copy.png", png(3))
    data = raw_signals([str(tmp_path / "raw")], PrepareOptions(needs_text=False))
    parts = decode_signals(data, "image", size=16, folder=tmp_path / "data")
    keys = {name: len(part) for name, part in parts.items()}
    assert keys == {"train": 8, "unseen": 8}
    lines = [json.loads(line) for line in (tmp_path / "data" / "rejected.jsonl").read_text().splitlines()]
    assert {line["key"].partition("@")[0]: line["reason"] for line in lines} == {
        "metadata.csv": "repeated",
        "train/copy.png": "held_out",
    }


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    sources=st.lists(
        st.lists(
            st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from(["", "train", "val"])),
            max_size=12,
        ),
        min_size=2,
        max_size=3,
    )
)
def test_a_tokenizer_sees_no_file_of_another_source_that_is_held_out(
    sources: list[list[tuple[int, int, str]]],
) -> None:
    """However many sources there are, and whatever each says itself."""
    with tempfile.TemporaryDirectory() as root:
        names = [Path(root) / f"source{number}" for number in range(len(sources))]
        for folder, rows in zip(names, sources, strict=True):
            write(folder / "about.md", "x")
            write(folder / "0.png", png(99))
            for place, (picture, text, split) in enumerate(rows):
                write(folder / split / f"{place}x.png", png(picture))
                write(folder / split / f"{place}x.txt", f"Text {text}.")
        options = PrepareOptions(needs_text=False, validation=0.3, test=0.1)
        data = raw_signals([str(folder) for folder in names], options)
        splits: dict[bytes, set[str]] = {}
        for found in raw_items(data, Path(root) / "out", lambda message: None):
            if not isinstance(found, Rejection) and found[1].status == 0:
                assert isinstance(found[0].image, Path)
                splits.setdefault(found[0].image.read_bytes(), set()).add(found[1].split)
        assert all(len(found) == 1 for found in splits.values()) and png(99) in splits


def test_a_tokenizers_data_is_grouped_by_a_column(tmp_path: Path) -> None:
    """In two sources as in one: all of a group lies in one split."""
    for folder in ("a", "b"):
        rows = "".join(f"{n}.png,text {folder} {n},group {n % 5}\n" for n in range(20))
        write(tmp_path / folder / "metadata.csv", f"file_name,text,kind\n{rows}")
        for number in range(20):
            write(tmp_path / folder / f"{number}.png", png(number + 20 * (folder == "b")))
    options = PrepareOptions(needs_text=False, validation=0.4, test=0.0, group_by="kind")
    data = raw_signals([str(tmp_path / "a"), str(tmp_path / "b")], options)
    splits: dict[str, set[str]] = {}
    for found in raw_items(data, tmp_path / "out", lambda message: None):
        assert not isinstance(found, Rejection)
        splits.setdefault(found[0].group, set()).add(found[1].split)
    assert sorted(splits) == [f"group {n}" for n in range(5)]
    assert {split for found in splits.values() for split in found} == {"train", "validation"}
    assert all(len(found) == 1 for found in splits.values())


def test_pictures_of_a_class_are_split_by_the_file(tmp_path: Path) -> None:
    for number in range(6):
        split = "val" if number > 3 else "train"
        write(tmp_path / split / "a_cat" / f"{number}.png", png(number))
    found = kept(tmp_path, PrepareOptions(caption_from="folder"))
    assert sorted(split for _, _, split in found) == ["train"] * 4 + ["validation"] * 2
    assert {text for _, text, _ in found} == {"a cat"}
