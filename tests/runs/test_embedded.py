"""From the embedded data to token sources: who is chosen, and that the codes are the tokenizers' own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from trimask import io, seals
from trimask.config import override
from trimask.data.mixture import Component, MixtureConfig
from trimask.data.selection import QuickstartData
from trimask.datasets.quickstart import load_images, load_speech, load_text
from trimask.datasets.quickstart.tables import read_table, write_table
from trimask.prepare.passages import windows
from trimask.recipes.quickstart import debug
from trimask.runs import embedded as tokens
from trimask.runs.embedded import (
    cached_tokens,
    kept_tokens,
    pictures,
    readings,
    select_concepts,
    select_speech,
    spoken_prompt,
)
from trimask.runs.pretrain import build_stream
from trimask.runs.vocabulary import build_vocabulary
from trimask.tokenizers.bundle import Tokenizers

SMALL = QuickstartData(num_concepts=6, has_variants=False, num_sentences=3, voices=("slt",), text_window=32)


@pytest.fixture(scope="module")
def tokenizers() -> Tokenizers:
    return Tokenizers.load()


def test_a_choice_of_concepts_is_balanced_and_nested():
    images = load_images("train")
    few = {row.base for row in select_concepts(images, QuickstartData(num_concepts=16))}
    more = {row.base for row in select_concepts(images, QuickstartData(num_concepts=40))}
    assert len(few) == 16 and len(more) == 40 and few < more
    groups = {row.base: row.group for row in images}
    counts = [sum(groups[base] == group for base in few) for group in {groups[base] for base in few}]
    assert max(counts) - min(counts) <= 1
    assert "flags" not in {groups[base] for base in more}


def test_compositions_are_of_the_trained_concepts():
    data = QuickstartData(num_concepts=200)
    trained = {row.base for row in pictures("train", data)}
    shown = pictures("composition", data)
    assert shown and {row.base for row in shown} <= trained
    assert len(shown) < len(load_images("composition"))
    assert not {row.hexcode for row in shown} & {row.hexcode for row in pictures("train", data)}


def test_more_readings_are_trained_on_and_nothing_that_is_held_out(tmp_path):
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


def test_variants_and_voices_are_kept_or_left_out():
    images, speech = load_images("train"), load_speech("train")
    plain = select_concepts(images, QuickstartData(has_variants=False))
    assert all(row.hexcode == row.base for row in plain)
    assert len(select_concepts(images, QuickstartData())) > len(plain)
    chosen = select_speech(speech, SMALL, {row.base for row in select_concepts(images, SMALL)})
    assert {row.voice for row in chosen} == {"slt"}
    assert sum(row.kind == "sentence" for row in chosen) == 3


def test_sources_hold_the_tokenizers_codes_and_survive_the_cache(tokenizers, tmp_path):
    sources = cached_tokens(SMALL, tokenizers, "validation", tmp_path)
    assert set(sources) == {"emoji", "spoken", "speeches", "triples"}
    rows = select_concepts(load_images("validation"), SMALL)
    for index, row in enumerate(rows):
        example = sources["emoji"].example(index)
        assert tokenizers.text.decode(example["text"][:, 0].tolist()) == row.caption
        pixels = torch.from_numpy(row.pixels().copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            np.testing.assert_array_equal(example["image"], tokenizers.image.encode(pixels)[0].numpy())
    speech = select_speech(load_speech("validation"), SMALL, {row.base for row in rows})
    said = tokenizers.text.decode(sources["spoken"].example(0)["text"][:, 0].tolist())
    assert said == spoken_prompt(speech[0].text, speech[0].voice) == f"slt: {speech[0].text}"
    again = cached_tokens(SMALL, tokenizers, "validation", tmp_path)
    for name, source in sources.items():
        assert again[name].groups.tolist() == source.groups.tolist()
        for modality, ragged in source.codes.items():
            np.testing.assert_array_equal(again[name].codes[modality].values, ragged.values)


def test_another_choice_is_tokenized_anew(tokenizers, tmp_path):
    few = QuickstartData(num_concepts=100, voices=("slt",))
    more = QuickstartData(num_concepts=400, voices=("slt",))
    sizes = [len(cached_tokens(data, tokenizers, "composition", tmp_path)["emoji"]) for data in (few, more)]
    assert 0 < sizes[0] < sizes[1]


@pytest.mark.parametrize("length", [32, 128])
def test_no_id_is_lost_between_windows(tokenizers, length):
    for row in load_text("validation")[:3]:
        spans = list(windows(row.text, tokenizers.text, length))
        assert [i for window in spans for i in window] == tokenizers.text.encode(row.text)
        assert all(0 < len(window) <= length for window in spans)
        assert any(len(window) < length for window in spans)


@pytest.mark.parametrize("length", [32, 64])
def test_cut_passages_have_no_end(tokenizers, monkeypatch, length):
    """Embedded data: a window has an end just where its last sentence is whole."""
    monkeypatch.setattr(tokens, "load_text", lambda split: load_text(split)[:1])
    config = override(debug(), {"data.text_window": str(length), "data.num_concepts": "1"})
    component = Component(source="speeches", task="text", weight=1.0)
    config = replace(config, mixture=MixtureConfig(components=(component,)))
    sources = tokens.tokenize(config.data, tokenizers, "train")
    passages = sources["speeches"]
    text = load_text("train")[0].text
    joined = passages.codes["text"].values[:, 0].tolist()
    assert joined == tokenizers.text.encode(text)
    stream = build_stream(config, sources, build_vocabulary(config, tokenizers))
    end = stream.vocabulary.ranges_of("text")[0].stop - 1
    ended = [(stream.sequence(i).tokens == end).sum() > 0 for i in range(600)]
    whole = [len(passages.example(stream.mixture.example(i)[1])["text"]) < length for i in range(600)]
    assert ended == whole
    expected = np.mean(passages.num_codes["text"] < length)
    assert 0.05 < expected < 0.95
    assert abs(np.mean(ended) - expected) < 4 * np.sqrt(expected * (1 - expected) / 600)


def test_tokens_of_an_earlier_encoding_are_made_anew(tokenizers, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "load_text", lambda split: load_text(split)[:1])
    data = QuickstartData(num_concepts=1, num_sentences=1, voices=("slt",), text_window=32)
    sources = cached_tokens(data, tokenizers, "validation", tmp_path)
    index = tmp_path / "validation.json"
    stored = io.read_sealed(index)
    assert kept_tokens(data, "validation", tmp_path)
    del stored["version"]
    io.write_sealed(index, stored)
    sources["spoken"].save(tmp_path / "validation-speeches.safetensors")  # what a misreading would give
    assert kept_tokens(data, "validation", tmp_path) is None
    again = cached_tokens(data, tokenizers, "validation", tmp_path)
    assert set(again["speeches"].codes) == {"text"}
    assert kept_tokens(data, "validation", tmp_path)
