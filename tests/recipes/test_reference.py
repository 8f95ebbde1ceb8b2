"""The reference recipes against what is known of the paper's (docs/method.md)."""

import pytest
import torch

from trimask.data.random_codes import random_sources
from trimask.data.selection import StatedData
from trimask.model.denoiser import Denoiser
from trimask.model.flops import ParameterCount, count_parameters
from trimask.model.parametrization import CompletedP
from trimask.planning.workload import workload
from trimask.recipes import catalog
from trimask.recipes.reference import ROW
from trimask.runs.build import build_stream, build_vocabulary
from trimask.training.run import RunConfig

NAMES = ("pilot_320m", "trimodal_1b", "trimodal_3b")
PAPERS_VOCABULARY = 100_277 + 16_384 + 1_024


def reference(name: str) -> RunConfig:
    config = catalog.resolve(name)
    assert isinstance(config, RunConfig)
    return config


def count(name: str) -> ParameterCount:
    config = reference(name)
    return count_parameters(config.model, build_vocabulary(config, None))


@pytest.mark.parametrize("name", NAMES)
def test_the_model_builds_on_the_meta_device_with_as_many_parameters_as_counted(name: str) -> None:
    config = reference(name)
    with torch.device("meta"):
        denoiser = Denoiser(config.model, build_vocabulary(config, None))
    assert sum(p.numel() for p in denoiser.parameters()) == count(name).total
    assert config.model.head_dim == 128
    assert isinstance(config.model.parametrization, CompletedP)
    assert config.model.parametrization.base_width == 1024 and config.model.parametrization.base_depth == 6


def test_sizes() -> None:
    assert PAPERS_VOCABULARY == 117_685
    pilot = count("pilot_320m")
    assert 2 * PAPERS_VOCABULARY * 1024 == pytest.approx(240e6, rel=0.01)
    assert pilot.blocks + 2 * PAPERS_VOCABULARY * 1024 == pytest.approx(320e6, rel=0.02)
    # A range for each codebook, end codes of text and speech, and 17 special tokens.
    ours = 100_277 + 1 + 16_384 + 8 * (1_024 + 1) + 17
    assert (pilot.embedding, pilot.unembedding) == (ours * 1024, ours * 1024)
    assert count("trimodal_1b").total == pytest.approx(1e9, rel=0.02)
    assert count("trimodal_3b").total == pytest.approx(3e9, rel=0.02)


def test_horizons() -> None:
    def tokens(name: str) -> int:
        return reference(name).horizon * ROW

    assert tokens("pilot_320m") == pytest.approx(13e9, rel=1e-4)
    assert tokens("trimodal_1b") == pytest.approx(7754 * count("trimodal_1b").total ** 0.84, rel=0.01)
    assert tokens("trimodal_3b") == pytest.approx(6.4e12, rel=1e-4)
    assert 7754 * 3e9**0.84 == pytest.approx(708e9, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_tuned_values_hold_almost_as_they_are(name: str) -> None:
    config = reference(name)
    assert (config.tuned.logical_batch, config.tuned.num_steps) == (256, reference("pilot_320m").num_steps)
    peak = config.scaled_optimizer.learning_rate
    assert peak == pytest.approx(config.optimizer.learning_rate, rel=0.03)
    assert not config.batch_rule.cautions(config.batch_change)
    steps = config.lr_schedule.factor(1000 / config.num_steps)
    assert steps == pytest.approx(1.0) and config.lr_schedule.factor(500 / config.num_steps) < 0.51


def test_rows_are_full_of_text_and_hold_any_pair() -> None:
    config = reference("trimodal_3b")
    assert isinstance(config.data, StatedData)
    vocabulary = build_vocabulary(config, None)
    stream = build_stream(config, random_sources(config.data), vocabulary)
    longest: dict[str, int] = {}
    for index in range(400):
        sequence = stream.sequence(index)
        longest[sequence.task.name] = max(longest.get(sequence.task.name, 0), sequence.num_slots)
    assert longest["text"] == ROW
    assert 3200 < longest["text_to_speech"] <= ROW
    works = {work.component.task: work for work in workload(config, None)}
    assert works["text_to_image"].positions == 64 + 32 * 32 + 5
    assert works["text_to_speech"].targets == {"speech": 15 * 200 + 3 * 8}
