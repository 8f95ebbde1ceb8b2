"""A modality and two tasks that the package does not know, as docs/add-a-modality.md has them: trained,
sampled, scored, beside the model that ships.
"""

import json
import re
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import trimask
from trimask.cli import main
from trimask.generation.generate import Generator
from trimask.prepare.manifest import load_split
from trimask.runs.load import load_run_config, load_trained
from trimask.runs.own_prompt import suggest_prompt
from trimask.studies.pretraining import evaluate_held_out
from trimask.studies.study import ALL
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.tracker import read_metrics
from trimask.vocabulary.layout import RESERVED

PAGE = Path(__file__).parents[2] / "docs" / "add-a-modality.md"
MINE, WRITE, USE = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder, with the data and a trained run."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "mine.py").write_text(MINE)
    (folder / "write.py").write_text(WRITE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        runpy.run_path("write.py")
        assert main(["train", "mine.py:rooms", "--data", "rooms", "--out", "runs/rooms"]) == 0
        yield folder


def test_it_is_trained_as_any(desk: Path) -> None:
    rows = read_metrics(desk / "runs" / "rooms")
    last = rows[-1]
    assert {"depth_bits_per_token", "image_bits_per_token"} <= last.keys()
    assert "evaluation/text_to_depth_depth_bits_per_token" in last
    assert last["depth_bits_per_token"] < rows[0]["depth_bits_per_token"]
    vocabulary = load_trained(desk / "runs" / "rooms")[0].vocabulary
    assert vocabulary.modalities == ("text", "image", "speech", "depth")
    assert vocabulary.special("mask:depth") < vocabulary.num_special
    assert [r.size for r in vocabulary.ranges_of("depth")] == [16, 16]


def test_its_sampler_is_set_by_flag_and_stored(desk: Path) -> None:
    run, flag = desk / "runs" / "rooms", "--sampler.text_to_depth.num_steps=5"
    stored = load_run_config(run).sampler
    assert set(stored) >= {"text_to_depth", "speech_to_image"}  # without a flag too: they can be changed
    words = ["train", "mine.py:rooms", "--data", "rooms", "--out", "runs/steps", "--num-steps=1", flag]
    assert main(words) == 0
    assert load_run_config(desk / "runs" / "steps").sampler["text_to_depth"].num_steps == 5
    assert main(["show", "mine.py:rooms", "--data", "rooms", flag]) == 0


def test_a_source_that_the_data_lack_is_named(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = MINE.replace('source="rooms"', 'source="nowhere"')
    assert source != MINE
    (desk / "other.py").write_text(source)
    assert main(["train", "other.py:rooms", "--data", "rooms", "--out", "runs/nowhere"]) == 2
    assert "the mixture's source 'nowhere' is not in rooms, which has " in capsys.readouterr().err
    for verb in ("train", "show", "plan"):  # before anything is encoded or counted
        assert main([verb, "mine.py:rooms", *(["--out", "runs/nowhere"] if verb == "train" else [])]) == 2
        said = capsys.readouterr().err
        assert "'rooms' is not in the embedded data, which has emoji, " in said
        assert "--data DIR" in said and "encoding" not in said


def test_a_try_that_needs_no_file_is_suggested(desk: Path) -> None:
    config = load_run_config(desk / "runs" / "rooms")
    for tasks in (config.tasks, config.tasks[::-1]):
        config = replace(config, tasks=tasks)
        task, prompt = suggest_prompt(config, Tokenizers.load(desk / "runs" / "rooms" / "tokenizers"))
        assert (task.name, prompt) == ("text_to_depth", "a large room")


def test_studies_evaluate_its_held_out_sequences(desk: Path, tmp_path: Path) -> None:
    run = desk / "runs" / "rooms"
    found = evaluate_held_out(load_run_config(run), load_trained(run)[0], tmp_path)
    of_modalities = [found.pop(name) for name in ("depth", "image")]
    total = found.pop(ALL)
    assert not found
    assert min(of_modalities) < total < max(of_modalities)


def test_it_is_sampled_from_the_shell(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", "runs/rooms", "--num-steps=4", "--out", "samples", "--json"]
    assert main([*command, "--task", "text_to_depth", "--prompt", "a large room"]) == 0
    (sample,) = json.loads(capsys.readouterr().out)["samples"]
    assert set(sample) - {"depth"} <= RESERVED  # so no modality can have the name of another entry
    codes = np.load(sample["depth"])
    assert codes.shape == (16, 2) and 0 <= codes.min() <= codes.max() < 16
    assert main([*command, "--task", "speech_to_image", "--speech", "hello.wav"]) == 0
    (sample,) = json.loads(capsys.readouterr().out)["samples"]
    assert Path(sample["image"]).is_file() and set(sample) - {"image"} <= RESERVED
    order = "--sampler.text_to_depth.order"
    adjusted = [*command, "--task", "text_to_depth", "--prompt", "a room", order, "CoarseFirst"]
    assert main([*adjusted, f"{order}.inner", "Halton", "--sampler.text_to_depth.block-length", "8"]) == 0
    (sample,) = json.loads(capsys.readouterr().out)["samples"]
    settings = json.loads(Path(sample["settings"]).read_text())["sampler"]
    assert (settings["order"]["inner"], settings["block_length"]) == ({"type": "Halton"}, 8)
    assert main([*adjusted, f"{order}.inner", "Confidence"]) == 2  # it is no fixed order
    assert "order.inner" in capsys.readouterr().err


def test_prompts_of_its_tasks_are_respelled_and_checked(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sample", "runs/rooms", "--num-steps=4", "--out", "samples", "--json", "--task=text_to_depth"]
    assert main([*command, "--prompt", "A Large Room."]) == 0
    said = capsys.readouterr()
    (sample,) = json.loads(said.out)["samples"]
    assert json.loads(Path(sample["settings"]).read_text())["prompt_as_spelled"] == "a large room"
    assert "far from the training data" not in said.err
    assert main([*command, "--prompt", "a purple xylophone"]) == 0
    assert "'purple', 'xylophone' are not in its data" in capsys.readouterr().err


def test_what_it_lacks_or_has_no_use_for_is_told(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["--task", "text_to_dept", "--prompt", "x"], "did you mean text_to_depth"),
        (["--task", "speech_to_image"], "task speech_to_image needs --speech FILE"),
        (["--task", "text_to_depth", "--codes", "depth=x.npy"], "--codes depth=x.npy does not exist"),
        (["--task", "speech_to_text", "--codes", "depth=x.npy"], "does not use --codes depth=x.npy"),
        (
            ["--task", "speech_to_image", "--codes", "speach=x.npy"],
            "task speech_to_image needs --speech FILE, and does not use --codes speach=x.npy",
        ),
        (
            ["--task", "text_to_depth", "--prompt", "x", "--sampler.speech_to_image.num_steps", "3"],
            "task text_to_depth does not use --sampler.speech_to_image.num_steps, a setting of task "
            "speech_to_image: leave it out, or give --sampler.text_to_depth.num_steps",
        ),
        (["--task", "text_to_depth", "--codes", "depth"], "--codes depth is not NAME=FILE"),
        (["--task", "text_to_depth", "--prompt", "x", "--span-length", "3"], "the size of depth is fixed"),
    ):
        assert main(["sample", "runs/rooms", "--out", "samples", *words]) in (1, 2)
        assert told in capsys.readouterr().err


def test_the_page_runs(desk: Path) -> None:
    found = runpy.run_path(str(_written(desk / "use.py", USE)))
    assert found["depth"].shape == (16, 2) and found["depth"].dtype.kind == "i"
    assert found["picture"].size == (64, 64)


def test_the_model_that_ships_is_the_same_beside_it(desk: Path) -> None:
    """Two vocabularies in one process: neither knows of the other's tasks."""
    own, shipped = trimask.load(desk / "runs" / "rooms"), trimask.load("quickstart")
    before = _tokens(shipped)
    own.generate("text_to_depth", "a small room", num_steps=2)
    assert np.array_equal(_tokens(shipped), before)
    with pytest.raises(trimask.UserError, match="unknown task 'text_to_depth': choose one of text, "):
        shipped.generate("text_to_depth", "a small room")
    with pytest.raises(trimask.UserError, match="was not trained on joint"):
        own.generate("joint")


def test_codes_that_are_not_of_the_row_are_told(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "mine.py:rooms", "--data", "rooms", "--out", "runs/other"]
    for field, value, found in (
        ("codebook_size", "8", "with codes from 0 to 15"),
        ("num_codebooks", "3", "with 2 codebooks"),
        ("grid", "4,5", "with spans of 16 to 16 cells"),
    ):
        assert main([*words, f"--spaces.depth.{field}", value]) == 1
        said = capsys.readouterr().err
        assert f"has depth {found}, and the run's CodeSpace depth has num_codebooks=" in said
        assert f"{field}={'(4, 5)' if field == 'grid' else value}" in said
        assert "change the CodeSpace to fit the data" in said
    assert set(load_split([desk / "rooms"], "train")["rooms"].num_codes) == {"text", "depth"}


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _tokens(model: Generator) -> np.ndarray:
    return model.generate_many("text_to_image", "strawberry", seed=1, num_steps=4)[0].tokens
