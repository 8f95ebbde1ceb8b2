"""Errors for users are a class of their own, so that a bug is never shown as wrong arguments."""

import ast
from pathlib import Path

import pytest

import trimask
from trimask.cli import main
from trimask.cli.list import List

SOURCE = Path(trimask.__file__).parent


def raised(tree: ast.AST) -> set[str]:
    """Names of the classes that `raise` statements name."""
    statements = (node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise))
    calls = (each.func if isinstance(each, ast.Call) else each for each in statements)
    return {each.id for each in calls if isinstance(each, ast.Name)}


@pytest.mark.parametrize("room", sorted({path.relative_to(SOURCE).parts[0] for path in SOURCE.rglob("*.py")}))
def test_no_plain_value_error_is_raised(room: str) -> None:
    place = SOURCE / room
    for path in [place] if place.is_file() else place.rglob("*.py"):
        assert "ValueError" not in raised(ast.parse(path.read_text())), path


def test_a_bug_is_not_taken_for_wrong_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: List, overrides: object) -> int:
        raise ValueError("shapes do not match")

    monkeypatch.setattr(List, "run", broken)
    with pytest.raises(ValueError, match="shapes do not match"):
        main(["list"])


def test_what_users_catch() -> None:
    with pytest.raises(trimask.UserError, match="gone"):
        trimask.load("quickstart").generate(task="gone")
    assert issubclass(trimask.UserError, ValueError)
