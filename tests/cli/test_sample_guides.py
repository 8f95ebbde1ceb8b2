"""`trimask sample` with a negative prompt, further prompts, and settings of single targets."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import trimask
from trimask.cli import main
from trimask.config import from_dict
from trimask.generation import Guide
from trimask.io import read_json, write_json
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.weights import save_denoiser
from trimask.runs.pretrain import MODEL, TOKENIZERS
from trimask.sampling import SamplerConfig
from trimask.tokenizers.bundle import SHIPPED, Tokenizers
from trimask.vocabulary.layout import Vocabulary


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose denoiser predicts something, at random, and whose pictures show it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    tokenizers = Tokenizers.load()
    shutil.copytree(SHIPPED, folder / TOKENIZERS)
    denoiser = Denoiser(DenoiserConfig(width=16, depth=1, num_heads=1), Vocabulary(spaces=tokenizers.spaces))
    denoiser.initialize(0)
    draw = np.random.default_rng(0).normal(size=denoiser.unembedding.weight.shape) * 0.3
    denoiser.unembedding.weight.data.copy_(torch.from_numpy(draw))
    save_denoiser(folder / MODEL, denoiser)
    write_json(folder / "config.json", {"recipe": "debug", "run": {}})
    return folder


def made(run: Path, out: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["sample", str(run), *words, "--seed", "3", "--json", "--out", str(out)]) == 0
    (sample,) = json.loads(capsys.readouterr().out)["samples"]
    return sample


def pixels(run: Path, **options: Any) -> np.ndarray:
    generator = trimask.load(run)
    return np.array(generator.generate("text_to_image", "a hat", seed=3, num_steps=3, **options))


def shown(sample: dict[str, Any]) -> np.ndarray:
    with PIL.Image.open(sample["image"]) as picture:
        return np.array(picture)


def test_prompts_that_guide(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same in Python; the file beside the sample has them."""
    words = ["--task", "text_to_image", "--prompt", "a hat", "--num-steps", "3"]
    more = ["--negative-prompt", "a coat", "--guide", "a cap: red:2", "--guide", "b:-0.5", "--filmstrip"]
    sample = made(run, tmp_path, capsys, *words, *more)
    guides = [Guide(prompt="a cap: red", scale=2.0), Guide(prompt="b", scale=-0.5)]
    assert np.array_equal(shown(sample), pixels(run, negative_prompt="a coat", guides=guides))
    assert not np.array_equal(shown(sample), pixels(run))
    told = read_json(sample["settings"])
    assert (told["negative_prompt"], told["negative_prompt_as_spelled"]) == ("a coat", "a coat")
    assert told["guides"] == [
        {"prompt": "a cap: red", "prompt_as_spelled": "a cap: red", "scale": 2.0},
        {"prompt": "b", "prompt_as_spelled": "b", "scale": -0.5},
    ]
    strip = shown({"image": sample["filmstrip"]})
    assert np.array_equal(strip[:, -64:], shown(sample))
    plain = read_json(made(run, tmp_path, capsys, *words)["settings"])
    assert "guides" not in plain and "negative_prompt" not in plain


@pytest.mark.filterwarnings("ignore::trimask.generation.SpanTooShortWarning")
def test_settings_of_a_target(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--task", "joint", "--sampler.joint.num-steps", "3", "--sampler.joint.targets.image.num-steps"]
    sample = made(run, tmp_path, capsys, *words, "2", "--sampler.joint.targets.image.order", "Random")
    stored = from_dict(SamplerConfig, read_json(sample["settings"])["sampler"])
    assert (stored.num_steps, stored.of_target("image").num_steps) == (3, 2)
    again = trimask.load(run).generate("joint", seed=3, config=stored)
    assert np.array_equal(np.array(again.image), shown(sample)) and again.text == sample["text"]
    other = made(run, tmp_path, capsys, *words, "3", "--sampler.joint.targets.image.order", "Random")
    assert not np.array_equal(shown(other), shown(sample))
