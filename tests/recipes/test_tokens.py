"""From the embedded data to token sources: who is chosen, and that the codes are the tokenizers' own."""

import numpy as np
import pytest
import torch

from trimask.data.quickstart import load_images, load_speech, load_text
from trimask.data.selection import QuickstartData
from trimask.recipes.tokens import (
    _sentences,
    cached_tokens,
    pictures,
    select_concepts,
    select_speech,
    spoken_prompt,
    windows,
)
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.modality import Modality

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
        assert tokenizers.text.decode(example[Modality.TEXT][:, 0].tolist()) == row.caption
        pixels = torch.from_numpy(row.pixels().copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            np.testing.assert_array_equal(example[Modality.IMAGE], tokenizers.image.encode(pixels)[0].numpy())
    speech = select_speech(load_speech("validation"), SMALL, {row.base for row in rows})
    said = tokenizers.text.decode(sources["spoken"].example(0)[Modality.TEXT][:, 0].tolist())
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


def test_windows_are_whole_sentences_where_they_fit(tokenizers):
    text = load_text("validation")[0].text[:6000]
    assert "".join(_sentences(text)) == text
    spans = list(windows([text], tokenizers, 64))
    assert all(0 < len(window) <= 64 for window in spans)
    whole = [tokenizers.text.decode(window) for window in spans if len(window) < 64]
    assert all(part in text for part in whole) and len(whole) > 5
