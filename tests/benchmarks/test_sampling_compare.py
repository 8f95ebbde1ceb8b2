"""The networks that the twins see, and the frame that times them: what is computed and counted."""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.sampling import backends, compare, keys_values, ours
from benchmarks.sampling.autoregressive import Autoregressive
from benchmarks.sampling.contenders import Contender, contenders
from benchmarks.sampling.fast_dllm import DenoiserParts
from benchmarks.sampling.keys_values import KeysValues
from benchmarks.sampling.network import CodeNetwork, Count, Head, VocabularyNetwork, masked_canvas
from benchmarks.sampling.work import TASKS, Model, Work, make_work, random_model, random_over
from generation.fakes import random_denoiser, tiny_vocabulary
from trimask.sampling.predictor import DenoiserPredictor
from trimask.vocabulary.batch import make_batch


def tiny_work(task: str, rows: int = 2, length: int = 6) -> Work:
    model = random_over(tiny_vocabulary(), random_denoiser())
    return make_work(replace(model, name="tiny"), task, rows, length)


def half_filled(work: Work) -> Tensor:
    """Every second target revealed, with a code that differs from row to row."""
    batch, vocabulary = work.batch, work.model.denoiser.vocabulary
    z = masked_canvas(batch, vocabulary).tokens.clone()
    start = torch.tensor([r.start for r in vocabulary.ranges])[batch.range_index]
    revealed = batch.maskable & (batch.maskable.cumsum(1) % 2 == 0)
    codes = start + torch.arange(len(z))[:, None]
    return torch.where(revealed, codes, z)


@pytest.mark.parametrize("task", TASKS)
@torch.inference_mode()
def test_both_networks_predict_what_the_denoiser_does(task: str) -> None:
    """Over the vocabulary: the range's probabilities, and none for any other token."""
    work = tiny_work(task)
    denoiser, batch = work.model.denoiser, work.batch
    z, count = half_filled(work), Count()
    log_p = torch.log_softmax(VocabularyNetwork(denoiser, batch, count).logits(z), dim=-1)
    codes = CodeNetwork(denoiser, batch, count)
    is_masked = masked_canvas(batch, denoiser.vocabulary).masked(z)[batch.maskable].view(2, -1)
    local = torch.where(is_masked, codes.size, z[batch.maskable].view(2, -1) - codes.start)
    assert torch.equal(codes.tokens(local), z)
    log_q = torch.log_softmax(codes.logits(local), dim=-1)
    prediction = DenoiserPredictor(denoiser)(z, batch)
    for token_range in denoiser.vocabulary.ranges:
        here = batch.maskable & (batch.range_index == token_range.index)
        slots = here.flatten().nonzero().squeeze(1)
        if len(slots):
            expected = prediction(slots, token_range.index)
            own = slice(token_range.start, token_range.stop)
            torch.testing.assert_close(log_p[here][:, own], expected)
            assert float(log_p[here].exp()[:, own].sum()) == pytest.approx(len(slots))
            torch.testing.assert_close(log_q[codes.range_index == token_range.index], expected)
    assert (count.passes, count.positions) == (2, 2 * batch.num_positions)


@pytest.mark.parametrize("task", TASKS)
@torch.inference_mode()
def test_kept_keys_and_values_change_nothing_while_they_are_fresh(task: str) -> None:
    work = tiny_work(task)
    denoiser, batch = work.model.denoiser, work.batch
    z, count = half_filled(work), Count()
    expected = VocabularyNetwork(denoiser, batch, Count()).logits(z)
    parts = DenoiserParts(denoiser, batch, count)
    slots, positions = z.shape[1], batch.num_positions // 2
    torch.testing.assert_close(parts.logits_between(z, 0, slots)[batch.maskable], expected[batch.maskable])
    assert count.positions == 2 * positions
    first = int(batch.maskable[0].nonzero()[0])
    for start, stop in ((first, slots), (first, first + 2), (first + 2, first + 4)):
        before = count.positions
        torch.testing.assert_close(parts.logits_between(z, start, stop), expected[:, start:stop])
        computed = parts.kept.position[start:stop].unique()
        assert count.positions - before == 2 * len(computed) < 2 * positions


@torch.inference_mode()
def test_causal_passes_in_parts_are_one_whole_pass() -> None:
    work = tiny_work("text_to_speech")
    z, slots = half_filled(work), slice(None)
    whole = KeysValues(work.model.denoiser, work.batch).run(z, slots, is_causal=True)
    kept = KeysValues(work.model.denoiser, work.batch)
    prefix = slice(0, 5)
    parts = [kept.run(z[:, prefix], prefix, until=5, is_causal=True)]
    for position in range(5, kept.num_positions):
        (at,) = (kept.position == position).nonzero(as_tuple=True)
        own = slice(int(at[0]), int(at[-1]) + 1)
        parts.append(kept.run(z[:, own], own, until=position + 1))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    other = z.clone()
    other[:, -1] = work.model.denoiser.vocabulary.pad
    changed = KeysValues(work.model.denoiser, work.batch).run(other, slots, is_causal=True)
    torch.testing.assert_close(changed[:, :-1], whole[:, :-1])  # what comes later is not seen
    assert not torch.allclose(changed[:, -1], whole[:, -1])


@torch.inference_mode()
def test_the_autoregressive_twin_draws_from_its_own_conditionals() -> None:
    """Two codebooks of two codes and an end code at one position: 9 outcomes of one frame."""
    work = tiny_work("text_to_speech", rows=8000, length=1)
    denoiser, batch = work.model.denoiser, work.batch
    found = Autoregressive()(denoiser, batch, Count(), torch.Generator().manual_seed(0))
    one = batch.rows(slice(0, 1))
    z = masked_canvas(one, denoiser.vocabulary).tokens
    hidden = KeysValues(denoiser, one).run(z, slice(None), is_causal=True)
    (slots,) = one.maskable[0].nonzero(as_tuple=True)
    before = hidden[:, int(one.position[0, slots[0]]) - 1]
    p = torch.softmax(Head(denoiser, one)(before[:, None].expand(-1, 2, -1), slots), dim=-1)[0]
    for slot, probability in zip(slots.tolist(), p, strict=True):
        frequency = found[:, slot].bincount(minlength=len(probability)) / len(found)
        assert (frequency - probability).abs().max() < 0.02  # three and a half standard errors of a half


def test_the_random_model_has_the_reference_geometry() -> None:
    work = make_work(random_model(8, 1, 1), "text_to_image", 1, None)
    assert work.num_targets == 1024 and work.model.denoiser.vocabulary.size == 124_879
    chosen, left_out = compare.choose(work, ["llada", "fast-dllm"])
    assert [contender.name for contender in chosen] == [ours.OURS, "llada"]
    assert "random weights" in left_out["fast-dllm"]


def test_rows_that_differ_are_refused() -> None:
    model = tiny_work("text").model
    texts = [model.document("text", length) for length in (3, 5)]
    assert keys_values.refuse(make_batch(texts, range(2))) == "the rows are not of one length"
    assert keys_values.refuse(make_batch(texts[:1] * 2, range(2))) is None


EXPECTED: Mapping[str, Mapping[str, int]] = {
    "text": {"llada": 6, "first-hitting": 6, "maskgit-12": 12, "maskgit-64": 64, "autoregressive": 6},
    "text_to_image": {"llada": 8, "first-hitting": 8, "maskgit-12": 12, "autoregressive": 8},
    "text_to_speech": {"llada": 12, "first-hitting": 12, "maskgit-12": 12, "autoregressive": 6},
    "speech_to_text": {"llada": 6, "first-hitting": 6, "maskgit-64": 64, "autoregressive": 6},
}
"""Passes of those that do not depend on what is drawn."""


@pytest.mark.parametrize("task", EXPECTED)
def test_all_contenders_fill_the_batch_and_are_counted(task: str) -> None:
    work = tiny_work(task)
    names = [name.name for name in contenders(task) if name.name != "mdlm"]
    chosen, left_out = compare.choose(work, names)
    turns = compare.take_turns(work, chosen, rounds=2, seed=0)
    assert set(turns) | set(left_out) == set(names) and chosen[0].name == ours.OURS
    assert all(len(its) == 2 for its in turns.values())
    for name, its in turns.items():
        for turn in its:
            assert turn.passes == EXPECTED[task].get(name, turn.passes)
            if name.startswith(ours.OURS):  # its rows leave when they are full
                assert turn.positions <= turn.passes * work.batch.num_positions
            elif "dual" not in name and "prefix" not in name and name != "autoregressive":
                assert turn.positions == turn.passes * work.batch.num_positions
            assert 0 <= turn.end_share <= 1
    last = int(work.batch.position[0][work.batch.maskable[0]][-1])
    assert turns["autoregressive"][0].positions == 2 * last  # every position before the last target's, once
    found = compare.summarize(work, chosen, turns)
    assert json.loads(json.dumps(found)) == found
    assert found["tokens"] == work.num_targets
    own = found["contenders"][ours.OURS]
    assert own["cpu"]["time_over_trimask"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert own["position_passes"]["median"] == np.median([turn.positions for turn in turns[ours.OURS]])
    assert ("trimask-guided" in left_out) == (task in ("text", "speech_to_text"))


def test_differences_between_backends_are_paired() -> None:
    """Documents that all lose 0.25 nats a token differ from torch by that exactly, however they differ."""
    torch_nats, tokens = np.array([3.0, 8.0, 1.0]), np.array([1, 4, 2])
    nats = {
        "torch": torch_nats,
        "a": torch_nats + 0.25 * tokens,
        "b": torch_nats + np.array([1.0, -1.0, 0.0]),
    }
    found = backends.summarize(nats, tokens)
    assert found["torch"] == {"nats_per_token": 1.7143, "difference": 0, "standard_error": 0}
    assert found["a"] == {"nats_per_token": 1.9643, "difference": 0.25, "standard_error": 0}
    assert (found["b"]["difference"], found["b"]["standard_error"]) == (0, 0.25)  # √(2 · 3/2) / 7


def test_a_contender_with_tokens_of_another_range_is_found_out() -> None:
    work = tiny_work("text")
    wrong = Contender(
        name="wrong",
        settings=None,
        sample=lambda work, count, seed: work.batch.tokens * 0,
        refuse=lambda work: None,
    )
    with pytest.raises(SystemExit, match="wrong filled slots with tokens that cannot stand there"):
        compare.take_turn(work, wrong, seed=0)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From its words to the file, on a tiny model in the place of the shipped one."""
    tiny = tiny_work("text").model
    model = Model(name="tiny", denoiser=tiny.denoiser, document=tiny.document)
    monkeypatch.setattr(compare, "trained_model", lambda run: model)
    out = tmp_path / "result.json"
    words = (
        f"--tasks text --batches 1 2 --length 4 --rounds 2 --contenders llada --seed 5 --out {out}".split()
    )
    monkeypatch.setattr(sys, "argv", ["compare.py", *words])
    compare.main(compare.parse(words))
    result = json.loads(out.read_text())
    assert result["command"] == f"python -m benchmarks.sampling.compare {' '.join(words)}"
    assert (result["seed"], result["rounds"], result["machine"]["threads"]) == (5, 2, 1)
    assert [(each["task"], each["batch"]) for each in result["measured"]] == [("text", 1), ("text", 2)]
    assert list(result["measured"][0]["contenders"]) == ["trimask", "llada"]
    assert "text, batch 2: 8 tokens to fill" in capsys.readouterr().out
