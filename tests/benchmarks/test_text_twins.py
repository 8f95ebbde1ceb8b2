"""The autoregressive twin sees nothing to its right, and its probabilities are normalized."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.training.text_twins import make_causal, next_token_nats, rows_so_far, sequence_nats
from narrow import resolve_run
from trimask.runs.build import build_denoiser, build_vocabulary
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.sequence import build_sequence


def test_a_target_depends_on_what_is_to_its_left_alone() -> None:
    config = resolve_run("debug")
    denoiser = make_causal(build_denoiser(config, build_vocabulary(config, Tokenizers.load())))
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():  # the first prediction of a new one is uniform
        for parameter in denoiser.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=drawn), alpha=0.3)
    codes = np.arange(12)[:, None] % denoiser.vocabulary.space("text").codebook_size
    document = build_sequence(denoiser.vocabulary, "text", {"text": codes}, num_end={"text": 2})
    batch = make_batch([document, document], [0, 1])
    nats = next_token_nats(denoiser, batch).view(2, 14)
    changed = batch.tokens.clone()
    slot = int(document.maskable.nonzero()[0][5])
    changed[0, slot] += 1
    other = next_token_nats(denoiser, replace(batch, tokens=changed)).view(2, 14)
    assert torch.equal(nats[1], other[1]) and torch.equal(nats[0, :5], other[0, :5])
    assert (nats[0, 5:] != other[0, 5:]).all()
    np.testing.assert_allclose(
        sequence_nats(denoiser, [document]), nats[:1].double().sum(1).detach(), rtol=1e-5
    )


def test_rows_are_continued_only_for_the_same_model_passages_and_seed(tmp_path: Path) -> None:
    given = Namespace(run="quickstart", passages=200, seed=0, out=tmp_path / "result.json")
    assert rows_so_far(given) == {}
    told = {"command": {"run": "quickstart", "passages": 200, "seed": 0}, "found": {"masked": {"seconds": 1}}}
    given.out.write_text(json.dumps(told))
    assert rows_so_far(given) == told["found"]
    for name, value in {"run": "runs/mini", "passages": 48, "seed": 1}.items():
        with pytest.raises(SystemExit, match=f"--{name} .* not of {value}"):
            rows_so_far(Namespace(**(vars(given) | {name: value})))
