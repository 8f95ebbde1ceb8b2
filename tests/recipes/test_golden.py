"""Each recipe resolved, to the last number: a change of a default shows up as a diff of tests/golden.

Refresh with `UPDATE_GOLDEN=1 make test ARGS=tests/recipes/test_golden.py`, and read the diff.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from trimask.config import from_dict, override, to_dict
from trimask.data.mixture import MixtureConfig
from trimask.data.selection import StatedData
from trimask.model.denoiser import Denoiser
from trimask.model.flops import count_parameters, forward_flops
from trimask.planning.figures import figures
from trimask.recipes import catalog
from trimask.recipes.quickstart import debug
from trimask.runs.build import build_denoiser, build_vocabulary
from trimask.tokenizer_training.kinds import TokenizerRun
from trimask.tokenizer_training.text import TextTokenizerRun
from trimask.tokenizer_training.train import rates, training_of
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def tokenizers() -> Tokenizers:
    return Tokenizers.load()


def described(config: RunConfig, tokenizers: Tokenizers) -> dict[str, Any]:
    if isinstance(config.data, StatedData):  # the references: large, and nothing is drawn
        with torch.device("meta"):
            denoiser = Denoiser(config.model, build_vocabulary(config, None))
        work: Any = figures(config, None)
    else:
        denoiser = build_denoiser(config, build_vocabulary(config, tokenizers))
        work = None
    count = count_parameters(config.model, denoiser.vocabulary)
    assert count.total == sum(p.numel() for p in denoiser.parameters())
    return {
        "config": to_dict(config),
        "vocabulary": [[r.modality, r.codebook, r.start, r.stop] for r in denoiser.vocabulary.ranges],
        "parameters": {name: tensor(config, name, p) for name, p in denoiser.named_parameters()},
        "counts": {"embedding": count.embedding, "unembedding": count.unembedding, "blocks": count.blocks},
        "forward_flops_of_1000_positions": forward_flops(
            config.model, num_positions=1000, document_length=100, num_predicted=500, range_size=512
        ),
        **({} if work is None else {"mixture": work["mixture"], "training_flops": work["training_flops"]}),
    }


def tensor(config: RunConfig, name: str, parameter: torch.Tensor) -> dict[str, Any]:
    """What a tensor is, how it starts, and its factors on the optimizer's values."""
    rule = config.model.rule(name)
    if not parameter.is_meta:
        found = float(torch.std(parameter.detach(), correction=0))
        assert abs(found - rule.init_std) <= 5 * rule.init_std / (2 * parameter.numel()) ** 0.5, name
    return {
        "shape": list(parameter.shape),
        "role": rule.role.value,
        "init_std": float(f"{rule.init_std:.6g}"),
        "learning_rate": rule.learning_rate,
        "eps": rule.eps,
        "weight_decay": rule.weight_decay,
    }


def described_tokenizer(config: TokenizerRun | TextTokenizerRun) -> dict[str, Any]:
    if isinstance(config, TextTokenizerRun):
        return {"config": to_dict(config)}
    codec = training_of(config).build()
    return {
        "config": to_dict(config),
        "codes": rates(codec),
        "parameters": {name: list(p.shape) for name, p in codec.named_parameters()},
    }


@pytest.mark.parametrize("name", list(catalog.RECIPES))
def test_a_recipe_is_what_it_was(name: str, tokenizers: Tokenizers):
    path = GOLDEN / f"{name}.json"
    config = catalog.resolve(name)
    is_model = isinstance(config, RunConfig)
    found = described(config, tokenizers) if is_model else described_tokenizer(config)
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(path.read_text())


@pytest.mark.parametrize("name", list(catalog.RECIPES))
def test_a_recipe_survives_json(name: str):
    config = catalog.resolve(name)
    assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config


def test_overrides_reach_every_part():
    config = override(
        debug(),
        {"model.depth": "3", "optimizer.learning_rate": "1e-4", "slack.fraction": "0.5"},
    )
    assert (config.model.depth, config.optimizer.learning_rate, config.slack.fraction) == (3, 1e-4, 0.5)
    assert isinstance(config.mixture, MixtureConfig)
