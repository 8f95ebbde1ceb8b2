"""What makes an image tokenizer good at 256 tokens: the quantizer, the views, the losses.

`python experiments/2026-11-22-image-tokenizer/run.py --out FOLDER [--only NAME …] [--seeds 0 …] [--steps N]`
trains each variant on the embedded pictures and writes FOLDER/results.json: PSNR and SSIM on pictures of
unseen concepts, use of the codes, seconds. What stands there already is not trained again.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trimask import io, rng
from trimask.config import to_dict
from trimask.devices import describe
from trimask.evaluation.reconstruction import image_figures
from trimask.recipes.image_tokenizer import PictureTraining, image_tokenizer, image_tokenizer_fine
from trimask.recipes.tokenizer_data import TRAIN, UNSEEN, signals
from trimask.tokenizers.image import ImageTokenizer
from trimask.tokenizers.quantizer import FiniteScalarConfig, QuantizerConfig, ResidualVectorConfig
from trimask.training.image_tokenizer import (
    ImageTokenizerRun,
    ImageTokenizerStep,
    image_batches,
    pixel_losses,
)
from trimask.training.loop import train
from trimask.training.optimizers import clip_gradients, set_learning_rate


def variants() -> dict[str, tuple[ImageTokenizerRun, str]]:
    """Name -> the run, and which loss is added to those of the package."""
    fine = image_tokenizer_fine()
    # k-means on all the cells of the recipe would take longer than these trainings.
    fine = replace(fine, training=replace(fine.training, fit_cells=120_000))

    def quantized(quantizer: QuantizerConfig, *, cell_size: int) -> ImageTokenizerRun:
        return replace(fine, tokenizer=replace(fine.tokenizer, cell_size=cell_size, quantizer=quantizer))

    def finite(num_codebooks: int) -> QuantizerConfig:
        return FiniteScalarConfig(levels=(8, 5, 5, 5), num_codebooks=num_codebooks)

    def trained(**values: Any) -> ImageTokenizerRun:
        return replace(fine, training=replace(fine.training, **values))

    return {
        "vector": (fine, ""),
        "residual": (quantized(ResidualVectorConfig(dim=96, num_codebooks=4), cell_size=8), ""),
        "finite": (quantized(finite(1), cell_size=4), ""),
        "finite groups": (
            quantized(FiniteScalarConfig(levels=(8, 5, 5, 5), num_codebooks=4), cell_size=8),
            "",
        ),
        "128 tokens": (replace(image_tokenizer(), training=fine.training), ""),
        "64 tokens": (quantized(ResidualVectorConfig(dim=64, num_codebooks=1), cell_size=8), ""),
        "no shifts": (trained(max_shift=0), ""),
        "squared only": (trained(l1_weight=0.0, gradient_weight=0.0), ""),
        "absolute": (trained(l1_weight=0.25), ""),
        "structural": (fine, "structural"),
        "adversarial": (fine, "adversarial"),
    }


class Critic(nn.Module):
    """Patches of 22 pixels, real or made (PatchGAN, Isola et al. 2017)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.GroupNorm(8, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 4, 1, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


def structural_loss(made: Tensor, real: Tensor) -> Tensor:
    """1 - SSIM with a box of 7 pixels, images in [-1, 1]."""
    a, b = (made + 1) / 2, (real + 1) / 2
    mean_a, mean_b, aa, bb, ab = (F.avg_pool2d(x, 7, 1) for x in (a, b, a * a, b * b, a * b))
    top = (2 * mean_a * mean_b + 1e-4) * (2 * (ab - mean_a * mean_b) + 9e-4)
    bottom = (mean_a**2 + mean_b**2 + 1e-4) * (aa - mean_a**2 + bb - mean_b**2 + 9e-4)
    return 1 - (top / bottom).mean()


class PerceivedStep:
    """The package's losses, plus a structural one, or from half of the steps on a critic's (hinge)."""

    def __init__(self, tokenizer: ImageTokenizer, config: ImageTokenizerRun, added: str) -> None:
        self.inner = ImageTokenizerStep(tokenizer, config.training, seed=config.seed)
        self.added = added
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.key(config.seed, "critic"))
            self.critic = Critic()
        self.optimizer = torch.optim.Adam(self.critic.parameters(), lr=2e-4, betas=(0.5, 0.9))

    def __call__(self, batch: Tensor) -> Mapping[str, Tensor | float]:
        inner, config, tokenizer, images = self.inner, self.inner.config, self.inner.tokenizer, batch
        inner.steps += 1
        factor = config.schedule.factor(inner.steps / config.num_steps)
        set_learning_rate(inner.optimizer, factor)
        inner.optimizer.zero_grad(set_to_none=True)
        latents = tokenizer.analyse(images)
        quantized = tokenizer.quantizer(latents)
        made = tokenizer.synthesise(quantized.values)
        parts = pixel_losses(made, images)
        loss = parts["squared"] + config.l1_weight * parts["absolute"]
        loss = loss + config.gradient_weight * parts["gradient"] + config.code_weight * quantized.loss.mean()
        if self.added == "structural":
            loss = loss + 0.05 * structural_loss(made, images)
        elif inner.steps > config.num_steps // 2:
            loss = loss - 0.005 * self.critic(made).mean()
        loss.backward()
        if self.added == "adversarial" and inner.steps > config.num_steps // 2:
            self._teach(images, made.detach())
        clip_gradients(inner.optimizer, config.optimizer.clip_norm)
        inner.optimizer.step()
        inner.revive(quantized.codes, latents.detach())
        return {"loss": loss.detach(), "squared": parts["squared"].detach()}

    def _teach(self, real: Tensor, made: Tensor) -> None:
        loss = F.relu(1 - self.critic(real)).mean() + F.relu(1 + self.critic(made)).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def state_dict(self) -> dict[str, Tensor]:
        return self.inner.state_dict()

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        raise SystemExit("this variant cannot be resumed: delete its folder")


def measured(run: ImageTokenizerRun, added: str, out: Path) -> dict[str, Any]:
    parts = signals(run.data, "image", size=run.tokenizer.image_size, folder=out.parent / "data")
    training = run.training
    batches = image_batches(
        parts[TRAIN], batch_size=training.batch_size, max_shift=training.max_shift, seed=run.seed
    )
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    tokenizer = PictureTraining(run).fitted(parts[TRAIN], out / "start.safetensors")
    unseen = np.stack([row.values for row in parts[UNSEEN]])
    start = image_figures(tokenizer.eval(), unseen)
    step = PerceivedStep(tokenizer, run, added) if added else None
    result = train(
        step or ImageTokenizerStep(tokenizer.train(), training, seed=run.seed),
        batches,
        out=out / "run",
        config=to_dict(run),
        num_steps=run.num_steps,
        checkpoint_every=1000,
        resume=(out / "run").exists(),
        describe=out.name,
    )
    figures = image_figures(tokenizer.eval(), unseen)
    return {
        "start_psnr": start["psnr"]["value"],
        "psnr": figures["psnr"],
        "ssim": figures["ssim"],
        "tokens": figures["codes_per_image"],
        "bits": figures["bits_per_image"],
        "codebooks": figures["codebooks"],
        "steps": result.steps,
        "seconds": time.monotonic() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(variants()))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = arguments.out / "results.json"
    results = io.read_json(path) if path.exists() else {"machine": describe(), "figures": {}}
    for seed in arguments.seeds:
        for name in arguments.only:
            key = f"{name}, seed {seed}, {arguments.steps} steps"
            if key in results["figures"]:
                continue
            run, added = variants()[name]
            training = replace(run.training, num_steps=arguments.steps)
            run = replace(run, seed=seed, training=training)
            folder = arguments.out / key.replace(", ", "-").replace(" ", "_")
            results["figures"][key] = measured(run, added, folder)
            io.write_json(path, results)
            print(key, round(results["figures"][key]["psnr"]["value"], 2), flush=True)


if __name__ == "__main__":
    main()
