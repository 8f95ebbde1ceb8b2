"""Shards that are no shards, or hold what no tokenizer gave, in a manifest whose hashes are all right."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimask import io, seals
from trimask.cli import main
from trimask.prepare.manifest import Manifest, load_split
from trimask.recipes.quickstart import debug
from trimask.runs.build import build_vocabulary
from trimask.runs.kinds import kind_of
from trimask.runs.prepared import with_prepared
from trimask.tokenizers.bundle import Tokenizers

SHARD = "train/text-000000-000.safetensors"
SMALL = ["--model.width=16", "--model.num-heads=1", "--log-every=1", "--threads=1", "--num-steps=1"]
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def prepared(tokenizers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    lines = "".join(json.dumps({"text": f"Line {number}. It ends."}) + "\n" for number in range(40))
    (root / "lines.jsonl").write_text(lines)
    words = ["prepare", str(root / "lines.jsonl"), "--out", str(root / "data"), "--workers=1"]
    assert main([*words, "--tokenizers", str(tokenizers_folder), "--validation=0.2"]) == 0
    return root / "data"


def reseal(folder: Path, change: Callable[[Any], None]) -> None:
    stored = io.read_sealed(folder / "manifest.json")
    change(stored)
    io.write_json(folder / "manifest.json", seals.seal(stored))


def replaced(prepared: Path, to: Path, change: Callable[[Tensors], None]) -> Path:
    """A copy in which the first shard is another, and the manifest's hashes are those of what is there."""
    folder = to / "data"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared, folder)
    tensors = dict(io.load_tensors(folder / SHARD, kind="shard").tensors)
    change(tensors)
    io.save_tensors(folder / SHARD, tensors, kind="shard", config={"source": "text", "split": "train"})
    codes = tensors.get("text.values")
    num_codes = 0 if codes is None else codes.numel()

    def follow(stored: Any) -> None:
        (entry,) = (entry for entry in stored["shards"] if entry["file"] == SHARD)
        path = folder / SHARD
        entry |= {"num_bytes": path.stat().st_size, "sha256": io.sha256(path), "tokens": {"text": num_codes}}
        stored["counts"]["train"]["text"]["tokens"]["text"] = num_codes

    reseal(folder, follow)
    return folder


def change_of(name: str, value: Callable[[Tensor], Tensor]) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = value(tensors[name])

    return change


def at(place: int, value: int) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        found = tensor.clone()
        found.view(-1)[place] = value
        return found

    return change


HOSTILE = {
    "a boundary below 0": change_of("text.offsets", at(1, -5)),
    "a boundary beyond the end": change_of("text.offsets", at(-1, 10**15)),
    "boundaries that go back": change_of("text.offsets", at(2, 10_000)),
    "too few boundaries": change_of("text.offsets", lambda t: t[:-1]),
    "boundaries of fractions": change_of("text.offsets", lambda t: t.double()),
    "keys beyond the end": change_of("keys.offsets", at(-1, 10**15)),
    "an id beyond the vocabulary": change_of("text.values", lambda t: at(0, 2**31 - 1)(t.int())),
    "an id below 0": change_of("text.values", lambda t: at(0, -1)(t.int())),
    "an id that wraps": change_of("text.values", lambda t: at(0, 2**32 + 5)(t.long())),
    "codes of fractions": change_of("text.values", lambda t: t.float()),
    "codes of one dimension": change_of("text.values", lambda t: t.view(-1)),
    "two codebooks": change_of("text.values", lambda t: t.repeat(1, 2)),
    "no codebooks": change_of("text.values", lambda t: t[:, :0]),
    "groups of fractions": change_of("groups", lambda t: t.float()),
    "too many groups": change_of("groups", lambda t: t.repeat(2)),
    "no groups": lambda tensors: tensors.pop("groups"),
    "no codes": lambda tensors: tensors.pop("text.values"),
    "other tensors": lambda tensors: tensors.update(more=torch.zeros(2)),
    "a passage longer than the window": lambda tensors: tensors.update(
        {"text.offsets": torch.tensor([0] * (len(tensors["groups"])) + [len(tensors["text.values"])])}
    ),
}


@pytest.fixture(scope="module")
def tokenizers(prepared: Path) -> Tokenizers:
    return Tokenizers.load(prepared / "tokenizers")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_shard_that_is_none(name: str, prepared: Path, tokenizers: Tokenizers, tmp_path: Path):
    folder = replaced(prepared, tmp_path, HOSTILE[name])
    config = with_prepared(debug(), [folder])
    with pytest.raises(ValueError, match="is not a shard as `trimask prepare` writes it") as caught:
        kind_of(config.data).check(build_vocabulary(config, tokenizers))
    said = str(caught.value)
    assert SHARD in said and "prepare the data again" in said and "\n" not in said


def test_it_is_one_line_for_users(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = replaced(prepared, tmp_path, HOSTILE["an id beyond the vocabulary"])
    capsys.readouterr()
    assert main(["train", "debug", "--data", str(folder), "--out", str(tmp_path / "run"), *SMALL]) in (1, 2)
    last = capsys.readouterr().err.splitlines()[-1]
    assert SHARD in last and f"text has codes from 0 to {2**31 - 1} instead of 0 to " in last


@pytest.mark.parametrize(
    "change",
    [
        {"num_examples": 10**12},
        {"num_examples": 2**60},
        {"tokens": {"text": 10**14}},
        {"tokens": {"text": 5, "image": 5}},
        {"tokens": {}},
        {"source": "images", "file": SHARD.replace("text", "images")},
    ],
)
def test_a_manifest_that_says_what_cannot_be(change: dict[str, Any], prepared: Path, tmp_path: Path):
    folder = tmp_path / "data"
    shutil.copytree(prepared, folder)

    def rewrite(stored: Any) -> None:
        (entry,) = (entry for entry in stored["shards"] if entry["file"] == SHARD)
        entry |= change
        counted = {"examples": entry["num_examples"], "tokens": entry["tokens"]}
        del stored["counts"]["train"]
        stored["counts"]["train"] = {entry["source"]: counted}

    reseal(folder, rewrite)
    with pytest.raises(
        ValueError, match=r"manifest.json is damaged .* run the command that prepared the data"
    ):
        Manifest.load(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_any_value_in_any_tensor(data: st.DataObject, prepared: Path, tokenizers: Tokenizers, tmp_path: Path):
    """What is not refused is read whole, and holds only what the tokenizers can give."""

    def change(tensors: Tensors) -> None:
        name = data.draw(st.sampled_from(sorted(tensors)))
        kind = data.draw(st.sampled_from([torch.int64, torch.int32, torch.uint8, torch.float32, None]))
        tensor = tensors[name] if kind is None else tensors[name].to(kind)
        place = data.draw(st.integers(0, tensor.numel() - 1))
        value = data.draw(st.sampled_from([0, 1, 7, 255, -1, 65_535, 2**31 - 1]))
        info = torch.iinfo(tensor.dtype) if not tensor.is_floating_point() else None
        if info is None or info.min <= value <= info.max:
            tensor = at(place, value)(tensor)
        tensors[name] = tensor

    folder = replaced(prepared, tmp_path, change)
    try:
        config = with_prepared(debug(), [folder])
        kind_of(config.data).check(build_vocabulary(config, tokenizers))
    except ValueError as error:
        assert SHARD in str(error) and "\n" not in str(error)
        return
    (source,) = load_split([folder], "train").values()
    for index in range(len(source)):
        (codes,) = source.example(index).values()
        assert codes.shape[1] == 1 and (codes >= 0).all()
        assert (codes < tokenizers.text.vocabulary_size).all()
        assert source.key(index) is not None and source.language(index) == ""


def test_each_bit_of_a_manifest_is_covered(prepared: Path, tmp_path: Path):
    folder = tmp_path / "data"
    shutil.copytree(prepared, folder)
    whole = (folder / "manifest.json").read_bytes()
    for bit in range(0, 8 * len(whole), 61):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        (folder / "manifest.json").write_bytes(changed)
        with pytest.raises(ValueError, match=r"manifest\.json"):
            Manifest.load(folder)


def test_a_manifest_of_an_earlier_version_is_read_and_stays(
    prepared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "data"
    shutil.copytree(prepared, folder)
    stored = io.read_sealed(folder / "manifest.json")
    io.write_json(folder / "manifest.json", stored)
    before = (folder / "manifest.json").read_bytes()
    seals._warned_files.cache_clear()
    manifest = Manifest.load(folder)
    assert manifest == Manifest.load(prepared) and "has no hash" in caplog.text
    manifest.save(folder)  # a run knows it by its bytes
    assert (folder / "manifest.json").read_bytes() == before
