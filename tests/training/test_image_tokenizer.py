from dataclasses import replace

import numpy as np
import pytest
import torch

from trimask.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from trimask.tokenizers.quantizer import FiniteScalarConfig, QuantizerConfig, ResidualVectorConfig
from trimask.training.image_tokenizer import (
    ImageTokenizerStep,
    ImageTokenizerTraining,
    image_batches,
    pixel_losses,
)
from trimask.training.loop import Step
from trimask.training.optimizers import AdamWConfig

TRAINING = ImageTokenizerTraining(
    num_steps=40,
    batch_size=8,
    revive_every=20,
    optimizer=AdamWConfig(learning_rate=1e-2, beta2=0.98, weight_decay=0.0),
)


def squares(count: int = 40) -> torch.Tensor:
    """Bytes: one coloured rectangle on white each."""
    generator = np.random.default_rng(0)
    images = np.full((count, 3, 16, 16), 255, dtype=np.uint8)
    for image in images:
        top, left, height, width = generator.integers(1, 8, 4)
        image[:, top : top + height, left : left + width] = generator.integers(0, 256, (3, 1, 1))
    return torch.from_numpy(images)


def new_step(
    quantizer: QuantizerConfig = ResidualVectorConfig(dim=16, codebook_size=32),  # noqa: B008 (frozen)
    training: ImageTokenizerTraining = TRAINING,
) -> ImageTokenizerStep:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = ImageTokenizer(ImageTokenizerConfig(image_size=16, width=8, depth=1, quantizer=quantizer))
    tokenizer.fit(squares().float() / 127.5 - 1, np.random.default_rng(0))
    return ImageTokenizerStep(tokenizer, training, seed=0)


def run(step: ImageTokenizerStep, start: int, stop: int) -> list[float]:
    batches = image_batches(squares(), batch_size=8, seed=0)(start)
    return [float(step(batch)["loss"]) for _, batch in zip(range(start, stop), batches, strict=False)]


@pytest.mark.parametrize(
    "quantizer",
    [ResidualVectorConfig(dim=16, codebook_size=32), FiniteScalarConfig(levels=(5, 5, 5))],
    ids=["residual", "finite"],
)
def test_training_teaches_the_decoder_to_read_the_codes(quantizer: QuantizerConfig):
    step = new_step(quantizer)
    images = squares().float() / 127.5 - 1

    def error() -> float:
        tokenizer = step.tokenizer
        return float((tokenizer.decode(tokenizer.encode(images)) - images).square().mean())

    torch.nn.init.zeros_(step.tokenizer.synthesis.weight)
    before = error()
    run(step, 0, 40)
    assert error() < 0.5 * before


def test_resumed_equals_uninterrupted_bit_for_bit():
    training = replace(TRAINING, revive_every=3)
    whole, first, second = (new_step(training=training) for _ in range(3))
    run(whole, 0, 10)
    run(first, 0, 4)
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    run(second, 4, 10)
    expected, state = whole.state_dict(), second.state_dict()
    assert expected.keys() == state.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, state[name]), name


def test_step_is_a_step_of_the_loop_with_finite_figures():
    step = new_step()
    assert isinstance(step, Step)
    figures = step(next(image_batches(squares(), batch_size=8, seed=0)(0)))
    assert all(np.isfinite(float(value)) for value in figures.values())
    assert {"loss", "grad_norm"} <= figures.keys()


def test_batches_are_a_function_of_their_index():
    images = squares(20)
    batches = image_batches(images, batch_size=8, seed=3)
    first = [batch for _, batch in zip(range(6), batches(0), strict=False)]
    later = [batch for _, batch in zip(range(3), batches(3), strict=False)]
    for a, b in zip(first[3:], later, strict=True):
        assert torch.equal(a, b)
    assert first[0].shape == (8, 3, 16, 16) and float(first[0].max()) == 1
    # Two batches make an epoch here: sixteen different images, each as it is or mirrored.
    real = images.float() / 127.5 - 1
    epoch = torch.cat(first[:2])
    found = [
        next(i for i, image in enumerate(real) if torch.equal(x, image) or torch.equal(x.flip(-1), image))
        for x in epoch
    ]
    assert len(set(found)) == 16
    with pytest.raises(ValueError, match="5 images do not fill a batch of 8; lower batch_size"):
        image_batches(images[:5], batch_size=8, seed=0)


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
