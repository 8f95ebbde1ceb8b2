"""From the embedded data to token sources: who is chosen, and that the codes are the tokenizers' own."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trimask import seals
from trimask.config import override
from trimask.data.mixture import Component, MixtureConfig
from trimask.data.selection import QuickstartData
from trimask.data.shards import ShardedTokens
from trimask.datasets.quickstart import load_images, load_speech, load_text
from trimask.datasets.quickstart.tables import read_table, write_table
from trimask.errors import UserError
from trimask.prepare.manifest import load_split
from trimask.prepare.passages import windows
from trimask.prepare.prepare import prepare
from trimask.recipes.quickstart import debug
from trimask.runs import embedded, embedded_tokens
from trimask.runs.build import build_stream, build_vocabulary
from trimask.runs.embedded import encode, pictures, readings, select_concepts, select_speech, spoken_prompt
from trimask.runs.embedded_tokens import check_encoded, load_encoded, load_or_encode, write_encoded
from trimask.runs.kinds import kind_of
from trimask.sources.options import PrepareOptions
from trimask.tokenizers.bundle import Tokenizers

FEW = 2
SMALL = QuickstartData(num_concepts=6, has_variants=False, num_sentences=3, voices=("slt",), text_window=32)


@pytest.fixture(scope="module")
def tokenizers() -> Tokenizers:
    return Tokenizers.load()


def test_a_choice_of_concepts_is_balanced_and_nested() -> None:
    images = load_images("train")
    few = {row.base for row in select_concepts(images, QuickstartData(num_concepts=16))}
    more = {row.base for row in select_concepts(images, QuickstartData(num_concepts=40))}
    assert len(few) == 16 and len(more) == 40 and few < more
    groups = {row.base: row.group for row in images}
    counts = [sum(groups[base] == group for base in few) for group in {groups[base] for base in few}]
    assert max(counts) - min(counts) <= 1
    assert "flags" not in {groups[base] for base in more}


def test_compositions_are_of_the_trained_concepts() -> None:
    data = QuickstartData(num_concepts=200)
    trained = {row.base for row in pictures("train", data)}
    shown = pictures("composition", data)
    assert shown and {row.base for row in shown} <= trained
    assert len(shown) < len(load_images("composition"))
    assert not {row.hexcode for row in shown} & {row.hexcode for row in pictures("train", data)}


def test_more_readings_are_trained_on_and_nothing_that_is_held_out(tmp_path: Path) -> None:
    """A table as `build` writes one, with a sentence more in each split."""
    rows = read_table("speech")[::100]
    splits = ("train", "validation", "test")
    rows += [{**rows[-1], "id": f"new-{split}", "text": f"new {split}", "split": split} for split in splits]
    path = write_table(tmp_path, "speech", rows, {})
    seals.write_index(tmp_path, {path.name: seals.file_sha256(path)})
    data = QuickstartData(readings=tmp_path)
    assert {row.id for row in readings("train", data)} == {r["id"] for r in rows if r["split"] == "train"}
    for split in ("validation", "test"):
        assert readings(split, data) == load_speech(split)
    assert readings("train", QuickstartData()) == load_speech("train")


def test_variants_and_voices_are_kept_or_left_out() -> None:
    images, speech = load_images("train"), load_speech("train")
    plain = select_concepts(images, QuickstartData(has_variants=False))
    assert all(row.hexcode == row.base for row in plain)
    assert len(select_concepts(images, QuickstartData())) > len(plain)
    chosen = select_speech(speech, SMALL, {row.base for row in select_concepts(images, SMALL)})
    assert {row.voice for row in chosen} == {"slt"}
    assert sum(row.kind == "sentence" for row in chosen) == 3


@pytest.fixture
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "load_text", lambda split: load_text(split)[:FEW])


@pytest.mark.usefixtures("few_texts")
def test_sources_hold_the_tokenizers_codes_and_are_kept(tokenizers: Tokenizers, tmp_path: Path) -> None:
    load_or_encode(SMALL, tokenizers, tmp_path)
    sources = load_encoded(tmp_path, "validation")
    assert set(sources) == {"emoji", "spoken", "speeches", "triples"}
    rows = select_concepts(load_images("validation"), SMALL)
    for index, row in enumerate(rows):
        example = sources["emoji"].example(index)
        assert sources["emoji"].key(index) == row.hexcode
        assert tokenizers.text.decode(example["text"][:, 0].tolist()) == row.caption
        pixels = torch.from_numpy(row.pixels().copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            np.testing.assert_array_equal(example["image"], tokenizers.image.encode(pixels)[0].numpy())
    speech = select_speech(load_speech("validation"), SMALL, {row.base for row in rows})
    said = tokenizers.text.decode(sources["spoken"].example(0)["text"][:, 0].tolist())
    assert said == spoken_prompt(speech[0].text, speech[0].voice) == f"slt: {speech[0].text}"
    first = (tmp_path / "manifest.json").stat().st_mtime_ns
    load_or_encode(SMALL, tokenizers, tmp_path)
    assert (tmp_path / "manifest.json").stat().st_mtime_ns == first, "it was encoded twice"


@pytest.mark.usefixtures("few_texts")
def test_variants_are_groups_numbered_in_order(tokenizers: Tokenizers) -> None:
    data = QuickstartData(num_concepts=5, num_sentences=1, voices=("slt",))
    examples = encode(data, tokenizers, "composition")["emoji"] + encode(data, tokenizers, "train")["emoji"]
    rows = pictures("composition", data) + pictures("train", data)
    assert [example.key for example in examples] == [row.hexcode for row in rows]
    trained = [(e.group, row.base) for e, row in zip(examples, rows, strict=True) if row.split == "train"]
    assert len({group for group, _ in trained}) == len({base for _, base in trained}) == len(set(trained))
    firsts = list(dict.fromkeys(group for group, _ in trained))
    assert firsts == list(range(len(firsts)))


def test_another_choice_is_encoded_anew(tokenizers: Tokenizers) -> None:
    few = QuickstartData(num_concepts=100, voices=("slt",))
    more = QuickstartData(num_concepts=400, voices=("slt",))
    sizes = [len(encode(data, tokenizers, "composition")["emoji"]) for data in (few, more)]
    assert 0 < sizes[0] < sizes[1]


@pytest.mark.parametrize("length", [32, 128])
def test_no_id_is_lost_between_windows(tokenizers: Tokenizers, length: int) -> None:
    for row in load_text("validation")[:3]:
        spans = list(windows(row.text, tokenizers.text, length))
        assert [i for window in spans for i in window] == tokenizers.text.encode(row.text)
        assert all(0 < len(window) <= length for window in spans)
        assert any(len(window) < length for window in spans)


def prepared_ids(folder: Path, tokenizers: Tokenizers, data: QuickstartData) -> dict[str, list[np.ndarray]]:
    """What `prepare` makes of the training texts: the windows of each document, in order."""
    texts = folder / "texts"
    texts.mkdir()
    for row in load_text("train")[:FEW]:
        (texts / f"{row.id}.txt").write_text(row.text)
    options = PrepareOptions(text_window=data.text_window, validation=0.0, test=0.0)
    prepare(str(texts), folder / "prepared", options=options)
    return by_document(load_split((folder / "prepared",), "train")["text"])


def embedded_ids(folder: Path, tokenizers: Tokenizers, data: QuickstartData) -> dict[str, list[np.ndarray]]:
    write_encoded(data, tokenizers, folder, ("train",))
    return by_document(load_encoded(folder, "train")["speeches"])


def by_document(source: ShardedTokens) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for index in range(len(source)):
        document = source.key(index).rpartition("#")[0].removesuffix(".txt")
        found.setdefault(document, []).append(source.example(index)["text"][:, 0])
    return found


@pytest.mark.parametrize("read", [embedded_ids, prepared_ids])
@pytest.mark.parametrize("length", [8, 64, 128])
@pytest.mark.usefixtures("few_texts")
def test_each_id_of_the_text_is_there_once(
    tokenizers: Tokenizers, tmp_path: Path, read: Any, length: int
) -> None:
    """End to end, the windows of a paragraph are its ids, whichever way it is prepared."""
    data = replace(SMALL, num_concepts=1, num_sentences=1, text_window=length)
    found = read(tmp_path, tokenizers, data)
    rows = load_text("train")[:FEW]
    assert len(found) == len(rows)
    for row in rows:
        [own] = [spans for document, spans in found.items() if Path(document).name == row.id]
        assert np.concatenate(own).tolist() == tokenizers.text.encode(row.text)
        assert max(map(len, own)) <= length


@pytest.mark.parametrize("length", [32, 64])
def test_cut_passages_have_no_end(
    tokenizers: Tokenizers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, length: int
):
    """Embedded data: a window has an end just where its last sentence is whole."""
    monkeypatch.setattr(embedded, "load_text", lambda split: load_text(split)[:1])
    config = override(debug(), {"data.text_window": str(length), "data.num_concepts": "1"})
    component = Component(source="speeches", task="text", weight=1.0)
    config = replace(config, mixture=MixtureConfig(components=(component,)))
    sources = kind_of(config.data).sources(tokenizers, "train", tmp_path)
    passages = sources["speeches"]
    stream = build_stream(config, sources, build_vocabulary(config, tokenizers))
    end = stream.vocabulary.ranges_of("text")[0].stop - 1
    ended = [(stream.sequence(i).tokens == end).sum() > 0 for i in range(600)]
    whole = [len(passages.example(stream.mixture.example(i)[1])["text"]) < length for i in range(600)]
    assert ended == whole
    expected = np.mean(passages.num_codes["text"] < length)
    assert 0.05 < expected < 0.95
    assert abs(np.mean(ended) - expected) < 4 * np.sqrt(expected * (1 - expected) / 600)


@pytest.fixture
def one(tokenizers: Tokenizers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QuickstartData:
    """The smallest choice, encoded into `tmp_path / "tokens"`."""
    monkeypatch.setattr(embedded, "load_text", lambda split: load_text(split)[:1])
    data = QuickstartData(num_concepts=1, num_sentences=1, voices=("slt",), text_window=32)
    load_or_encode(data, tokenizers, tmp_path / "tokens")
    return data


def test_what_is_of_something_else_is_set_aside(
    tokenizers: Tokenizers,
    tmp_path: Path,
    one: QuickstartData,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    folder = tmp_path / "tokens"
    check_encoded(one, tokenizers.hashes, folder)
    others = {**tokenizers.hashes, "text.json": "0" * 64}
    with pytest.raises(UserError, match="holds other data, or was encoded by other tokenizers"):
        check_encoded(one, others, folder)
    with pytest.raises(UserError, match="holds other data"):
        check_encoded(replace(one, text_window=64), tokenizers.hashes, folder)
    monkeypatch.setattr(embedded_tokens, "VERSION", embedded_tokens.VERSION + 1)
    with pytest.raises(UserError, match="or another version"):
        check_encoded(one, tokenizers.hashes, folder)
    load_or_encode(one, tokenizers, folder)
    check_encoded(one, tokenizers.hashes, folder)
    assert "it is encoded again" in caplog.text
    assert (tmp_path / "tokens.corrupt" / "manifest.json").is_file()


def test_tokens_of_an_earlier_format_are_set_aside(
    tokenizers: Tokenizers, tmp_path: Path, one: QuickstartData, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "tokens"
    (folder / "manifest.json").unlink()
    (folder / "train.json").write_text("{}")
    load_or_encode(one, tokenizers, folder)
    check_encoded(one, tokenizers.hashes, folder)
    assert "has no manifest.json; it is encoded again" in caplog.text


def test_readings_are_recognised_by_their_content(
    tokenizers: Tokenizers, tmp_path: Path, one: QuickstartData
) -> None:
    def write(name: str, rows: list[dict[str, Any]]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        path = write_table(folder, "speech", rows, {})
        seals.write_index(folder, {path.name: seals.file_sha256(path)})
        return folder

    rows = read_table("speech")[::400]
    first, same, other = write("first", rows), write("same", rows), write("other", rows[1:])
    folder = tmp_path / "more"
    load_or_encode(replace(one, readings=first), tokenizers, folder)
    check_encoded(replace(one, readings=first), tokenizers.hashes, folder)
    check_encoded(replace(one, readings=same), tokenizers.hashes, folder)
    for now in (other, None):
        with pytest.raises(UserError, match="encoded from other readings"):
            check_encoded(replace(one, readings=now), tokenizers.hashes, folder)
    shutil.rmtree(first)  # a run directory goes on without them
    check_encoded(replace(one, readings=first), tokenizers.hashes, folder)
