import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trimask.datasets.quickstart import load_images
from trimask.io import load_tensors, save_tensors
from trimask.tokenizers.bundle import FINE
from trimask.tokenizers.bundle import SHIPPED as FOLDER
from trimask.tokenizers.image import KIND, ImageTokenizer, ImageTokenizerConfig
from trimask.tokenizers.quantizer import FiniteScalarConfig, QuantizerConfig, ResidualVectorConfig

SHIPPED = FOLDER / "image.safetensors"

SMALL = ImageTokenizerConfig(
    image_size=24, width=8, depth=1, quantizer=ResidualVectorConfig(dim=12, codebook_size=16, num_codebooks=3)
)


def pictures(count: int, size: int = 24, seed: int = 0) -> torch.Tensor:
    """Discs of random colour on white."""
    draws = np.random.default_rng(seed).random((count, 6))
    y, x = np.mgrid[:size, :size] / size
    images = np.ones((count, 3, size, size))
    for image, (cx, cy, radius, *colour) in zip(images, draws, strict=True):
        image[:, (x - cx) ** 2 + (y - cy) ** 2 < (0.2 + 0.3 * radius) ** 2] = (
            2 * np.array(colour)[:, None] - 1
        )
    return torch.from_numpy(images).float()


def fitted(config: ImageTokenizerConfig = SMALL) -> ImageTokenizer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = ImageTokenizer(config)
    tokenizer.fit(pictures(60), np.random.default_rng(0))
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> ImageTokenizer:
    """Fitted, and its networks no longer zero, so that each cell depends on its neighbours."""
    made = fitted()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for last in (made.encoder[-1], made.decoder[-1]):
            assert isinstance(last, torch.nn.Linear)
            last.weight.normal_(std=0.05, generator=generator)
    return made


def test_shapes_and_ranges(tokenizer: ImageTokenizer):
    codes = tokenizer.encode(pictures(5))
    assert (tokenizer.image_size, tokenizer.grid) == (24, (3, 3))
    assert (tokenizer.num_codebooks, tokenizer.codebook_size) == (3, 16)
    assert codes.shape == (5, 9, 3) and codes.dtype == torch.int64
    assert 0 <= codes.min() and codes.max() < 16
    images = tokenizer.decode(codes)
    assert images.shape == (5, 3, 24, 24) and images.dtype == torch.float32
    assert -1 <= images.min() and images.max() <= 1
    assert not images.requires_grad


@pytest.mark.parametrize(
    "quantizer",
    [ResidualVectorConfig(dim=30, codebook_size=64), FiniteScalarConfig(levels=(8, 5, 5), num_codebooks=3)],
    ids=["residual", "finite"],
)
def test_the_start_is_a_good_linear_code(quantizer: QuantizerConfig):
    started = fitted(ImageTokenizerConfig(image_size=24, width=8, depth=1, quantizer=quantizer))
    images = pictures(20, seed=1)
    error = (started.decode(started.encode(images)) - images).square().mean()
    assert error < 0.25 * images.sub(images.mean()).square().mean()


def test_cells_are_in_row_major_order():
    started = fitted()  # networks still zero: a cell's code is the cell's alone
    image = torch.ones(1, 3, 24, 24)
    white = started.encode(image)
    image[:, :, 8:16, 16:24] = -1.0
    changed = (started.encode(image) != white).any(-1)[0]
    assert changed.nonzero().tolist() == [[1 * 3 + 2]]
    difference = (started.decode(started.encode(image)) - started.decode(white)).abs().amax(1)[0]
    assert difference[8:16, 16:24].min() > 0.5
    difference[8:16, 16:24] = 0
    assert difference.max() < 1e-5


def test_analysis_and_synthesis_of_full_rank_invert_each_other():
    config = ImageTokenizerConfig(
        image_size=24, cell_size=4, width=8, depth=1, quantizer=ResidualVectorConfig(dim=48, codebook_size=4)
    )
    started = fitted(config)
    images = pictures(3, seed=2)
    with torch.no_grad():
        torch.testing.assert_close(started.synthesise(started.analyse(images)), images, atol=1e-4, rtol=0)


def test_encode_and_decode_are_deterministic_and_know_no_batch(tokenizer: ImageTokenizer):
    images = pictures(6, seed=3)
    codes = tokenizer.encode(images)
    assert torch.equal(codes, tokenizer.encode(images))
    assert torch.equal(codes, torch.cat([tokenizer.encode(image[None]) for image in images]))
    decoded = tokenizer.decode(codes)
    assert torch.equal(decoded, tokenizer.decode(codes))
    alone = torch.cat([tokenizer.decode(code[None]) for code in codes])
    torch.testing.assert_close(decoded, alone, atol=1e-5, rtol=0)
    assert tokenizer.encode(images[:0]).shape == (0, 9, 3)
    assert tokenizer.decode(codes[:0]).shape == (0, 3, 24, 24)


def test_fit_is_a_function_of_its_generator():
    first, second = fitted(), fitted()
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_forward_is_encode_and_decode_with_gradients(tokenizer: ImageTokenizer):
    images = pictures(4, seed=4)
    made, quantized = tokenizer(images)
    assert torch.equal(quantized.codes.flatten(1, 2), tokenizer.encode(images))
    torch.testing.assert_close(made.clamp(-1, 1), tokenizer.decode(quantized.codes.flatten(1, 2)))
    tokenizer.zero_grad()
    (made.square().mean() + quantized.loss.mean()).backward()
    without = [
        name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    tokenizer.zero_grad()
    assert not without, "parameters that learn nothing"


@pytest.mark.parametrize("half", [False, True])
def test_save_and_load(tokenizer: ImageTokenizer, tmp_path: Path, half: bool):
    tokenizer.save(tmp_path / "image.safetensors", half=half, note="kept")
    loaded = ImageTokenizer.load(tmp_path / "image.safetensors")
    assert loaded.config == tokenizer.config and not loaded.training
    for (name, a), b in zip(tokenizer.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert b.dtype == torch.float32
        assert torch.equal(a.half().float() if half else a, b), name
    if not half:
        codes = tokenizer.encode(pictures(3))
        assert torch.equal(codes, loaded.encode(pictures(3)))
        assert torch.equal(tokenizer.decode(codes), loaded.decode(codes))


def test_load_refuses_what_does_not_fit(tmp_path: Path, tokenizer: ImageTokenizer):
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError, match=r"x\.safetensors"):
        ImageTokenizer.load(path)
    tokenizer.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"x\.safetensors is cut short"):
        ImageTokenizer.load(path)
    save_tensors(path, {"a": torch.zeros(1)}, kind="speech_tokenizer", config={})
    with pytest.raises(ValueError, match="holds 'speech_tokenizer'"):
        ImageTokenizer.load(path)
    save_tensors(path, {"a": torch.zeros(1)}, kind=KIND, config={})
    with pytest.raises(ValueError, match=r"x\.safetensors does not fit its own configuration"):
        ImageTokenizer.load(path)


def test_wrong_images_are_named(tokenizer: ImageTokenizer):
    with pytest.raises(ValueError, match=r"shape \(2, 3, 32, 32\).*takes \(batch, 3, 24, 24\): resize"):
        tokenizer.encode(torch.zeros(2, 3, 32, 32))
    with pytest.raises(ValueError, match=r"pixels lie in \[0, 255\].*x / 127\.5 - 1"):
        tokenizer.encode(torch.linspace(0, 255, 3 * 24 * 24).view(1, 3, 24, 24))
    with pytest.raises(ValueError, match=r"pixels lie in \[nan, nan\]"):
        tokenizer.encode(torch.full((1, 3, 24, 24), torch.nan))
    with pytest.raises(ValueError, match=r"torch\.uint8.*float"):
        tokenizer.encode(torch.zeros(1, 3, 24, 24, dtype=torch.uint8))


def test_wrong_codes_are_named(tokenizer: ImageTokenizer):
    with pytest.raises(ValueError, match="codes of 8 cells; an image of this tokenizer has 9"):
        tokenizer.decode(torch.zeros(1, 8, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="code 16 is out of range"):
        tokenizer.decode(torch.full((1, 9, 3), 16))


# A single white image would reach 9 dB, the linear codes without networks about 24 and 27.
SHIPPED_WEIGHTS = {
    "of 128 codes": (SHIPPED, 8, 2, 25),
    "of 256 codes": (FINE / "image.safetensors", 16, 1, 28),
}


@pytest.mark.parametrize("name", SHIPPED_WEIGHTS)
def test_shipped_weights_on_unseen_pictures(name: str):
    path, rows, num_codebooks, least_psnr = SHIPPED_WEIGHTS[name]
    images = [image for image in load_images("validation") if image.group != "flags"][:32]
    pixels = np.stack([image.pixels() for image in images])
    real = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    shipped = ImageTokenizer.load(path)
    assert (shipped.image_size, shipped.grid) == (64, (rows, rows))
    assert (shipped.num_codebooks, shipped.codebook_size) == (num_codebooks, 1024)
    error = ((shipped.decode(shipped.encode(real)) - real) / 2).square().mean((1, 2, 3))
    assert float(-10 * error.log10().mean()) > least_psnr


@pytest.mark.parametrize("path", [SHIPPED, FINE / "image.safetensors"], ids=["128", "256"])
def test_shipped_weights_saw_the_training_split_only(path: Path):
    keys = sorted(image.hexcode for image in load_images("train"))
    digest = hashlib.sha256(" ".join(keys).encode()).hexdigest()  # as `recipes.tokenizer_data.digest`
    assert load_tensors(path, kind=KIND).metadata["trained_on"] == digest, (
        "the split has changed since: train again with `trimask train image_tokenizer`"
    )
    assert path.stat().st_size < 3e6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cell_size": 6}, "cell_size=6: use a multiple of 4"),
        ({"image_size": 60}, "image_size=60: use a multiple of cell_size=8"),
        ({"width": 7}, "width=7: use an even number"),
        ({"depth": 0}, "depth=0: use 1 or more"),
    ],
)
def test_impossible_configurations_are_named(values: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ImageTokenizerConfig(**values)
