"""Delimited text: each row is read whole or set aside by name; none is merged with another, or split."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from trimask.media.rejection import Rejected
from trimask.sources.table import rows
from trimask.tables import delimited, dialect
from trimask.tables.dialect import find_dialect

NAMES = frozenset({"text", "file_name"})
fuzzed = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SPECIAL = st.text(alphabet=' ,;|\t\n\r"\\ab1é.', max_size=12)
WORDS = st.text(
    alphabet=st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\ufeff"), max_size=20
)
CELLS = SPECIAL | WORDS


def read(path: Path) -> tuple[list[dict[str, Any]], list[Rejected]]:
    found = [row for _, row in rows(path, 0, path.stat().st_size)]
    rejected = [row for row in found if isinstance(row, Rejected)]
    return [dict(row) for row in found if not isinstance(row, Rejected)], rejected


def in_order(found: list[Any], expected: list[Any]) -> bool:
    remaining = iter(expected)
    return all(row in remaining for row in found)


@fuzzed
@example(texts=["x\n1,y"], delimiter=",", quoting=csv.QUOTE_MINIMAL, end="\r\n", mark=False)
@example(texts=["x\n1\ty", "\t"], delimiter="\t", quoting=csv.QUOTE_MINIMAL, end="\n", mark=True)
@given(
    texts=st.lists(CELLS, min_size=1, max_size=8),
    delimiter=st.sampled_from(",;|\t"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
)
def test_what_the_library_writes_is_read(
    texts: list[str], delimiter: str, quoting: Any, end: str, mark: bool, tmp_path: Path
) -> None:
    # A return alone is no end of a line for us, and is for the library.
    texts = [re.sub(r"\r(?!\n)", "", text) for text in texts]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerow(["id", "text"])
    writer.writerows(enumerate(texts))
    path = tmp_path / ("t.tsv" if delimiter == "\t" else "t.csv")
    path.write_bytes(b"\xef\xbb\xbf" * mark + out.getvalue().encode())
    found, rejected = read(path)
    expected = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    if rejected:
        assert in_order(found, expected)
        # What could also be text without quoting, in other rows, cannot be told.
        assert all("stray" in str(error) for error in rejected)
        assert any("\n" in text for text in texts)
    else:
        assert found == expected


@fuzzed
@given(
    texts=st.lists(CELLS, min_size=1, max_size=8),
    suffix=st.sampled_from([".jsonl", ".json", ".ndjson"]),
    form=st.sampled_from(["lines", "array", "pretty", "object"]),
)
def test_json_is_read(texts: list[str], suffix: str, form: str, tmp_path: Path) -> None:
    assume(form == "lines" or suffix == ".json")
    expected = [{"id": number, "text": text} for number, text in enumerate(texts)]
    if form == "lines":
        content = "\n".join(json.dumps(row, ensure_ascii=False) for row in expected)
    elif form == "object":
        content = json.dumps({"version": 1, "data": expected})
    else:
        content = json.dumps(expected, indent=None if form == "array" else 2, ensure_ascii=False)
    path = tmp_path / f"t{suffix}"
    path.write_text(content, encoding="utf-8")
    assert read(path) == (expected, [])


@fuzzed
@example(texts=['"', "a", '"'], num_columns=2, suffix=".tsv")
@example(texts=['"Come in."', '"wait', "he said"], num_columns=2, suffix=".tsv")
@given(
    texts=st.lists(CELLS.map(lambda cell: re.sub(r"[\t\r\n]", " ", cell)), min_size=1, max_size=8),
    num_columns=st.integers(2, 4),
    suffix=st.sampled_from([".tsv", ".csv"]),
)
def test_text_without_quoting_is_read(
    texts: list[str], num_columns: int, suffix: str, tmp_path: Path
) -> None:
    """Quotation marks are text. Where all of them stand as quoting puts them, they may be read as that."""
    names = ["id", *[f"note {number}" for number in range(num_columns - 2)], "text"]
    lines = [names] + [[str(n), *["-"] * (num_columns - 2), text] for n, text in enumerate(texts)]
    path = tmp_path / f"t{suffix}"
    path.write_bytes("\n".join("\t".join(line) for line in lines).encode())
    found, rejected = read(path)
    assert all("stray" in str(error) or "close" in str(error) for error in rejected)
    assert rejected or len(found) == len(texts)
    for row in found:
        text = texts[int(row["id"])]
        assert row["text"] in (text, text.strip(" ")[1:-1].replace('""', '"'))
    assert [int(row["id"]) for row in found] == sorted({int(row["id"]) for row in found})


@fuzzed
@given(
    marks=st.lists(st.integers(0, 300), min_size=1, max_size=4),
    end=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from(",;\t"),
)
def test_stray_marks_merge_no_rows(marks: list[int], end: str, delimiter: str, tmp_path: Path) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerow(["id", "text"])
    for number in range(9):
        writer.writerow([number, f"w{number}{delimiter} w{number}" if number % 3 else f"w{number} w{number}"])
    content = out.getvalue()
    for mark in marks:
        place = len("id,text") + len(end) + mark % (len(content) - len("id,text") - len(end))
        content = content[:place] + '"' + content[place:]
    path = tmp_path / ("t.tsv" if delimiter == "\t" else "t.csv")
    path.write_bytes(content.encode())
    for row in read(path)[0]:
        told = set(re.findall(r"w(\d)", f"{row['id']} {row['text']}"))
        assert len(told) <= 1


def test_long_cells_are_read_whole(tmp_path: Path) -> None:
    long = "\n".join(f"Line {number}, of a long report. " * 40 for number in range(300))
    assert len(long) > 2 * 131_072
    for names in (["text"], ["id", "text"]):
        texts = ["first", long if len(names) == 2 else long.replace(",", ";"), 'with "quotes" in it', "last"]
        with (tmp_path / "t.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows([number, text][-len(names) :] for number, text in enumerate(texts))
        found, rejected = read(tmp_path / "t.csv")
        assert [row["text"] for row in found] == texts and not rejected


def test_what_cannot_be_held_is_set_aside_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "ROW_LIMIT", 1000)
    many, one = "a line, or two\n" * 500, "x, " * 2000
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], [0, "a, b"], [1, many], [2, "c\nd, e"], [3, one + "\n,"]])
        csv.writer(file).writerows([[4, "last, one"]])
    found, rejected = read(tmp_path / "t.csv")
    assert [row["id"] for row in found] == ["0", "2", "4"]
    assert [error.reason for error in rejected] == ["oversized", "oversized"]


SAID = [
    "good morning",
    '"wait for me said he',
    "nobody answered",
    '"come in" she said',
    'asked "why" and left',
]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".tsv", "\t"), (".csv", ",")])
def test_quotation_marks_of_text_are_text(suffix: str, delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{suffix}"
    lines = [f"id{delimiter}text", *[f"{number}{delimiter}{text}" for number, text in enumerate(SAID)]]
    path.write_text("\n".join(lines))
    found, rejected = read(path)
    assert [row["text"] for row in found] == SAID and not rejected


def test_rows_whose_quoting_went_wrong_are_set_aside_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id,text\n1,"a, b"\n2,"wait, said he\n3,he came, "in"\n4,"c, d"\n5,plain\n6,he said "\n')
    found, rejected = read(path)
    assert [row["id"] for row in found] == ["1", "4", "5", "6"]
    assert ["2 lines" in str(error) for error in rejected] == [True]
    # The same where cells do hold line breaks: what follows may be within quotes still.
    path.write_text(
        'id,text\n0,"a\nb, c\nd"\n1,"he said "hi", and\nleft, then\ncame, again"\n'
        '2,"e, f"\n3,"g, h"\n4,"i, j"\n'
    )
    found, (error,) = read(path)
    assert [row["id"] for row in found] == ["0", "2", "3", "4"] and "3 lines" in str(error)


def test_marks_that_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id,text\n1,"he said \\"hi, all\\" and\nleft"\n2,"a \\\\ b, c"\n')
    assert [row["text"] for row in read(path)[0]] == ['he said "hi, all" and\nleft', "a \\ b, c"]


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ("file_name;text\na.png;red, and blue\n", ";"),
        ("\ufefffile_name;text\na.png;red, and blue\n", ";"),
        ("sep=;\nfile_name;text\na.png;red, and blue\n", ";"),
        ('\ufeff"file_name","text"\n"a.png","red, and blue"\n', ","),
        ("file_name|text\na.png|red, and blue\n", "|"),
        ("file_name\ttext\na.png\tred, and blue\n", "\t"),
        ('file_name\ttext\n"a.png"\t"red, and blue"\n', "\t"),
        ('file_name, text\na.png, "red, and blue"\n', ","),
    ],
)
def test_what_spreadsheets_write(content: str, delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content, encoding="utf-8")
    assert find_dialect(path, (",", ";", "\t", "|"), NAMES).delimiter == delimiter
    assert read(path) == ([{"file_name": "a.png", "text": "red, and blue"}], [])


def test_lines_of_text_with_commas_are_one_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text\nhello, you\nand you, too\nall\n")
    assert [row["text"] for row in read(path)[0]] == ["hello, you", "and you, too", "all"]


def test_the_quoting_of_a_long_file_is_told_where_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialect, "_WINDOW", 50)
    path = tmp_path / "t.csv"
    rows_before = "".join(f"{number},word\n" for number in range(200))
    path.write_text("id,text\n" + rows_before + '200,"a\nb, c, d"\n')
    found, rejected = read(path)
    assert len(found) == 201 and found[-1]["text"] == "a\nb, c, d" and not rejected
