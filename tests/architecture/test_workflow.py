"""The workflow for GitHub: well formed, for the Pythons that are named, and no more than `make` does."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
PINNED = re.compile(r"actions/[\w-]+@v\d+")
KNOWN = {"name", "uses", "with", "run", "if", "env", "id", "working-directory", "shell"}


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return yaml.safe_load((FOLDER / "test.yml").read_text("utf-8"))


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_its_parts_are_known(workflow: dict[Any, Any]) -> None:
    # YAML 1.1 takes `on` for a boolean; GitHub does not.
    assert set(workflow) == {"name", True, "permissions", "concurrency", "jobs"}
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"].startswith("ubuntu-") and job["timeout-minutes"] <= 60
    for step in steps(workflow):
        assert set(step) <= KNOWN and len({"uses", "run"} & set(step)) == 1


def test_actions_are_those_of_github_at_a_major_version(workflow: dict[Any, Any]) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used and all(PINNED.fullmatch(name) for name in used)


def test_it_tests_the_pythons_that_are_named(workflow: dict[Any, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [each.split(" :: ")[-1] for each in project["classifiers"] if "Python :: 3." in each]
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == named
    assert project["requires-python"] == f">={named[0]}"


def test_it_calls_make_alone(workflow: dict[Any, Any]) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets: set[str] = set()
    for command in [step["run"] for step in steps(workflow) if "run" in step]:
        program, *words = command.split()
        assert program == "make"
        targets |= {word for word in words if "=" not in word}
    assert targets == {"test", "docs", "dist"}
    assert all(f"\n{target}: " in makefile for target in targets)


def test_cached_files_exist(workflow: dict[Any, Any]) -> None:
    for step in steps(workflow):
        for name in step.get("with", {}).get("cache-dependency-path", "").split():
            assert (ROOT / name).is_file()
