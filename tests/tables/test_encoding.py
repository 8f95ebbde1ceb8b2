"""Text files whose mark says UTF-16 or UTF-32 are read as those in UTF-8 are."""

import codecs
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimask.media.rejection import Rejected, Rejection
from trimask.prepare.decode import read_part
from trimask.prepare.passages import clean_text
from trimask.sources.item import Item
from trimask.sources.options import PrepareOptions, SampleBy
from trimask.sources.plan import make_plan
from trimask.tables.encoding import _convert, open_utf8, size_in_utf8

MARKS = {
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
TEXTS = st.lists(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12), min_size=1, max_size=5
)


def read(path: Path, options: PrepareOptions) -> list[tuple[object, ...]]:
    """What comes of a source, without the places in it."""
    found: list[tuple[object, ...]] = []
    for part in make_plan(str(path), options).parts:
        for item in read_part(part, options):
            if isinstance(item, Rejection):
                found.append((item.reason,))
            else:
                name = item.image.name if isinstance(item.image, Path) else None
                try:
                    found.append((name, clean_text(item.text)))
                except Rejected as error:
                    found.append((error.reason,))
    return found


def written(kind: str, texts: list[str], names: list[str]) -> str:
    if kind in (".csv", ".tsv"):
        between = {".csv": ",", ".tsv": "\t"}[kind]
        quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
        rows = [between.join(row) for row in zip(names, quoted, strict=True)]
        return "\r\n".join([between.join(("file_name", "text")), *rows]) + "\r\n"
    rows = [{"file_name": name, "text": text} for name, text in zip(names, texts, strict=True)]
    if kind == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return json.dumps(rows, ensure_ascii=False)


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".json"])
@settings(max_examples=30)
@given(texts=TEXTS, encoding=st.sampled_from(sorted(MARKS)))
def test_tables(kind: str, texts: list[str], encoding: str) -> None:
    names = [f"{number}.png" for number in range(len(texts))]
    found = []
    for head, code in ((b"", "utf-8"), (MARKS[encoding], encoding)):
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                (Path(folder) / name).write_bytes(b"P")
            data = head + written(kind, texts, names).encode(code)
            (Path(folder) / f"metadata{kind}").write_bytes(data)
            found.append(read(Path(folder), PrepareOptions()))
    assert found[0] == found[1]


@pytest.mark.parametrize("sample_by", ["document", "paragraph", "line"])
@pytest.mark.parametrize("encoding", MARKS)
def test_texts(tmp_path: Path, sample_by: SampleBy, encoding: str):
    text = "one\ntwo ê 漢 🍓\n\nthree\n" * 3
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    expected = read(tmp_path, PrepareOptions(sample_by=sample_by))
    (tmp_path / "a.txt").write_bytes(MARKS[encoding] + text.encode(encoding))
    found = read(tmp_path, PrepareOptions(sample_by=sample_by))
    assert found == expected and len(found) == {"document": 1, "paragraph": 4, "line": 9}[sample_by]


def test_ranges_of_a_long_table_meet(tmp_path: Path):
    rows = "".join(f"{number},text {number} ê\n" for number in range(3000))
    (tmp_path / "a.csv").write_bytes(f"number,text\n{rows}".encode("utf-16"))
    plan = make_plan(str(tmp_path), PrepareOptions())
    items = [item for part in plan.parts for item in read_part(part, PrepareOptions())]
    texts = [item.text for item in items if isinstance(item, Item)]
    assert len(plan.parts) > 3 and texts == [f"text {number} ê" for number in range(3000)]
    assert len({item.key for item in items}) == 3000


@pytest.mark.parametrize("damage", [b"\x00\xd8", b"\x00\xdcx\x00", b"x"])
def test_half_a_character_sets_its_row_aside(tmp_path: Path, damage: bytes):
    """A lone surrogate, of either half, and a byte too few."""
    head = codecs.BOM_UTF16_LE + "number,text\n1,one\n2,two\n3,thr".encode("utf-16-le")
    (tmp_path / "a.csv").write_bytes(head + damage)
    assert read(tmp_path, PrepareOptions()) == [(None, "one"), (None, "two"), ("not_utf8",)]


def test_the_copy_goes_with_the_process_and_follows_the_file(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes("text\none\n".encode("utf-16"))
    with open_utf8(path) as file:
        place = Path(file.name)
        assert place != path and file.read() == b"text\none\n" and size_in_utf8(path) == 9
    path.write_bytes("text\nanother\n".encode("utf-16"))
    with open_utf8(path) as file:
        assert file.read() == b"text\nanother\n"
    _convert.cache_clear()
    assert not place.exists()
