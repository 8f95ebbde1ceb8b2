"""Recipes of image tokenizers."""

from dataclasses import replace

from trimask.tokenizer_training.image import (
    ImageTokenizerRun,
    ImageTokenizerTraining,
)
from trimask.tokenizers.image import ImageTokenizerConfig
from trimask.tokenizers.quantizer import ResidualVectorConfig


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
    """Larger pictures, of your data: 128 pixels as 16 x 16 cells of two residual codes of 1,024, 512 tokens.

    The embedded pictures have 64 pixels only: give larger ones with --data. Expect: 27.4 dB on unseen emoji
    after 120 steps (experiments/2026-11-22-image-tokenizer).
    """
    base = image_tokenizer()
    return replace(
        base,
        tokenizer=replace(base.tokenizer, image_size=128),
        training=replace(base.training, max_shift=4, fit_cells=400_000),
    )
