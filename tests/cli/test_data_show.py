import json
import pathlib

import pytest

from trimask.cli import main


def test_one_page_with_everything_in_it(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "new" / "data.html"
    assert main(["data", "show", "--out", str(page), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"page": str(page)}
    assert list(page.parent.iterdir()) == [page]
    text = page.read_text("utf-8")
    assert text.count("<img") > 100 and text.count("<audio") > 10 and "Images: test" in text


def test_a_folder_is_no_page(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "--out", str(tmp_path)]) == 2
    assert "is a folder: name a file" in capsys.readouterr().err
