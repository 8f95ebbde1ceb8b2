"""What a demo calls seen is what the run has drawn."""

from dataclasses import replace
from pathlib import Path

import pytest

from trimask.data.selection import QuickstartData
from trimask.data.source_names import EMOJI, SPOKEN
from trimask.datasets.quickstart import load_text
from trimask.demo.examples import draw_examples, find_drawn
from trimask.recipes.quickstart import debug
from trimask.runs import embedded as tokens
from trimask.runs.embedded import pictures
from trimask.runs.embedded_tokens import load_or_encode
from trimask.tokenizers.bundle import Tokenizers

DATA = QuickstartData(num_concepts=6, has_variants=False, num_sentences=3, voices=("slt",), text_window=32)


def test_seen_is_what_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "load_text", lambda split: load_text(split)[:2])
    config = replace(debug(), data=DATA, logical_batch=2)
    tokenizers = Tokenizers.load()
    load_or_encode(DATA, tokenizers, tmp_path)
    few, all_of_them = (find_drawn(config, tmp_path, num_updates=n) for n in (1, 300))
    assert len(few.pictures) + len(few.utterances) <= 2
    train = pictures("train", DATA)
    used = {part.source for part in config.mixture.components if part.task != "triple"}
    assert {EMOJI, SPOKEN} <= used
    assert set(all_of_them.pictures) == set(range(len(train)))
    for drawn in (few, all_of_them):
        rows = draw_examples(DATA, seed=0, num_images=12, num_clips=4, drawn=drawn)
        shown = {row.hexcode for row in rows.seen}
        numbers = {number for number, row in enumerate(train) if row.hexcode in shown}
        assert numbers == set(drawn.pictures)
        assert len(rows.seen_speech) <= len(drawn.utterances)
