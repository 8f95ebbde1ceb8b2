"""A denoiser in one file: nothing is lost, and what is not one is refused in one line."""

from pathlib import Path

import pytest
import torch

from trimask import io
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.weights import load_denoiser, save_denoiser
from trimask.vocabulary.codebooks import Delayed, Parallel
from trimask.vocabulary.layout import CodeSpace, Vocabulary

VOCABULARY = Vocabulary(
    spaces=(
        CodeSpace(name="text", num_codebooks=1, codebook_size=20, has_end=True),
        CodeSpace(name="image", num_codebooks=2, codebook_size=8, has_end=False, grid=(2, 3)),
        CodeSpace(name="speech", num_codebooks=2, codebook_size=8, has_end=True),
    ),
    layouts={"image": Parallel(), "speech": Delayed()},
)


@pytest.fixture
def denoiser() -> Denoiser:
    made = Denoiser(DenoiserConfig(width=16, depth=2, num_heads=2), VOCABULARY)
    made.initialize(3)
    return made


def test_weights_size_and_vocabulary_survive(denoiser: Denoiser, tmp_path: Path):
    save_denoiser(tmp_path / "model.safetensors", denoiser, recipe="x")
    loaded = load_denoiser(tmp_path / "model.safetensors")
    assert loaded.config == denoiser.config and loaded.vocabulary == VOCABULARY
    for a, b in zip(denoiser.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(a, b)


def test_half_precision_is_half_the_size_and_close(denoiser: Denoiser, tmp_path: Path):
    save_denoiser(tmp_path / "whole.safetensors", denoiser)
    save_denoiser(tmp_path / "half.safetensors", denoiser, dtype=torch.float16)
    for a, b in zip(
        denoiser.parameters(), load_denoiser(tmp_path / "half.safetensors").parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.7 * sizes[1]


def test_weights_of_another_shape_are_refused(denoiser: Denoiser, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_denoiser(path, denoiser)
    artifact = io.load_tensors(path, kind="denoiser")
    artifact.config["denoiser"]["depth"] = 3
    io.save_tensors(path, artifact.tensors, kind="denoiser", config=artifact.config)
    with pytest.raises(ValueError, match=r"model\.safetensors: the weights do not fit"):
        load_denoiser(path)


def test_a_tokenizer_is_no_denoiser(tmp_path: Path):
    io.save_tensors(tmp_path / "t.safetensors", {"a": torch.zeros(1)}, kind="image_tokenizer", config={})
    with pytest.raises(ValueError, match="image_tokenizer"):
        load_denoiser(tmp_path / "t.safetensors")
