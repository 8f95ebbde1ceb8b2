"""Image tokenizer v1: trains on the quickstart images and writes the weights that ship.

`python -m trimask.recipes.image_tokenizer --out RUN [--resume]` leaves RUN/image.safetensors and RUN/report.json.
"""

import io
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from trimask import rng
from trimask.config import to_dict
from trimask.data.quickstart.tables import read_table
from trimask.devices import describe
from trimask.io import write_json
from trimask.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from trimask.training.image_tokenizer import ImageTokenizerStep, ImageTokenizerTraining, image_batches
from trimask.training.loop import train

UNSEEN = ("validation", "test")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTokenizerRecipe:
    """Everything that the weights depend on besides the data."""

    tokenizer: ImageTokenizerConfig
    training: ImageTokenizerTraining
    seed: int = 0


def image_tokenizer() -> ImageTokenizerRecipe:
    """64 x 64 RGB in 8 x 8 cells of 2 residual codes of 1,024: 128 tokens; 0.6M parameters, about 10 minutes on one free core."""
    return ImageTokenizerRecipe(
        tokenizer=ImageTokenizerConfig(), training=ImageTokenizerTraining(num_steps=1800)
    )


def read_images(*splits: str) -> UInt8[Tensor, "n 3 h w"]:
    """The quickstart images of these splits, in the order of the file."""
    rows = [row for row in read_table("images") if row["split"] in splits]
    decoded = [np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB")) for row in rows]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def train_image_tokenizer(recipe: ImageTokenizerRecipe, out: Path, *, resume: bool = False) -> ImageTokenizer:
    """Fits the linear code and the codebooks, trains all together, writes the weights and their figures under `out`."""
    began = time.monotonic()
    images = read_images("train")
    tokenizer = start_tokenizer(recipe, images)
    if not resume:
        tokenizer.save(out.with_name(out.name + "-start.safetensors"), half=True)
    result = train(
        ImageTokenizerStep(tokenizer, recipe.training, seed=recipe.seed),
        image_batches(images, batch_size=recipe.training.batch_size, seed=recipe.seed),
        out=out,
        config=to_dict(recipe),
        num_steps=recipe.training.num_steps,
        checkpoint_every=200,
        resume=resume,
        describe="image tokenizer",
    )
    print(result, time.monotonic() - began)
    tokenizer.save(out / "image.safetensors", half=True, seed=str(recipe.seed))
    return ImageTokenizer.load(out / "image.safetensors")


def start_tokenizer(recipe: ImageTokenizerRecipe, images: UInt8[Tensor, "n 3 h w"]) -> ImageTokenizer:
    """A tokenizer with seeded networks, its linear code and quantizer fitted to `images`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.key(recipe.seed, "image_tokenizer", "weights"))
        tokenizer = ImageTokenizer(recipe.tokenizer)
    tokenizer.fit(images.float() / 127.5 - 1, rng.generator(recipe.seed, "image_tokenizer", "fit"))
    return tokenizer


if __name__ == "__main__":
    torch.set_num_threads(1)

    def main(out: Path, resume: bool = False, steps: int = 1800) -> None:
        recipe = image_tokenizer()
        recipe = replace(recipe, training=replace(recipe.training, num_steps=steps))
        train_image_tokenizer(recipe, out, resume=resume)

    tyro.cli(main)
