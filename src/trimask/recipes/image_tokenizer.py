"""Image tokenizers: recipes, and how one becomes a run."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from trimask import rng
from trimask.config import to_dict
from trimask.data.signals import Signals
from trimask.recipes.tokenizer_data import digest, training_signals
from trimask.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from trimask.tokenizers.quantizer import ResidualVectorConfig
from trimask.training.checkpoint import open_run
from trimask.training.image_tokenizer import (
    ImageTokenizerRun,
    ImageTokenizerStep,
    ImageTokenizerTraining,
    image_batches,
    pixels,
    views,
)
from trimask.training.loop import TrainResult, train

WEIGHTS = "image.safetensors"
_START = "start.safetensors"
_FIT_PIXELS = 4096 * 64 * 64  # enough cells for the codebooks to start from
_FIT_VIEWS = 3


def image_tokenizer() -> ImageTokenizerRun:
    """The image tokenizer that ships: 64 pixels as 8 x 8 cells of two residual codes of 1,024, 128 tokens.

    Size: 0.6M parameters. Cost: about five minutes on one CPU core.
    Expect: 25.9 dB on pictures of unseen concepts (card).
    """
    return ImageTokenizerRun(
        tokenizer=ImageTokenizerConfig(), training=ImageTokenizerTraining(num_steps=2000)
    )


def image_tokenizer_fine() -> ImageTokenizerRun:
    """Finer pictures: 64 pixels as 16 x 16 cells of one code of 1,024, 256 tokens.

    Size: 0.6M parameters. Cost: about ten minutes on one CPU core.
    Expect: 29 dB on pictures of unseen concepts (experiments/2026-11-22-image-tokenizer).
    """
    base = image_tokenizer()
    quantizer = ResidualVectorConfig(dim=48, codebook_size=1024, num_codebooks=1)
    return replace(
        base,
        tokenizer=replace(base.tokenizer, cell_size=4, quantizer=quantizer),
        training=replace(base.training, max_shift=4, fit_cells=400_000),
    )


def image_tokenizer_128px() -> ImageTokenizerRun:
    """Larger pictures, of your own: 128 pixels as 16 x 16 cells of two residual codes of 1,024, 512 tokens.

    The embedded pictures have 64 pixels: give others with --data. Expect 27.4 dB on unseen emoji after 120
    steps (experiments/2026-11-22-image-tokenizer).
    """
    base = image_tokenizer()
    return replace(
        base,
        tokenizer=replace(base.tokenizer, image_size=128),
        training=replace(base.training, max_shift=4, fit_cells=400_000),
    )


def train_image_tokenizer(
    config: ImageTokenizerRun,
    out: Path,
    *,
    recipe: str,
    resume: bool = False,
    deadline: float | None = None,
    report: Callable[[str], None] = lambda message: None,
    on_progress: Callable[[int, Mapping[str, Any]], None] | None = None,
) -> TrainResult:
    """Run `config` in the directory `out`: fit the linear code and the codebooks, then train everything
    together; leaves the weights (float16) as `image.safetensors`.
    """
    resolved = {"recipe": recipe, "run": to_dict(config)}
    open_run(out, resolved, resume=resume)
    size = config.tokenizer.image_size
    images = training_signals(config.data, "image", size=size, folder=out / "data", report=report)
    batches = image_batches(
        images,
        batch_size=config.training.batch_size,
        max_shift=config.training.max_shift,
        seed=config.seed,
    )
    tokenizer = fitted_tokenizer(config, images, out / _START, report)
    result = train(
        ImageTokenizerStep(tokenizer, config.training, seed=config.seed),
        batches,
        out=out,
        config=resolved,
        num_steps=config.num_steps,
        checkpoint_every=config.checkpoint_every,
        log_every=config.log_every,
        resume=True,  # `open_run` has settled whether this directory may be used
        deadline=deadline,
        describe=recipe,
        on_progress=on_progress,
    )
    facts = {"recipe": recipe, "steps": str(result.steps), "trained_on": digest(images)}
    tokenizer.save(out / WEIGHTS, half=True, **facts)
    return result


def fitted_tokenizer(
    config: ImageTokenizerRun, images: Signals, kept: Path, report: Callable[[str], None]
) -> ImageTokenizer:
    """A tokenizer with seeded networks, its linear code and quantizer fitted to some of `images`."""
    if kept.exists():  # k-means takes minutes: a resumed run goes on from what it gave
        return ImageTokenizer.load(kept).train()
    report("fitting the linear code and the codebooks")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.key(config.seed, "image_tokenizer", "weights"))
        tokenizer = ImageTokenizer(config.tokenizer)
    draw = rng.generator(config.seed, "image_tokenizer", "fit")
    most = max(_FIT_PIXELS // config.tokenizer.image_size**2, 1)
    rows = (
        range(len(images)) if len(images) <= most else sorted(draw.permutation(len(images))[:most].tolist())
    )
    chosen, shift = pixels(images, rows), config.training.max_shift
    if shift:
        chosen = torch.cat([chosen, *(views(chosen, draw, shift) for _ in range(_FIT_VIEWS))])
    tokenizer.fit(chosen, draw, max_cells=config.training.fit_cells)
    tokenizer.save(kept)
    return tokenizer
