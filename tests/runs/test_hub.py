"""Models by their name on a hub: the real client, and a hub of this machine."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import trimask
from fake_hub import FakeHub, open_hub
from small_model import write_small_model
from trimask import io, modules
from trimask.diffusion.schedule import Schedule
from trimask.runs.hub import fetch, is_hub_name
from trimask.training.run_directory import CONFIG

PAGE = Path(__file__).parents[2] / "docs" / "add-a-schedule.md"
MINE = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
MARK = "ran.txt"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.chdir(tmp_path)
    with open_hub(tmp_path / "cache") as served:
        yield served


@pytest.fixture(scope="module")
def small(tokenizers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "small"
    write_small_model(folder, tokenizers_folder)
    return folder


@pytest.fixture
def model(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "of_mine"))


def forget() -> None:
    for file in modules.loaded_files():
        sys.modules.pop(file.copy.removesuffix(".py"), None)


@pytest.fixture
def own(tokenizers_folder: Path, tmp_path: Path) -> Iterator[Path]:
    """A model with a schedule in a user's file, which leaves a mark where it is run; it is not imported."""
    file = tmp_path / "desk" / "mine.py"
    file.parent.mkdir()
    file.write_text(f"with open({MARK!r}, 'a') as mark:\n    mark.write('ran ')\n{MINE}")
    schedule = modules.load(f"{file}:Steep")()
    assert isinstance(schedule, Schedule)
    write_small_model(tmp_path / "own", tokenizers_folder, schedule=schedule)
    forget()
    (tmp_path / MARK).unlink(missing_ok=True)
    yield tmp_path / "own"
    forget()


def test_names(hub: FakeHub, tmp_path: Path) -> None:
    assert all(map(is_hub_name, ["me/small", "a-b/c.d_e", "me/small@v1", "me/small@refs/pr/1"]))
    paths = ["quickstart", "./small", "../a", "a/b/c", "/a/b", "me/", "me/small@", "me/small.safetensors", ""]
    assert not any(map(is_hub_name, paths)) and not is_hub_name(Path("me/small"))
    (tmp_path / "me").mkdir()
    assert not is_hub_name("me/small")  # a mistyped run, more likely
    with pytest.raises(FileNotFoundError, match="me/small is not a run directory"):
        trimask.load("me/small")


def test_revisions(hub: FakeHub, model: Path) -> None:
    first = hub.push("me/small", model)
    hub.refs["me/small"]["v1"] = first
    (model / "presets.json").unlink()
    hub.push("me/small", model)
    for old in (fetch("me/small@v1"), fetch("me/small", "v1"), fetch("me/small", first)):
        assert (old / "presets.json").exists()
    assert not (fetch("me/small") / "presets.json").exists()
    assert trimask.load("me/small", revision="v1", preset="fast").samplers["text_to_image"].num_steps == 2
    with pytest.raises(trimask.UserError, match="me/small has no revision v2: name a branch, a tag"):
        fetch("me/small@v2")
    with pytest.raises(trimask.UserError, match="has a revision, and 'v1' is given too"):
        fetch("me/small@v1", "v1")
    with pytest.raises(trimask.UserError, match="revision is for a model on the hub"):
        trimask.load(model, revision="v1")
    with pytest.raises(trimask.UserError, match="trust_code is for a model on the hub"):
        trimask.load(model, trust_code=True)


def test_offline_it_comes_from_the_cache(
    hub: FakeHub, model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.push("me/small", model)
    folder = fetch("me/small")
    assert {each.name for each in folder.iterdir()} == {each.name for each in model.iterdir()}
    fetched = len(hub.fetched)
    assert fetch("me/small") == folder and len(hub.fetched) == fetched
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch("me/small") == folder
    with pytest.raises(trimask.UserError, match="me/other is neither here nor in the hub's cache"):
        fetch("me/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    assert fetch("me/small") == folder and "the hub cannot be reached" in caplog.text


def test_what_is_no_model_of_ours(hub: FakeHub, model: Path) -> None:
    hub.create("me/other")
    hub.commit("me/other", {CONFIG: b'{"model_type": "gpt2"}', "model.safetensors": b"0" * 100})
    with pytest.raises(trimask.UserError, match=r"me/other is not a model of trimask: its config.json"):
        fetch("me/other")
    assert "model.safetensors" not in hub.fetched
    hub.commit("me/other", {"pytorch_model.bin": b"pickle"})
    with pytest.raises(trimask.UserError, match=r"me/other is not a model of trimask: it has no config.json"):
        fetch("me/other")
    with pytest.raises(trimask.UserError, match="me/gone is not here, and the hub has no public model"):
        fetch("me/gone")
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"pickle")
    hub.push("me/half", model)
    with pytest.raises(trimask.UserError, match=r"not a whole model of trimask: it has no model.safetensors"):
        fetch("me/half")
    assert "pytorch_model.bin" not in hub.fetched


def test_damage_is_told(hub: FakeHub, model: Path) -> None:
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    hub.push("me/small", model)
    with pytest.raises(trimask.UserError, match=r"model.safetensors is damaged"):
        trimask.load("me/small")


def test_code_of_others_is_not_run_unasked(hub: FakeHub, own: Path, tmp_path: Path) -> None:
    hub.push("me/own", own)
    (copy,) = (each.name for each in (own / "modules").iterdir())
    for _ in range(2):  # the first one has not left it imported
        with pytest.raises(trimask.UserError, match=f"me/own needs user code, {copy}, which is not run"):
            trimask.load("me/own")
    assert not (tmp_path / MARK).exists()
    trimask.load("me/own", trust_code=True)
    assert (tmp_path / MARK).read_text() == "ran "


def test_code_that_the_user_has_imported_is_used(hub: FakeHub, own: Path, tmp_path: Path) -> None:
    hub.push("me/own", own)
    modules.load(f"{tmp_path}/desk/mine.py:Steep")
    trimask.load("me/own")
    assert (tmp_path / MARK).read_text() == "ran "  # by the user


@pytest.mark.parametrize("where", [CONFIG, "presets.json", "seen.json"])
def test_no_package_is_imported_for_a_stranger(where: str, hub: FakeHub, model: Path) -> None:
    assert "this" not in sys.modules
    stored = io.read_sealed(model / where)
    if where == CONFIG:
        stored["run"]["lr_schedule"] = {"type": "this:Zen"}
    elif where == "presets.json":
        stored["presets"]["fast"]["text_to_image"]["order"] = {"type": "this:Zen"}
    else:
        stored["captions"]["type"] = "this:Zen"
    (io.write_json if where == "presets.json" else io.write_sealed)(model / where, stored)
    hub.push("me/own", model)
    with pytest.raises(trimask.UserError):
        trimask.load("me/own", preset="fast")
    assert "this" not in sys.modules
