"""What trials train and evaluate, where the exact answer is known."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from studies.test_run import tiny_run
from trimask.studies.gradients import draw_by_modality, train_partly
from trimask.studies.pretraining import draw_held_out, evaluate_held_out, evaluate_mask_ratios, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_speeches")]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens")


def test_the_untrained_model_has_ln_v_at_every_mask_ratio(tokens: Path) -> None:
    """Its logits are all 0. Ends are one code more."""
    config = tiny_run()
    step, _ = train_partly(config, tokens, num_updates=0)
    vocabulary = step.denoiser.vocabulary
    found = evaluate_mask_ratios(config, step.denoiser, tokens, (1.0, 0.3, 0.01))
    for modality in ("text", "image", "speech"):
        bits = math.log2(vocabulary.space(modality).range_size)
        assert [found[f"cross_entropy/{r}/{modality}"] for r in ("1", "0.3", "0.01")] == pytest.approx(
            [bits] * 3, rel=1e-6
        )
    assert evaluate_held_out(config, step.denoiser, tokens)["image"] == pytest.approx(
        math.log2(vocabulary.space("image").range_size), rel=1e-5
    )


def test_a_part_of_a_run_has_the_weights_of_the_run(tokens: Path, tmp_path: Path) -> None:
    config = replace(tiny_run(), num_steps=3)
    whole, _ = train(config, tmp_path / "run", tokens)
    part, _ = train_partly(config, tokens, num_updates=3)
    for a, b in zip(whole.denoiser.parameters(), part.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)


def test_held_out_sequences_are_those_of_every_trial(tokens: Path) -> None:
    config = tiny_run()
    step, _ = train_partly(config, tokens, num_updates=0)
    other = replace(config, seed=5, logical_batch=16, num_steps=2)
    first, second = (draw_held_out(each, step.denoiser.vocabulary, tokens) for each in (config, other))
    assert len(first) == 256
    assert all((a.tokens == b.tokens).all() for a, b in zip(first, second, strict=True))


def test_gradients_are_measured_on_sequences_of_one_target(tokens: Path) -> None:
    _, stream = train_partly(tiny_run(), tokens, num_updates=0)
    few, more = draw_by_modality(stream, number=3), draw_by_modality(stream, number=6)
    assert set(few) == set(more) == {"text", "image", "speech"}
    for modality, sequences in few.items():
        assert [one.task.target for one in more[modality]] == [modality] * 6
        for a, b in zip(sequences, more[modality], strict=False):
            assert (a.tokens == b.tokens).all()
