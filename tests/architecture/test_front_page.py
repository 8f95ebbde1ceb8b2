"""README is short, its figures are those of the scorecard, and its code and that of docs/sample.md runs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCORES = json.loads((ROOT / "src/trimask/assets/quickstart/scorecard.json").read_text(encoding="utf-8"))
HEADING = "## What the shipped model can do"


def estimate(found: dict[str, Any], *, percent: bool = False) -> str:
    scale, digits, unit = (100, 0, " %") if percent else (1, 2, "")
    value, low, high = (f"{scale * found[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value}{unit} [{low}, {high}]"


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150
    assert (ROOT / "docs/assets/samples.png").stat().st_size <= 90_000


def test_its_figures_are_those_of_the_scorecard() -> None:
    text = next(r for r in SCORES["likelihood"] if (r["task"], r["split"]) == ("text", "validation"))
    images, captions = SCORES["images"], SCORES["captions"]["seen"]
    spoken = SCORES["speech"]["generated"]["unseen"]
    written = SCORES["speech"]["transcripts"]["unseen"]
    continued = SCORES["continuation"]
    shown = {
        "NELBO, bits per token": [estimate(text["conditional"]), f"{text['unigram']:.2f}"],
        "picks the true continuation out of four": [
            estimate(continued["model"], percent=True),
            f"{continued['chance']:.0%}",
            f"{continued['outside_language_model']['value']:.0%}",
        ],
        "the original is the nearest of 1,330": _nearest(images["seen"]),
        "the original is the nearest of 1,366": _nearest(images["composition"]),
        "word F1": [estimate(captions["word_f1"]), f"{captions['floor_constant']['value']:.2f}"],
        "word error rate, Whisper": [
            estimate(spoken["generated_word_error_rate"]),
            f"{spoken['shuffled_word_error_rate']['value']:.2f}",
            f"{spoken['round_trip_word_error_rate']['value']:.2f}",
        ],
        "character error rate": [
            estimate(written["character_error_rate"]),
            f"{written['floor_shuffled']['value']:.2f}",
        ],
    }
    section = README.split(HEADING)[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:1] == "|"
    ][2:]
    assert {row[1] for row in rows} == set(shown)
    for _, measure, *cells in rows:
        figures = [re.sub(r" \((?!\[).*\)$", "", cell).replace(" %", "%") for cell in cells if cell != "–"]
        assert figures == [figure.replace(" %", "%") for figure in shown[measure]]


def _nearest(found: dict[str, Any]) -> list[str]:
    generated = found["generated"]
    return [
        estimate(generated["top1"], percent=True),
        f"{generated['chance']['top1']:.2%}",
        f"{found['ceiling']['top1']['value']:.0%}",
    ]


@pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning")
@pytest.mark.usefixtures("unchecked_shapes", "few_sampling_steps")
@pytest.mark.parametrize("page", ["README.md", "docs/sample.md"])
def test_its_code_runs(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    (program,) = [
        block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "trimask.load" in block
    ]
    exec(program, made := {})
    assert made["picture"].size == (64, 64) and made["sample_rate"] == 16_000
    assert isinstance(made["caption"], str) and isinstance(made["words"], str)
