from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trimask.tokenizer_training.image import (
    ImageTokenizerStep,
    ImageTokenizerTraining,
    augment,
    image_batches,
    pixel_losses,
)
from trimask.tokenizer_training.signals import Signal, Signals, SignalWriter
from trimask.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from trimask.tokenizers.quantizer import FiniteScalarConfig, QuantizerConfig, ResidualVectorConfig
from trimask.training.loop import Step
from trimask.training.optimizers import AdamWConfig

TRAINING = ImageTokenizerTraining(
    num_steps=40,
    batch_size=8,
    revive_every=20,
    optimizer=AdamWConfig(learning_rate=1e-2, beta2=0.98, weight_decay=0.0),
)


def squares(count: int = 40) -> np.ndarray:
    """One coloured rectangle on white each."""
    generator = np.random.default_rng(0)
    images = np.full((count, 16, 16, 3), 255, dtype=np.uint8)
    for image in images:
        top, left, height, width = generator.integers(1, 8, 4)
        image[top : top + height, left : left + width] = generator.integers(0, 256, 3)
    return images


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Signals:
    return stored(tmp_path_factory.mktemp("signals") / "images.arrow", squares())


def stored(path: Path, values: np.ndarray) -> Signals:
    with SignalWriter(path, shape=values.shape[1:], dtype=np.uint8) as writer:
        for number, image in enumerate(values):
            writer.add(Signal(key=str(number), text="", speaker="", values=image))
    return Signals(path)


def real_pixels(count: int = 40) -> torch.Tensor:
    return torch.from_numpy(squares(count)).permute(0, 3, 1, 2).float() / 127.5 - 1


def new_step(
    quantizer: QuantizerConfig = ResidualVectorConfig(dim=16, codebook_size=32),  # noqa: B008 (frozen)
    training: ImageTokenizerTraining = TRAINING,
) -> ImageTokenizerStep:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = ImageTokenizer(ImageTokenizerConfig(image_size=16, width=8, depth=1, quantizer=quantizer))
    tokenizer.fit(real_pixels(), np.random.default_rng(0))
    return ImageTokenizerStep(tokenizer, training, seed=0)


def run(step: ImageTokenizerStep, images: Signals, start: int, stop: int) -> list[float]:
    batches = image_batches(images, batch_size=8, max_shift=0, seed=0)(start)
    return [float(step(batch)["loss"]) for _, batch in zip(range(start, stop), batches, strict=False)]


@pytest.mark.parametrize(
    "quantizer",
    [ResidualVectorConfig(dim=16, codebook_size=32), FiniteScalarConfig(levels=(5, 5, 5))],
    ids=["residual", "finite"],
)
def test_training_teaches_the_decoder_to_read_the_codes(quantizer: QuantizerConfig, images: Signals):
    step = new_step(quantizer)
    real = real_pixels()

    def error() -> float:
        tokenizer = step.tokenizer
        return float((tokenizer.decode(tokenizer.encode(real)) - real).square().mean())

    torch.nn.init.zeros_(step.tokenizer.synthesis.weight)
    before = error()
    run(step, images, 0, 40)
    assert error() < 0.5 * before


def test_resumed_equals_uninterrupted_bit_for_bit(images: Signals):
    training = replace(TRAINING, revive_every=3)
    whole, first, second = (new_step(training=training) for _ in range(3))
    run(whole, images, 0, 10)
    run(first, images, 0, 4)
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    run(second, images, 4, 10)
    expected, state = whole.state_dict(), second.state_dict()
    assert expected.keys() == state.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, state[name]), name


def test_step_is_a_step_of_the_loop_with_finite_figures(images: Signals):
    step = new_step()
    assert isinstance(step, Step)
    figures = step(next(image_batches(images, batch_size=8, max_shift=0, seed=0)(0)))
    assert all(np.isfinite(float(value)) for value in figures.values())
    assert {"loss", "grad_norm"} <= figures.keys()


def test_batches_are_a_function_of_their_index(tmp_path: Path):
    images = stored(tmp_path / "images.arrow", squares(20))
    batches = image_batches(images, batch_size=8, max_shift=0, seed=3)
    first = [batch for _, batch in zip(range(6), batches(0), strict=False)]
    later = [batch for _, batch in zip(range(3), batches(3), strict=False)]
    for a, b in zip(first[3:], later, strict=True):
        assert torch.equal(a, b)
    assert first[0].shape == (8, 3, 16, 16) and float(first[0].max()) == 1
    # Two batches make an epoch here: sixteen different images, each as it is or mirrored.
    real = real_pixels(20)
    epoch = torch.cat(first[:2])
    found = [
        next(i for i, image in enumerate(real) if torch.equal(x, image) or torch.equal(x.flip(-1), image))
        for x in epoch
    ]
    assert len(set(found)) == 16
    few = stored(tmp_path / "few.arrow", squares(5))
    with pytest.raises(ValueError, match=r"5 images do not fill a batch of 8: lower training.batch_size"):
        image_batches(few, batch_size=8, max_shift=0, seed=0)


def test_views_are_cuts_of_the_padded_picture_or_its_mirror():
    real = real_pixels(12)
    for max_shift in (0, 2):
        seen = augment(real, np.random.default_rng(4), max_shift)
        assert seen.shape == real.shape
        pad = (max_shift,) * 4
        for image, view in zip(real, seen, strict=True):
            both = (
                torch.nn.functional.pad(x[None], pad, mode="replicate")[0] for x in (image, image.flip(-1))
            )
            cuts = [x[:, i : i + 16, j : j + 16] for x in both for i in range(5) for j in range(5)]
            assert any(cut.shape == view.shape and torch.equal(cut, view) for cut in cuts)


def test_pixel_losses_against_loops():
    made, real = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    difference = (made - real).numpy()
    rows = np.abs(difference[:, :, 1:] - difference[:, :, :-1]).mean()
    columns = np.abs(difference[..., 1:] - difference[..., :-1]).mean()
    losses = pixel_losses(made, real)
    assert float(losses["squared"]) == pytest.approx((difference**2).mean(), rel=1e-5)
    assert float(losses["absolute"]) == pytest.approx(np.abs(difference).mean(), rel=1e-5)
    assert float(losses["gradient"]) == pytest.approx(rows + columns, rel=1e-5)


def test_impossible_training_is_named():
    with pytest.raises(ValueError, match="revive_every=0: use 1 or more"):
        ImageTokenizerTraining(num_steps=1, revive_every=0)
