"""README's two programs are the code itself, not a likeness of it."""

import re
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
SECTION = "## The mathematics in two programs"
SOURCES = ["training/step.py", "sampling/sampler.py"]
BLANK_LINE = "\n\n"


def shown() -> list[str]:
    """The Python blocks of README's section on the two programs."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(SECTION)[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def paragraphs(source: str) -> list[str]:
    """What stands between blank lines in src/trimask/`source`, without the indentation it has in common."""
    text = (ROOT / "src" / "trimask" / source).read_text(encoding="utf-8")
    return [dedent(paragraph).strip("\n") + "\n" for paragraph in text.split(BLANK_LINE)]


def test_both_are_shown_and_short() -> None:
    assert len(shown()) == len(SOURCES)
    assert all(1 < len(block.splitlines()) <= 16 for block in shown())


@pytest.mark.parametrize(("place", "source"), list(enumerate(SOURCES)))
def test_the_program_is_a_paragraph_of_its_module(place: int, source: str) -> None:
    assert shown()[place] in paragraphs(source)
