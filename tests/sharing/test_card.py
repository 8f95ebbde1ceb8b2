"""The model card: Markdown with the hub's metadata, the scorecard's figures, what the model cannot do."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from trimask.errors import UserError
from trimask.io import read_json
from trimask.runs.load import QUICKSTART
from trimask.sharing.card import write_card
from trimask.sharing.contents import Contents, gather_contents


@pytest.fixture(scope="module")
def contents() -> Contents:
    return replace(gather_contents("quickstart"), text=None)


def card(contents: Contents) -> str:
    return write_card(contents, name="me/small", dtype="float32", license="mit", languages=["en"])


def test_the_metadata_are_yaml(contents: Contents) -> None:
    _, head, body = card(contents).split("---\n", 2)
    found = yaml.safe_load(head)
    assert (found["library_name"], found["license"], found["language"]) == ("trimask", "mit", ["en"])
    assert {"masked-diffusion", "text-to-image", "speech-to-text"} <= set(found["tags"])
    assert body.startswith("\n# me/small\n")


def test_the_figures_are_those_of_the_scorecard(contents: Contents) -> None:
    text = card(contents)
    scores = read_json(QUICKSTART.parent / "scorecard.json")
    row = next(row for row in scores["likelihood"] if (row["task"], row["split"]) == ("text", "validation"))
    assert f"| text → text | unseen | {row['conditional']['value']:.2f} ± " in text
    assert "`trimask evaluate RUN --suite full --out RUN/scorecard.json`, seed 0, 200 examples" in text
    scores["claims"][1:3] = [{**claim, "passed": False} for claim in scores["claims"][1:3]]
    failed = sum(not claim["passed"] for claim in scores["claims"])
    assert f"- {failed} bounds of its scorecard do not hold" in card(replace(contents, scores=scores))
    assert 'trimask.load("me/small")' in text and "bounds (NELBO)" in text


def test_tables_are_whole(contents: Contents) -> None:
    block: list[str] = []
    for line in [*card(contents).splitlines(), ""]:
        if line.startswith("|"):
            block.append(line)
        elif block:
            assert len({row.replace("\\|", "").count("|") for row in block}) == 1, block[0]
            block = []


def test_without_scores(contents: Contents) -> None:
    assert "None were measured." in card(replace(contents, scores=None))


def test_a_card_of_ones_own_is_kept(contents: Contents, tmp_path: Path) -> None:
    own = "# Mine\n\nMy words.\n"
    text = card(replace(contents, text=own))
    assert text.startswith("---\nlibrary_name: trimask\n") and text.endswith(f"---\n{own}")
    whole = f"---\nlicense: mit\n---\n{own}"
    bare = write_card(replace(contents, text=whole), name="x", dtype="float32", license=None, languages=())
    assert bare == whole
    with pytest.raises(UserError, match=r"README.md states license and languages itself"):
        card(replace(contents, text=whole))
