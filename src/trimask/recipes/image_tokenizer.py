"""Image tokenizer v1: trains on the quickstart images, measures, and writes the weights that ship.

`python -m trimask.recipes.image_tokenizer --out RUN [--resume]` leaves `image.safetensors`, `report.json` and
`reconstructions.png` in RUN; `--recipe` picks one of the rivals of the comparison in the card.
"""

import argparse
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from trimask import rng
from trimask.config import to_dict
from trimask.data.quickstart import CaptionedImage, load_images
from trimask.devices import describe
from trimask.io import atomic_write, write_json
from trimask.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from trimask.tokenizers.quantizer import FiniteScalarConfig, QuantizerConfig, ResidualVectorConfig
from trimask.training.image_tokenizer import ImageTokenizerStep, ImageTokenizerTraining, image_batches
from trimask.training.loop import train

WEIGHTS = "image.safetensors"
PARTS = {"train": ("train",), "composition": ("composition",), "unseen": ("validation", "test")}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTokenizerRecipe:
    """Everything that the weights depend on besides the data."""

    tokenizer: ImageTokenizerConfig
    training: ImageTokenizerTraining
    seed: int = 0


def image_tokenizer() -> ImageTokenizerRecipe:
    """Ships: 64 x 64 RGB as 8 x 8 cells of two residual codes of 1,024; 0.6M parameters, 10 minutes."""
    return ImageTokenizerRecipe(
        tokenizer=ImageTokenizerConfig(), training=ImageTokenizerTraining(num_steps=2000)
    )


def image_tokenizer_512() -> ImageTokenizerRecipe:
    """A rival: codebooks of 512, easier for a small denoiser."""
    return _with_quantizer(ResidualVectorConfig(codebook_size=512))


def image_tokenizer_finite() -> ImageTokenizerRecipe:
    """A rival: finite scalar quantization, two groups of 8 x 5 x 5 x 5 levels, from the same linear code."""
    return _with_quantizer(FiniteScalarConfig(levels=(8, 5, 5, 5)))


def image_tokenizer_finite_fine() -> ImageTokenizerRecipe:
    """A rival: finite scalar quantization, two groups of five channels of four levels."""
    return _with_quantizer(FiniteScalarConfig(levels=(4, 4, 4, 4, 4)))


def read_images(images: list[CaptionedImage]) -> UInt8[Tensor, "n 3 h w"]:
    """Their pixels, in order."""
    return torch.from_numpy(np.stack([image.pixels() for image in images])).permute(0, 3, 1, 2).contiguous()


def train_image_tokenizer(recipe: ImageTokenizerRecipe, out: Path, *, resume: bool = False) -> Path:
    """Fits the linear code and the codebooks to the training split, then trains everything together.

    Writes the run and the weights (float16, with the digest of what they were trained on) under `out`;
    returns the path of the weights.
    """
    rows = load_images("train")
    images = read_images(rows)
    tokenizer = start_tokenizer(recipe, images)
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
    facts = {"steps": str(result.steps), "seconds": f"{result.seconds:.0f}", "seed": str(recipe.seed)}
    tokenizer.save(out / WEIGHTS, half=True, trained_on=digest(rows), **facts)
    return out / WEIGHTS


def digest(images: list[CaptionedImage]) -> str:
    """Names a set of images by their hexcodes: weights carry it, so that a changed split is noticed."""
    return hashlib.sha256(" ".join(sorted(image.hexcode for image in images)).encode()).hexdigest()


def start_tokenizer(recipe: ImageTokenizerRecipe, images: UInt8[Tensor, "n 3 h w"]) -> ImageTokenizer:
    """A tokenizer with seeded networks, its linear code and quantizer fitted to `images`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.key(recipe.seed, "image_tokenizer", "weights"))
        tokenizer = ImageTokenizer(recipe.tokenizer)
    tokenizer.fit(images.float() / 127.5 - 1, rng.generator(recipe.seed, "image_tokenizer", "fit"))
    return tokenizer


def measure(tokenizer: ImageTokenizer, images: UInt8[Tensor, "n 3 h w"]) -> dict[str, Any]:
    """Quality of a round trip through bytes (means over images), and the use of each codebook."""
    codes, made = [], []
    for batch in images.split(64):
        codes.append(tokenizer.encode(batch.float() / 127.5 - 1))
        made.append(((tokenizer.decode(codes[-1]) + 1) * 127.5).round().to(torch.uint8))
    decoded, real = torch.cat(made).float() / 255, images.float() / 255
    squared = (decoded - real).square().mean((1, 2, 3))
    similarity = torch.cat([ssim(a, b) for a, b in zip(decoded.split(64), real.split(64), strict=True)])
    return {
        "images": len(images),
        "psnr": float(-10 * squared.clamp_min(1e-10).log10().mean()),
        "psnr_of_mean_error": float(-10 * squared.mean().log10()),
        "ssim": float(similarity.mean()),
        "codebooks": codebook_use(torch.cat(codes), tokenizer.codebook_size),
    }


def codebook_use(codes: Int[Tensor, "b cells codebooks"], codebook_size: int) -> list[dict[str, float]]:
    """Per codebook: codes used and dead, and perplexity over all cells and over the inked ones: all but those
    of the commonest codes, which are white.
    """
    flat = codes.flatten(0, 1)
    tuples, counts = flat.unique(dim=0, return_counts=True)
    inked = flat[(flat != tuples[counts.argmax()]).any(-1)]
    use = []
    for book in range(flat.shape[1]):
        counts = torch.bincount(flat[:, book], minlength=codebook_size)
        used = int((counts > 0).sum())
        figures = {"used": used, "dead": codebook_size - used, "perplexity": _perplexity(counts)}
        use.append(figures | {"perplexity_inked": _perplexity(torch.bincount(inked[:, book]))})
    return use


def ssim(a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    """Structural similarity of images in [0, 1], mean over channels and places (Wang et al. 2004: Gaussian
    window 11, sigma 1.5).
    """
    line = torch.exp(-((torch.arange(11.0) - 5) ** 2) / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2).expand(3, 1, 11, 11)
    mean_a, mean_b, aa, bb, ab = (F.conv2d(x, window, groups=3) for x in (a, b, a * a, b * b, a * b))
    variances = aa - mean_a**2 + bb - mean_b**2
    covariance = ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    return (luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)).mean((1, 2, 3))


def write_sheet(tokenizer: ImageTokenizer, images: UInt8[Tensor, "n 3 h w"], path: Path) -> None:
    """Originals above reconstructions, 16 to a row, twice enlarged."""
    made = tokenizer.decode(tokenizer.encode(images.float() / 127.5 - 1))
    made = ((made + 1) * 127.5).round().to(torch.uint8)
    rows = [
        x for pair in zip(images.split(16), made.split(16), strict=True) for x in pair if len(pair[0]) == 16
    ]
    sheet = torch.stack(rows).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1).numpy()
    with atomic_write(path) as temporary:
        Image.fromarray(sheet).resize((2 * sheet.shape[1], 2 * sheet.shape[0])).save(temporary)


def _with_quantizer(quantizer: QuantizerConfig) -> ImageTokenizerRecipe:
    recipe = image_tokenizer()
    return replace(recipe, tokenizer=replace(recipe.tokenizer, quantizer=quantizer))


def _perplexity(counts: Int[Tensor, "n"]) -> float:
    share = counts[counts > 0].double() / counts.sum()
    return float((-(share * share.log()).sum()).exp())


def main() -> None:
    recipes = (image_tokenizer, image_tokenizer_512, image_tokenizer_finite, image_tokenizer_finite_fine)
    parser = argparse.ArgumentParser(prog="python -m trimask.recipes.image_tokenizer", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="run directory, a new one unless --resume")
    parser.add_argument(
        "--recipe", choices=[recipe.__name__ for recipe in recipes], default="image_tokenizer"
    )
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--weights", type=Path, help="measure this file, train nothing")
    arguments = parser.parse_args()
    recipe = next(recipe for recipe in recipes if recipe.__name__ == arguments.recipe)()
    if arguments.steps is not None:
        recipe = replace(recipe, training=replace(recipe.training, num_steps=arguments.steps))
    weights = arguments.weights or train_image_tokenizer(recipe, arguments.out, resume=arguments.resume)
    tokenizer = ImageTokenizer.load(weights)
    parts = {
        part: read_images([image for split in splits for image in load_images(split)])
        for part, splits in PARTS.items()
    }
    figures = {part: measure(tokenizer, images) for part, images in parts.items()}
    write_json(arguments.out / "report.json", {"figures": figures, "device": describe()})
    write_sheet(tokenizer, parts["unseen"][:96], arguments.out / "reconstructions.png")
    print({part: (round(f["psnr"], 2), round(f["ssim"], 3)) for part, f in figures.items()})


if __name__ == "__main__":
    main()
