from pathlib import Path

import numpy as np
import pytest

from trimask.errors import UserError
from trimask.tables.number_table import read_numbers


def write(folder: Path, text: str) -> Path:
    path = folder / "runs.csv"
    path.write_bytes(text.encode() if "\ufeff" not in text else text.encode("utf-8"))
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_columns_by_role(tmp_path: Path, delimiter: str):
    lines = ["name,params,note,loss", "a,1e6,x,2.5", "", '"b, again",2_000_000 ,y," 2.25"']
    if delimiter != ",":
        lines[3] = "b,2000000,y,2.25"
    path = write(tmp_path, "\n".join(lines).replace(",", delimiter) if delimiter != "," else "\n".join(lines))
    found = read_numbers(path, {"n": "params", "loss": "loss"}, labels={"run": "name"})
    np.testing.assert_array_equal(found.numbers["n"], [1e6, 2e6])
    np.testing.assert_array_equal(found.numbers["loss"], [2.5, 2.25])
    assert found.labels["run"][0] == "a" and found.labels["run"][1].startswith("b")


def test_a_byte_order_mark_and_carriage_returns(tmp_path: Path):
    path = write(tmp_path, "\ufeffparams,loss\r\n10,2\r\n20,1\r\n")
    np.testing.assert_array_equal(read_numbers(path, {"n": "params"}).numbers["n"], [10, 20])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: give a table with a header"),
        ("\n\n", "has only blank lines"),
        ("params,loss\n", "has a header and no rows"),
        ("param,loss\n1,2\n", "has no column 'params': did you mean param?"),
        ("x,y\n1,2\n", "has no column 'params': it has x, y"),
        ("params,params,loss\n1,2,3\n", "has 2 columns 'params': rename all but one"),
        ("params,loss\n1,2\n3,\n", "line 3: loss is empty: fill it in, or remove the line"),
        ("params,loss\n1,2\n\n3,n/a\n", "line 4: loss is 'n/a', not a number: give a number"),
        (
            "params,loss\n1B,2\n",
            "line 2: params is '1B', not a number: write 1234.5, without a comma, a "
            "separator of thousands or a unit",
        ),
        ("params,loss\n1,-2\n", "line 2: loss is -2: it must not be negative"),
        ("params,loss\n1,nan\n", "line 2: loss is nan: remove runs that diverged"),
        ("params,loss\n1,inf\n", "line 2: loss is inf: remove runs that diverged"),
        ("params,loss\n1,2\n3,4,5\n", "line 3: 3 cells, but the header has 2: correct or remove it"),
        ("params,loss\n1,2\0\n", "is not a text file"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(UserError) as raised:
        read_numbers(write(tmp_path, text), {"n": "params", "loss": "loss"})
    assert message in str(raised.value)


def test_no_file_and_a_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_numbers(tmp_path / "none.csv", {"n": "params"})
    with pytest.raises(UserError, match="is a folder"):
        read_numbers(tmp_path, {"n": "params"})
