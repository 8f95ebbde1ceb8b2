"""The tree that `trimask show` prints, and whether its figures are those of the run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trimask.data.mixture import Mixture
from trimask.data.selection import QuickstartData
from trimask.planning.figures import figures
from trimask.planning.mixture_tree import tree
from trimask.recipes import catalog
from trimask.runs.embedded_tokens import load_encoded, load_or_encode
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig


@pytest.mark.usefixtures("few_speeches")
def test_what_is_shown_without_tokenizing_is_what_the_run_draws(
    tokenizers_folder: Path, tmp_path: Path
) -> None:
    """Variants (uneven groups) and two voices, as the model that ships has them."""
    tokenizers = Tokenizers.load(tokenizers_folder)
    debug = catalog.resolve("debug")
    assert isinstance(debug, RunConfig) and isinstance(debug.data, QuickstartData)
    data = replace(debug.data, num_concepts=12, has_variants=True, voices=("slt", "rms"))
    config = replace(debug, data=data, num_steps=100_000)
    shown = figures(config, tokenizers)
    load_or_encode(data, tokenizers, tmp_path)
    sources = load_encoded(tmp_path, "train")
    mixture = Mixture(config.mixture, sources, config.seed)
    assert len(shown["mixture"]) == len(mixture.shares) == 8
    for row, share, component in zip(
        shown["mixture"], mixture.shares, config.mixture.components, strict=True
    ):
        source = sources[component.source]
        # Resampling may give or take a frame of speech.
        assert row["sequences"] == pytest.approx(share * shown["sequences"], rel=0.01)
        assert row["share"] == pytest.approx(component.weight, abs=2e-4)
        assert row["tokens"] == pytest.approx(sum(n.sum() for n in source.num_codes.values()), rel=0.01)
        assert row["epochs"] == pytest.approx(row["sequences"] / len(np.unique(source.groups)), rel=0.01)


def test_the_tree_adds_up_and_numbers_the_components() -> None:
    def leaf(data: str, task: str, source: str, target_tokens: int) -> dict[str, Any]:
        amounts = {"target_tokens": target_tokens, "share": target_tokens / 1000, "sequences": 7}
        return {
            "data": data,
            "task": task,
            "source": source,
            "epochs": 2.5,
            "token_epochs": 3.0,
            **amounts,
        }

    lines = list(
        tree(
            [
                leaf("text", "text", "books", 500),
                leaf("text+image", "text_to_image", "photos", 250),
                leaf("text", "text", "web", 100),
                leaf("text+image", "image_to_text", "photos", 150),
            ]
        )
    )
    rows = [" ".join(line.split()) for line in lines[1:]]
    assert rows == [
        "text 600 60.00 % 14",
        "text 600 60.00 % 14",
        "books [0] 500 50.00 % 7 2.5 3",
        "web [2] 100 10.00 % 7 2.5 3",
        "text+image 400 40.00 % 14",
        "text_to_image, photos [1] 250 25.00 % 7 2.5 3",
        "image_to_text, photos [3] 150 15.00 % 7 2.5 3",
    ]
    assert [len(line) - len(line.lstrip()) for line in lines[1:]] == [0, 2, 4, 4, 0, 2, 2]
