"""`trimask evaluate` before it computes: all that is wrong with names is told at once; and what it keeps."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trimask import io
from trimask.cli import main
from trimask.evaluation.judges.languages import LANGUAGES, whisper_language
from trimask.evaluation.judges.panel import Panel
from trimask.runs import load as runs
from trimask.runs.load import QUICKSTART
from trimask.scorecard import evaluate
from trimask.scorecard.sections import Sections, one_line


def _error(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["evaluate", *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "checking the judges" not in line]
    assert all(line.startswith("trimask: error: ") for line in lines)
    return "\n".join(lines)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was loaded: nothing, where names are wrong."""
    loaded: list[str] = []
    monkeypatch.setattr(runs, "load", lambda run: loaded.append(str(run)))
    return loaded


def test_all_wrong_arguments_are_told_at_once(
    tmp_path: Path, computed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["nowhere", "--suite", "huge", "--split", "train", "--threads", "0", "--out", str(tmp_path)]
    error = _error(capsys, *words, "--judges", "ears=x", str(tmp_path))
    for part in (
        "nowhere",
        "huge",
        "'train'",
        "--threads is 0",
        "is a folder",
        "'ears=x'",
        "has none of the judges",
    ):
        assert part in error, part
    assert not computed


def test_all_judges_and_tasks_are_checked_before_anything_is_computed(
    tmp_path: Path,
    computed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tasks: Any = ModuleType("lm_eval.tasks")

    class TaskManager:
        all_tasks = ("arc_easy", "lambada_openai", "piqa")

        def match_tasks(self, names: list[str]) -> list[str]:
            return [name for name in names if name in self.all_tasks]

    tasks.TaskManager = TaskManager
    monkeypatch.setitem(sys.modules, "lm_eval", ModuleType("lm_eval"))
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", tasks)
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    judges = ["recognizer=base", f"quality={tmp_path}", f"sentences={tmp_path / 'absent'}"]
    words = ["--judges", *judges, "--lm-tasks", "piqa", "lambada_opnai", str(tmp_path / "own.yaml")]
    error = _error(capsys, "quickstart", *words, "--language", "klingon")
    for part in (
        "judge recognizer=base: the speech judge needs faster-whisper",
        f"judge quality={tmp_path}: {tmp_path} has no DistillMOS",
        f"judge sentences={tmp_path / 'absent'}: ",
        "no task 'lambada_opnai': did you mean lambada_openai",
        "own.yaml does not exist",
        "does not know language 'klingon': choose one of en, zh, de",
    ):
        assert part in error, part
    assert "piqa'" not in error and not computed


def test_a_recognizer_is_a_folder_or_a_name_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library: Any = ModuleType("faster_whisper")
    library.available_models = lambda: ["tiny", "base"]
    library.download_model = lambda name: name
    monkeypatch.setitem(sys.modules, "faster_whisper", library)
    assert Panel.parse(["recognizer=base"]).problems() == []
    assert Panel.parse(["recognizer=owner/name"]).problems() == []
    assert "one of tiny, base" in Panel.parse(["recognizer=bsae"]).problems()[0]
    assert "no model.bin" in Panel.parse([f"recognizer={tmp_path}"]).problems()[0]
    (tmp_path / "model.bin").touch()
    assert Panel.parse([f"recognizer={tmp_path}"]).problems() == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *[("de", "de"), ("pt-BR", "pt"), ("zh_CN", "zh"), ("deu", "de"), ("nb-NO", "no"), ("Hindi", "hi")],
        *[("Haitian Creole", "ht"), ("yue", "yue"), ("cmn", "zh"), (" EN ", "en")],
    ],
)
def test_languages_by_the_names_that_data_has(name: str, code: str) -> None:
    assert whisper_language(name) == code


@pytest.mark.parametrize("name", ["", "ga-IE", "klingon", "e"])
def test_an_unknown_language_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(ValueError, match="choose one of en, zh, de") as error:
        whisper_language(name)
    assert all(code in str(error.value) for code in LANGUAGES)


def test_what_fails_is_set_aside_and_what_is_done_is_kept() -> None:
    scores: dict[str, Any] = {}
    saved, told = [], []
    sections = Sections(scores, save=lambda s: saved.append(dict(s)), report=told.append, warn=told.append)
    with sections.part("first"):
        scores["first"] = 1
    with sections.part("second"):
        raise ValueError("no such thing\n  at all")
    with sections.part("third"):
        scores["third"] = 1 // 0
    with sections.part("fourth"):
        scores["fourth"] = 4
    assert scores["first"] == 1 and scores["fourth"] == 4 and "third" not in scores
    assert scores["failed"] == [
        {"scores": "second", "why": "no such thing"},
        {"scores": "third", "why": "ZeroDivisionError: integer division or modulo by zero"},
    ]
    assert "not scored: second: no such thing" in told
    assert sorted(saved[0]) == ["failed", "first"] and len(saved) == 4
    with pytest.raises(KeyboardInterrupt), sections.part("fifth"):
        raise KeyboardInterrupt
    assert one_line(RuntimeError("")) == "RuntimeError"


def test_a_scorecard_with_gaps_is_written_told_and_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.json"
    out.write_text("{}")
    seen: list[dict[str, Any]] = []

    def answer(run: str, **options: Any) -> dict[str, Any]:
        scores = io.read_json(QUICKSTART.parent / "scorecard.json")
        failed = [{"scores": "continuations", "why": "out of luck"}]
        options["save"]({"likelihood": scores["likelihood"]})
        seen.append(io.read_json(out))
        options["warn"]("not scored: continuations: out of luck")
        return {**scores, "failed": failed}

    monkeypatch.setattr(evaluate, "evaluate", answer)
    assert main(["evaluate", "quickstart", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert seen[0]["is_finished"] is False and seen[0]["likelihood"]
    assert "is_finished" not in io.read_json(out) and io.read_json(out)["failed"]
    assert "exists and will be overwritten" in printed.err
    assert "not scored: continuations: out of luck" in printed.err
    assert "Failed: continuations (out of luck)" in printed.out
