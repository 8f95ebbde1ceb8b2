"""The set-up script: finds pip's wheel on an index page, in both forms of the simple API."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BASE = "https://index.example/simple/pip/"


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_newest_wheel_of_an_html_page(bootstrap: ModuleType) -> None:
    page = """<a href="../../files/pip-9.0.1-py3-none-any.whl#sha256=aa">x</a>
    <a href="../../files/pip-26.1-py3-none-any.whl#sha256=bb">x</a>
    <a href="../../files/pip-26.2b1-py3-none-any.whl#sha256=cc">x</a>
    <a href="../../files/pip-27.tar.gz">x</a>"""
    expected = ("https://index.example/files/pip-26.1-py3-none-any.whl", "bb")
    assert bootstrap.newest_wheel(page, "text/html", BASE) == expected


def test_newest_wheel_of_a_json_page(bootstrap: ModuleType) -> None:
    names = ["pip-25.3-py3-none-any.whl", "pip-26.0.1-py3-none-any.whl", "pip-30.0-py3-none-any.whl"]
    files = [
        {"url": f"/f/{name}", "hashes": {"sha256": name[4:6]}, "yanked": name[4:6] == "30"} for name in names
    ]
    found = bootstrap.newest_wheel(json.dumps({"files": files}), "application/vnd.pypi.simple.v1+json", BASE)
    assert found == ("https://index.example/f/pip-26.0.1-py3-none-any.whl", "26")


def test_an_empty_page(bootstrap: ModuleType) -> None:
    with pytest.raises(ValueError, match="no wheel of pip"):
        bootstrap.newest_wheel("<html></html>", "text/html", BASE)


def test_the_index_is_what_the_environment_says(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", BASE)
    assert bootstrap.package_index() == BASE
    monkeypatch.delenv("PIP_INDEX_URL")
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://other.example/100%/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert bootstrap.package_index() == "https://other.example/100%/simple"


def test_constraints_fit_both_builds_of_torch() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(line.count("==") == 1 and "@" not in line and "+" not in line for line in pins)
    assert sum(line.startswith("torch==") for line in pins) == 1
