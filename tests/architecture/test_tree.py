"""The tree in docs/architecture.md is the tree on the disk."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "src/trimask"


def tree_block() -> list[str]:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    match = re.search(r"^## The tree\n.*?^```\w*\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert match, "docs/architecture.md has no fenced block after the heading '## The tree'"
    return match[1].splitlines()


def named_paths() -> list[str]:
    """The paths at the start of each line of the tree; indented ones stand under the last folder."""
    paths, folder = [], ""
    for line in filter(str.strip, tree_block()):
        is_inside = line.startswith(" ")
        listed = re.match(
            r"\S+(?: {1,2}\S+\.\w+| {1,2}(?:Makefile|LICENSE|NOTICE|\.ci/run)(?!\S))*", line.strip()
        )
        assert listed, f"cannot read the line {line!r}"
        names = listed[0].split()
        paths += [folder + name if is_inside else name for name in names]
        if not is_inside:
            folder = names[0] if names[0].endswith("/") else ""
    return paths


def test_each_path_that_is_named_exists() -> None:
    paths = named_paths()
    assert paths
    for path in paths:
        assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file(), (
            f"docs/architecture.md names {path}"
        )


def test_each_part_of_the_package_is_named() -> None:
    named = {path.rstrip("/") for path in named_paths()}
    assert PACKAGE in named
    for part in (ROOT / PACKAGE).iterdir():
        is_code = (part.suffix == ".py" and part.name != "__init__.py") or (
            part.is_dir() and any(part.rglob("*.py"))
        )
        if is_code:
            assert f"{PACKAGE}/{part.name}" in named, (
                f"the tree in docs/architecture.md does not name {part.name}"
            )
