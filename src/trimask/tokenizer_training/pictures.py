"""Train an image tokenizer on pictures."""

from collections.abc import Callable, Iterator
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trimask import rng
from trimask.tokenizer_training.image import (
    ImageTokenizerRun,
    ImageTokenizerStep,
    augment,
    image_batches,
    pixels,
)
from trimask.tokenizer_training.kinds import Limit, TokenizerTraining, codebook_limit
from trimask.tokenizer_training.signals import Signals
from trimask.tokenizers.image import ImageTokenizer, select_cells

_FIT_PIXELS = 4096 * 64 * 64  # most pixels to fit the code to
_FIT_VIEWS = 3  # shifted copies added to them


@final
class PictureTraining(TokenizerTraining):
    """Fits the code to some pictures, then trains all parts together."""

    kind = "image"
    tokenizer_type = ImageTokenizer
    config: ImageTokenizerRun

    def __init__(self, config: ImageTokenizerRun) -> None:
        self.config = config
        self.size = config.tokenizer.image_size

    def batches(self, data: Signals) -> Callable[[int], Iterator[Float[Tensor, "b 3 h w"]]]:
        training = self.config.training
        return image_batches(
            data, batch_size=training.batch_size, max_shift=training.max_shift, seed=self.config.seed
        )

    def limits(self, data: Signals) -> Iterator[Limit]:
        batch_size, config = self.config.training.batch_size, self.config.tokenizer
        yield Limit(option="--training.batch-size", wanted=batch_size, most=len(data))
        draw = rng.generator(self.config.seed, "image_tokenizer", "fit")
        chosen = select_cells(
            self._choose(data, draw), config.cell_size, draw, self.config.training.fit_cells
        )
        yield from codebook_limit("tokenizer", config.quantizer, len(chosen))

    def fit(self, tokenizer: ImageTokenizer, data: Signals, draw: np.random.Generator) -> None:
        tokenizer.fit(self._choose(data, draw), draw, max_cells=self.config.training.fit_cells)

    def _choose(self, data: Signals, draw: np.random.Generator) -> Float[Tensor, "n 3 h w"]:
        """Choose the pictures to fit the code to, and add copies augmented as in training."""
        most = max(_FIT_PIXELS // self.size**2, 1)
        rows = range(len(data)) if len(data) <= most else sorted(draw.permutation(len(data))[:most].tolist())
        chosen, shift = pixels(data, rows), self.config.training.max_shift
        if shift:
            chosen = torch.cat([chosen, *(augment(chosen, draw, shift) for _ in range(_FIT_VIEWS))])
        return chosen

    def step(self, tokenizer: ImageTokenizer) -> ImageTokenizerStep:
        return ImageTokenizerStep(tokenizer, self.config.training, seed=self.config.seed)
