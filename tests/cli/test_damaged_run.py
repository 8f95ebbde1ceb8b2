"""Run directories that are damaged, or written by someone else: one line, and nothing is touched."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trimask
from trimask import io, seals
from trimask.cli import main
from trimask.config import to_dict
from trimask.data.selection import QuickstartData
from trimask.data.shards import Example
from trimask.generation.length import LengthPolicy
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.weights import save_denoiser
from trimask.runs import embedded_tokens as tokens
from trimask.runs.lengths import LENGTHS, load_lengths, save_lengths
from trimask.runs.pretrain import MODEL, TOKENIZERS
from trimask.runs.seen import SEEN
from trimask.tokenizer_training.decoded import load_or_make
from trimask.tokenizer_training.signals import Signal, SignalWriter
from trimask.tokenizers.bundle import Tokenizers, hashes
from trimask.training.tracker import METRICS_FILE, Tracker, read_metrics
from trimask.vocabulary.codebooks import CodebookLayout, Parallel
from trimask.vocabulary.layout import Vocabulary


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tokenizers_folder: Path) -> Path:
    """A run whose denoiser has learned nothing."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(tokenizers_folder, folder / TOKENIZERS)
    layouts: dict[str, CodebookLayout] = {"image": Parallel(), "speech": Parallel()}
    vocabulary = Vocabulary(spaces=Tokenizers.load(tokenizers_folder).spaces, layouts=layouts)
    denoiser = Denoiser(DenoiserConfig(width=16, depth=1, num_heads=1), vocabulary)
    denoiser.initialize(0)
    save_denoiser(folder / MODEL, denoiser, recipe="debug", steps="0")
    config = {"recipe": "debug", "run": {}, "tokenizers": hashes(tokenizers_folder)}
    io.write_sealed(folder / "config.json", config)
    save_lengths(folder, LengthPolicy())
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def flip(path: Path, share: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(share * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FILES = (
    MODEL,
    LENGTHS,
    "config.json",
    "tokenizers/text.json",
    "tokenizers/image.safetensors",
    "tokenizers/speech.safetensors",
)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("name", FILES)
def test_a_reader_finds_one_flipped_bit(
    name: str, share: float, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trimask.load(run)
    flip(run / name, share)
    before = content(run)
    assert main(["sample", str(run), "--task", "text"]) == 1
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1 and str(run) in printed.err, printed.err
    assert Path(name).name in printed.err and printed.out == ""
    assert content(run) == before


def lost(path: Path) -> None:
    path.symlink_to("gone")


def unreadable(path: Path) -> None:
    """As a disk with a fault: each read of it fails."""
    path.symlink_to("/proc/self/mem")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lost, unreadable])
@pytest.mark.parametrize("name", [*FILES, SEEN, "tokenizers/sha256.json"])
def test_something_else_in_the_place_of_a_file(
    name: str, make: Callable[[Path], None], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).unlink(missing_ok=True)
    make(run / name)
    assert main(["sample", str(run), "--task", "text"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("trimask: error: ") and f"{run / name}" in line, line


def test_an_index_that_was_changed_with_its_file_does_not_help(run: Path) -> None:
    """The run knows the tokenizers that it began with."""
    text = json.loads((run / TOKENIZERS / "text.json").read_text())
    io.write_json(run / TOKENIZERS / "text.json", text)
    seals.write_index(run / TOKENIZERS, hashes(run / TOKENIZERS))
    Tokenizers.load(run / TOKENIZERS)
    with pytest.raises(ValueError, match=r"text.json is damaged"):
        trimask.load(run)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
texts = values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
nested = st.just(b"[" * 100_000) | st.just(b'{"run":' * 5000 + b"1" + b"}" * 5000)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["config.json", LENGTHS, "tokenizers/sha256.json"]), text=texts | nested)
def test_arbitrary_json_is_one_line(
    whole: Path, name: str, text: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / name).read_bytes()
    try:
        (whole / name).write_bytes(text)
        words = ["sample", str(whole), "--task", "text", "--span-length", "4", "--num-steps", "1"]
        status = main(words)
        lines = capsys.readouterr().err.splitlines()
        if status:  # an object without what we look for may be of an earlier version
            assert status in (1, 2) and len(lines) == 1 and lines[0].startswith("trimask: error: ")
    finally:
        (whole / name).write_bytes(before)


@pytest.mark.parametrize("text", ['{"step": 1}x', "7", '{"step": true}', "[" * 5000, '{"step": 1, "a": NaN}'])
def test_metrics_that_are_none_are_named(text: str, tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text('{"step": 1}\n' + text + "\n")
    with pytest.raises(ValueError, match="line 2: not a row of metrics; remove the line"):
        read_metrics(tmp_path)
    (tmp_path / METRICS_FILE).write_text('{"step": 1}\n')  # as the message says
    assert read_metrics(tmp_path) == [{"step": 1}]


def test_metrics_that_changed_since_their_checkpoint_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Tracker(tmp_path, keep_until=0) as tracker:
        tracker.write({"step": 1, "evaluation/bits": 2.5})
        digest = tracker.sha256
        tracker.write({"step": 2})
    for bits, is_told in ((2.5, False), (2.7, True)):
        (tmp_path / METRICS_FILE).write_text(json.dumps({"step": 1, "evaluation/bits": bits}) + "\n")
        caplog.clear()
        with Tracker(tmp_path, keep_until=1, expected=digest):
            pass
        assert ("metrics.jsonl is not as it was written, up to step 1" in caplog.text) == is_told
    (tmp_path / METRICS_FILE).unlink()
    with Tracker(tmp_path, keep_until=1, expected=digest):
        assert "metrics.jsonl is not as it was written" in caplog.text


@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["manifest.json", "train/emoji-000000-000.safetensors"])
def test_damaged_tokens_are_encoded_again(
    name: str,
    damage: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    codes = {"text": np.arange(4).reshape(4, 1), "image": np.zeros((4, 2), dtype=np.int64)}
    made: list[str] = []

    def encode(
        data: QuickstartData, tokenizers: Tokenizers, split: str, **_: object
    ) -> dict[str, list[Example]]:
        made.append(split)
        return {"emoji": [Example(key="1F34E", group=0, codes=codes)]}

    monkeypatch.setattr(tokens, "encode", encode)
    data, tokenizers, folder = QuickstartData(), Tokenizers.load(), tmp_path / "tokens"

    def read() -> None:
        tokens.load_or_encode(data, tokenizers, folder)
        found = tokens.load_encoded(folder, "train")
        assert found["emoji"].example(0)["text"].tolist() == [[0], [1], [2], [3]]

    read()
    read()
    assert made == ["train", "validation"]
    damage(folder / name)
    read()
    read()
    assert made == ["train", "validation"] * 2
    assert "it is encoded again" in caplog.text
    assert (tmp_path / "tokens.corrupt").is_dir()


@pytest.mark.parametrize("name", ["signals.json", "train.arrow"])
def test_damaged_signals_are_made_again(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:

    made: list[int] = []

    def make() -> dict[str, object]:
        made.append(1)
        with SignalWriter(tmp_path / "train.arrow", shape=(-1,), dtype=np.int16) as writer:
            writer.add(Signal(key="a", text="", speaker="", values=np.arange(500, dtype=np.int16)))
        return {"counts": {"train": 1}}

    def read() -> None:
        found = load_or_make(tmp_path / "signals.json", make, lambda stored: ["train.arrow"])
        assert found["train.arrow"][0].values.tolist() == list(range(500))

    read()
    read()
    assert made == [1]
    flip(tmp_path / name)
    read()
    assert made == [1, 1] and "made again" in caplog.text
    (tmp_path / "train.arrow").unlink()
    read()
    assert made == [1, 1, 1]


def test_lengths_that_an_earlier_version_wrote_are_read(tmp_path: Path) -> None:
    io.write_json(tmp_path / LENGTHS, to_dict(LengthPolicy()))
    assert load_lengths(tmp_path) == LengthPolicy()


def test_a_folder_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = "import sys, time; from pathlib import Path; from trimask import locks\n"
    program += "with locks.lock(Path(sys.argv[1])): print('locked', flush=True); time.sleep(600)"
    out, source = tmp_path / "run", tmp_path / "text.txt"
    source.write_text("A line.")
    with subprocess.Popen(
        [sys.executable, "-c", program, str(out)], stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "locked\n"
            for words in (
                ["train", "debug"],
                ["train", "image_tokenizer", "--training.num-steps=1"],
                ["train", "text_tokenizer"],
                ["demo", "--minutes=0"],
                ["study", "run", "horizon"],
                ["prepare", str(source)],
            ):
                assert main([*words, "--out", str(out)]) == 1, words
                assert "is in use by another process" in capsys.readouterr().err
                assert [path.name for path in out.iterdir()] == [".lock"]
        finally:
            other.kill()


@pytest.fixture
def as_users_run_it() -> Iterator[None]:
    """Without the checks of types that tests have and users have not."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("as_users_run_it")
def test_what_is_loaded_has_a_name(run: Path) -> None:
    loaded = trimask.load(str(run))
    io.save_tensors(run.parent / "other.safetensors", {}, kind="vocoder", config={})
    cases: list[tuple[tuple[Any, Any], str]] = [
        ((5, None), "run is 5: give a run's directory"),
        ((None, None), "run is None: give"),
        ((run, 5), "tokenizers is 5: give a folder"),
        ((run, run / TOKENIZERS), "has its own: leave them out"),
        (("quickstart", run / TOKENIZERS), "has its own: leave them out"),
        ((run.parent / "other.safetensors", None), "holds 'vocoder'"),
    ]
    for asked, match in cases:
        with pytest.raises(ValueError, match=match):
            trimask.load(asked[0], tokenizers=asked[1])
    assert loaded.generate("text_to_image", "a hat", num_steps=1, raw_prompt=True) is not None
