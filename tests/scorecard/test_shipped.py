"""The shipped weights are as good as their card says: a few likelihoods, under bounds near the card's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trimask
from trimask.data.selection import QuickstartData
from trimask.runs.embedded_tokens import load_encoded, write_encoded
from trimask.runs.load import load_config_of
from trimask.sampling.predictor import DenoiserPredictor
from trimask.scorecard.likelihood import measure_likelihood
from trimask.tokenizers.bundle import Tokenizers

BOUNDS = {
    ("text", "speeches", "validation"): 5.0,
    ("text_to_image", "emoji", "train"): 0.5,
    ("image_to_text", "emoji", "train"): 0.4,
    ("text_to_speech", "spoken", "validation"): 4.75,
    ("speech_to_text", "spoken", "validation"): 1.05,
}
"""Bits per token; the first version (two CPU hours) is above all of them."""


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    config, folder = load_config_of("quickstart"), tmp_path_factory.mktemp("tokens")
    assert isinstance(config.data, QuickstartData)
    few = replace(config.data, readings=None, num_concepts=24, num_sentences=24)
    write_encoded(few, Tokenizers.load(), Path(folder), ("train", "validation"))
    return {split: load_encoded(folder, split) for split in ("train", "validation")}


@pytest.mark.parametrize(("task", "source", "split"), BOUNDS)
def test_its_likelihoods_are_near_those_of_its_card(
    splits: dict[str, Any], task: str, source: str, split: str
) -> None:
    config = load_config_of("quickstart")
    predictor = trimask.load("quickstart").predictor
    assert isinstance(predictor, DenoiserPredictor)
    rows = measure_likelihood(
        predictor.denoiser,
        splits,
        source,
        task,
        Tokenizers.load().text,
        seed=0,
        num_sequences=16,
        num_masks=2,
        slack=config.slack,
        text_window=config.data.text_window,
        report=print,
    )
    (row,) = (row for row in rows if row["split"] == split)
    assert row["conditional"]["value"] < BOUNDS[task, source, split] < row["unigram"]
    if task != "text":
        assert row["conditional"]["value"] + 0.05 < row["unconditional"]["value"]
        assert row["conditional"]["value"] + 0.5 < row["shuffled"]["value"]
