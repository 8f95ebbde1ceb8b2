"""Train the image tokenizer: the loss, one update, and batches that are a function of (seed, index)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimask import rng
from trimask.errors import UserError
from trimask.pixels import to_pixels
from trimask.tokenizer_training.data import EmbeddedSignals, SignalData
from trimask.tokenizer_training.signals import Signals
from trimask.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from trimask.training.lr_schedule import LearningRateSchedule, WarmupCosine
from trimask.training.optimizers import (
    AdamWConfig,
    ParameterFactors,
    build_adamw,
    clip_gradients,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    set_learning_rate,
)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTokenizerTraining:
    """Configures the training of an image tokenizer; all numbers [D], from short runs on quickstart images.

    loss = squared + l1_weight |x - y| + gradient_weight (|dx - dy| along rows and columns) + code_weight (the
    quantizer's loss), all means over images in [-1, 1]. Every `revive_every` steps, except in the last fifth,
    codes that were not used since the last time move to vectors with a large error. Pictures are shifted by
    up to `max_shift` pixels, so that cells are cut at many positions. The codebooks are fitted to `fit_cells`
    cells.
    """

    num_steps: int
    batch_size: int = 32
    max_shift: int = 0
    fit_cells: int = 120_000
    l1_weight: float = 0.0625
    gradient_weight: float = 0.025
    code_weight: float = 0.75
    codebook_factor: float = 2.0
    encoder_factor: float = 0.5
    revive_every: int = 100
    optimizer: AdamWConfig = AdamWConfig(learning_rate=2e-3, beta2=0.98, weight_decay=0.0)
    schedule: LearningRateSchedule = field(default_factory=lambda: WarmupCosine(warmup_fraction=0.02))

    def __post_init__(self) -> None:
        for name, least in (
            ("num_steps", 1),
            ("batch_size", 1),
            ("revive_every", 1),
            ("fit_cells", 1),
            ("max_shift", 0),
        ):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}: use {least} or more")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTokenizerRun:
    """Configures a run that trains an image tokenizer: everything that determines its weights."""

    seed: int = 0
    tokenizer: ImageTokenizerConfig
    training: ImageTokenizerTraining
    data: SignalData = EmbeddedSignals()
    log_every: int = 20
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        for name in ("log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: use 1 or more")

    @property
    def num_steps(self) -> int:
        return self.training.num_steps


@final
class ImageTokenizerStep:
    """One update of an image tokenizer on a batch of images in [-1, 1].

    Networks run in bfloat16, the quantizer and the loss in float32.
    """

    def __init__(self, tokenizer: ImageTokenizer, config: ImageTokenizerTraining, *, seed: int) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.seed = seed
        self.optimizer = build_adamw(
            parameter_groups(tokenizer.named_parameters(), self._factors), config.optimizer
        )
        self.steps = 0
        quantizer = tokenizer.quantizer
        self.usage = torch.zeros(quantizer.num_codebooks, quantizer.codebook_size, dtype=torch.int64)

    def __call__(self, batch: Float[Tensor, "b 3 h w"]) -> Mapping[str, Tensor | float]:
        self.steps += 1
        config, device = self.config, next(self.tokenizer.parameters()).device
        images = batch.to(device)
        set_learning_rate(self.optimizer, config.schedule.factor(self.steps / config.num_steps))
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            latents = self.tokenizer.analyse(images)
        quantized = self.tokenizer.quantizer(latents.float())
        with torch.autocast(device.type, torch.bfloat16):
            made = self.tokenizer.synthesise(quantized.values)
        parts = pixel_losses(made.float(), images)
        code_loss = quantized.loss.mean()
        loss = (
            parts["squared"]
            + config.l1_weight * parts["absolute"]
            + config.gradient_weight * parts["gradient"]
            + config.code_weight * code_loss
        )
        loss.backward()
        norm = clip_gradients(self.optimizer, config.optimizer.clip_norm)
        self.optimizer.step()
        moved = self.revive(quantized.codes, latents.detach().float())
        figures = {"loss": loss, "squared": parts["squared"], "code_loss": code_loss, "grad_norm": norm}
        return {name: value.detach() for name, value in figures.items()} | {"revived": float(moved)}

    def state_dict(self) -> dict[str, Tensor]:
        weights = {f"tokenizer.{name}": tensor for name, tensor in self.tokenizer.state_dict().items()}
        moments = {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self.optimizer).items()}
        return weights | moments | {"usage": self.usage, "steps": torch.tensor(self.steps)}

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        def under(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
            }

        self.tokenizer.load_state_dict(under("tokenizer."))
        load_optimizer_tensors(self.optimizer, under("optimizer."))
        self.usage = tensors["usage"].clone()
        self.steps = int(tensors["steps"])

    def _factors(self, name: str) -> ParameterFactors:
        if name.startswith("quantizer."):
            return ParameterFactors(learning_rate=self.config.codebook_factor)
        is_encoder = name.startswith(("encoder.", "analysis."))
        return ParameterFactors(learning_rate=self.config.encoder_factor if is_encoder else 1.0)

    def revive(
        self, codes: Int[Tensor, "b rows columns codebooks"], latents: Float[Tensor, "b rows columns dim"]
    ) -> int:
        """Count the codes; every `revive_every` steps, move the unused ones. Return the number moved."""
        for counts, used in zip(self.usage, codes.flatten(0, 2).T.cpu(), strict=True):
            counts += torch.bincount(used, minlength=len(counts))
        if self.steps % self.config.revive_every or self.steps > 0.8 * self.config.num_steps:
            return 0
        stream = rng.generator(self.seed, "image_tokenizer", "revive", self.steps)
        moved = self.tokenizer.quantizer.revive(self.usage, latents.flatten(0, 2), stream)
        self.usage.zero_()
        return moved


def pixel_losses(
    made: Float[Tensor, "b 3 h w"], real: Float[Tensor, "b 3 h w"]
) -> dict[str, Float[Tensor, ""]]:
    """Return means over all pixels: squared error, absolute error, and absolute error of the gradients."""
    difference = made - real
    gradient = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return {"squared": difference.square().mean(), "absolute": difference.abs().mean(), "gradient": gradient}


def image_batches(
    images: Signals, *, batch_size: int, max_shift: int, seed: int
) -> Callable[[int], Iterator[Float[Tensor, "b 3 h w"]]]:
    """Return a function that yields endless batches in [-1, 1] from batch `start` on.

    Images are shuffled in each epoch, mirrored with probability 1/2, and shifted by up to `max_shift` pixels.

    Raises:
        UserError: there are fewer images than `batch_size`.
    """
    per_epoch = len(images) // batch_size
    if per_epoch < 1:
        raise UserError(
            f"{len(images)} images do not fill a batch of {batch_size}: lower training.batch_size, or add "
            "images"
        )

    def batches(start: int) -> Iterator[Float[Tensor, "b 3 h w"]]:
        index = start
        while True:
            epoch, place = divmod(index, per_epoch)
            order = rng.key(seed, "image_tokenizer", "order", epoch)
            rows = range(place * batch_size, (place + 1) * batch_size)
            batch = pixels(images, [rng.permute_index(row, len(images), order) for row in rows])
            yield augment(batch, rng.generator(seed, "image_tokenizer", "mirror", index), max_shift)
            index += 1

    return batches


def pixels(images: Signals, rows: Sequence[int]) -> Float[Tensor, "b 3 h w"]:
    """Return rows of `images` as floats in [-1, 1]."""
    return to_pixels(np.stack([images[row].values for row in rows]))


def augment(
    images: Float[Tensor, "b 3 h w"], generator: np.random.Generator, max_shift: int
) -> Float[Tensor, "b 3 h w"]:
    """Mirror half of the images, and shift each by up to `max_shift` pixels, repeating the edge."""
    mirrored = torch.from_numpy(generator.random(len(images)) < 0.5)
    images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if not max_shift:
        return images
    height, width = images.shape[2:]
    padded = torch.nn.functional.pad(images, (max_shift,) * 4, mode="replicate")
    corners = generator.integers(0, 2 * max_shift + 1, (len(images), 2)).tolist()
    cuts = [x[:, y : y + height, z : z + width] for x, (y, z) in zip(padded, corners, strict=True)]
    return torch.stack(cuts)
