"""Python in how-to pages that no other test runs."""

import re
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {"fit-your-runs.md": 3, "mix-modalities.md": 2, "tune-small-train-large.md": 1}
NEEDS_A_RUN = "step, stream.batch"  # a form: the objects are those of a run


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("page", PAGES)
def test_it_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the pages name files of examples/
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    programs = [
        p
        for p in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        if NEEDS_A_RUN not in p
    ]
    assert len(programs) == PAGES[page]
    for program in programs:
        module = types.ModuleType("mine")
        monkeypatch.setitem(sys.modules, "mine", module)  # where its dataclasses look names up
        exec(program, module.__dict__)
