"""Judges by name and by folder."""

from pathlib import Path

import pytest

from trimask.evaluation.judges.images import ImageJudge
from trimask.evaluation.judges.panel import Panel
from trimask.evaluation.judges.pinned import PINNED
from trimask.evaluation.judges.quality import QualityJudge
from trimask.evaluation.judges.speaker import SpeakerJudge


def _folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).mkdir(parents=True)
        for file in PINNED[name].files:
            (path / name / file).write_bytes(b"")
    return path


def test_a_folder_and_names_later_ones_win(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "judges", "efficientnet-lite0", "distillmos")
    panel = Panel.parse([str(folder), "images=facebook/dinov2-small", "language-model=gpt2"])
    assert panel.images is not None and panel.images.name == "dinov2-small"
    assert panel.quality is not None and panel.quality.source == str(folder / "distillmos")
    assert set(panel.as_json()) == {"images", "quality", "language_model"}
    assert [row["why"].split(":")[0] for row in panel.list_left_out()] == [
        "no judge recognizer",
        "no judge speaker",
        "no judge sentences",
    ]


def test_pinned_judges_have_names_of_their_own(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "efficientnet-lite0", "resemblyzer")
    assert ImageJudge(source=str(folder / "efficientnet-lite0")).name == "EffLite0"
    assert SpeakerJudge(source=str(folder / "resemblyzer")).name == "Resemblyzer"


def test_weights_that_are_not_the_pinned_ones_are_never_loaded(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "distillmos")
    with pytest.raises(ValueError, match="not the pinned file"):
        QualityJudge(source=str(folder / "distillmos")).scores([], 16_000)
    with pytest.raises(ValueError, match="has no DistillMOS"):
        QualityJudge(source=str(tmp_path)).scores([], 16_000)


@pytest.mark.parametrize(
    ("word", "part"),
    [("nowhere", "neither a folder nor role"), ("ear=x", "a role of recognizer"), ("images=", "neither")],
)
def test_what_is_no_judge(word: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        Panel.parse([word])


def test_an_empty_folder_is_no_panel(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--fetch-judges"):
        Panel.parse([str(tmp_path)])
