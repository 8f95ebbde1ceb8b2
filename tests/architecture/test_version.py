"""One version, everywhere that it is stated."""

import re
import tomllib
from pathlib import Path

import yaml

import trimask

ROOT = Path(__file__).parents[2]


def test_all_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    newest = re.findall(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[0]
    assert {project["version"], citation["version"], newest} == {trimask.__version__}
    assert citation["license"] == project["license"]
