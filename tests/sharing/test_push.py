"""Pushed to a hub and loaded by its name there, by the real client: the hub is one of this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import trimask
from fake_hub import FakeHub, open_hub
from small_model import write_small_model
from trimask.cli import main
from trimask.scorecard.evaluate import load_model
from trimask.scorecard.examples_quickstart import QuickstartExamples

# A model that has learned nothing does not end its texts.
pytestmark = pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with open_hub(tmp_path / "cache") as served:
        yield served


@pytest.fixture(scope="module")
def run(tokenizers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("push") / "run"
    write_small_model(folder, tokenizers_folder)
    return folder


def test_a_round_trip(
    run: Path,
    hub: FakeHub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    address = trimask.push_to_hub(run, "me/small", private=True, license="mit")
    assert address.startswith(f"{hub.url}/me/small/commit/") and hub.private == {"me/small"}
    card = hub.files("me/small")["README.md"].decode()
    assert 'license: "mit"' in card and 'trimask.load("me/small")' in card
    model, local = trimask.load("me/small"), trimask.load(run)
    assert model.samplers == local.samplers and model.seen == local.seen and model.lengths == local.lengths
    options: dict[str, Any] = {"seed": 3, "num_steps": 3, "span_length": 12}
    assert model.generate("text", **options) == local.generate("text", **options)
    assert main(["sample", "me/small", "--task", "text", "--num-steps", "2", "--preset", "fast"]) == 0


def test_it_is_scored_by_its_name(
    run: Path, hub: FakeHub, few_speeches: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trimask.push_to_hub(run, "me/small")
    model = load_model("me/small", held_out="validation", seed=0)
    assert isinstance(model.examples, QuickstartExamples) and model.examples.text_window == 32  # of `debug`
    assert model.generator.seen.captions is None  # prompts are scored as they are


def test_the_next_push_is_one_commit(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    hub.create("me/small")
    first = hub.commit(
        "me/small", {"modules/old.py": b"1", "tokenizers/image/x.json": b"{}", "notes.txt": b"mine"}
    )
    folder = tmp_path / "shared"
    words = ["--out", str(folder), "--push", "me/small"]
    assert main(["export", str(run), *words]) == 0
    files = hub.files("me/small")
    assert len(hub.commits["me/small"]) == 3  # the first is empty
    assert "modules/old.py" not in files and "tokenizers/image/x.json" not in files
    assert files.pop("notes.txt") == b"mine"
    assert files == {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert not hub.files("me/small", first).keys() - {
        "modules/old.py",
        "tokenizers/image/x.json",
        "notes.txt",
    }


def test_what_the_hub_refuses(run: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(trimask.UserError, match=r"'me/a/b' is not a name on the hub: give OWNER/NAME"):
        trimask.push_to_hub(run, "me/a/b")
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(
        trimask.UserError, match=r"does not let you write to me/small: log in \(hf auth login\)"
    ):
        trimask.push_to_hub(run, "me/small")
    assert not hub.commits
