"""Train the speech tokenizer: the losses and updates of its two parts, and batches by (seed, index)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trimask import rng
from trimask.errors import UserError
from trimask.tokenizer_training.data import EmbeddedSignals, SignalData
from trimask.tokenizer_training.signals import Concatenation
from trimask.tokenizers.speech.autoencoder import SpeechAutoencoder
from trimask.tokenizers.speech.features import mel_filters
from trimask.tokenizers.speech.tokenizer import SpeechTokenizer, SpeechTokenizerConfig
from trimask.training.lr_schedule import LearningRateSchedule, WarmupCosine
from trimask.training.optimizers import (
    AdamWConfig,
    build_adamw,
    clip_gradients,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    set_learning_rate,
)

_REVIVE_EVERY = 100


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechTraining:
    """Configures the training of one part of a speech tokenizer; all numbers [D], from short runs on the
    quickstart clips.
    """

    num_steps: int
    batch_size: int
    crop_frames: int
    """Length of a crop in feature frames (100 per second)."""
    optimizer: AdamWConfig
    schedule: LearningRateSchedule = field(default_factory=lambda: WarmupCosine(warmup_fraction=0.03))
    mel_weight: float = 0.0
    """Weight of `mel_loss`, which is added to the spectral loss of the vocoder; must be 0 for the code."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "crop_frames"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: use 1 or more")
        if self.mel_weight < 0:
            raise UserError(f"mel_weight={self.mel_weight}: use 0 or more")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechTokenizerRun:
    """Configures a run that trains a speech tokenizer: everything that determines its weights.

    The code is trained first, on features, then the vocoder on the features that the code reconstructs.
    """

    seed: int = 0
    tokenizer: SpeechTokenizerConfig
    code: SpeechTraining
    vocoder: SpeechTraining
    data: SignalData = EmbeddedSignals()
    log_every: int = 20
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        for name in ("log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: use 1 or more")

    @property
    def num_steps(self) -> int:
        return self.code.num_steps + self.vocoder.num_steps


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechCrops:
    """Pieces of speech of equal length: samples and their features."""

    waveform: Float[Tensor, "b samples"]
    features: Float[Tensor, "b frames features"]


class SpeechStep(ABC):
    """One update of a part of the tokenizer; subclasses define the loss."""

    def __init__(self, part: nn.Module, config: SpeechTraining) -> None:
        self.part = part
        self.config = config
        self.optimizer = build_adamw(parameter_groups(part.named_parameters()), config.optimizer)
        self.steps = 0

    @abstractmethod
    def losses(self, batch: SpeechCrops) -> dict[str, Tensor]:
        """Return the loss to minimize as `loss`, and further metrics."""

    def __call__(self, batch: SpeechCrops) -> Mapping[str, Tensor | float]:
        self.steps += 1
        set_learning_rate(self.optimizer, self.config.schedule.factor(self.steps / self.config.num_steps))
        self.optimizer.zero_grad(set_to_none=True)
        figures = self.losses(batch)
        figures["loss"].backward()
        norm = clip_gradients(self.optimizer, self.config.optimizer.clip_norm)
        self.optimizer.step()
        return {name: value.detach() for name, value in figures.items()} | {"grad_norm": norm.detach()}

    def state_dict(self) -> dict[str, Tensor]:
        weights = {f"part.{name}": tensor for name, tensor in self.part.state_dict().items()}
        moments = {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self.optimizer).items()}
        return weights | moments | {"steps": torch.tensor(self.steps)}

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        def under(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.part.load_state_dict(under("part."))
        load_optimizer_tensors(self.optimizer, under("optimizer."))
        self.steps = int(tensors["steps"])


@final
class CodeStep(SpeechStep):
    """One update of the code: codebooks and decoder together, with networks in bfloat16."""

    def __init__(self, tokenizer: SpeechTokenizer, config: SpeechTraining) -> None:
        if config.mel_weight:
            raise UserError(f"mel_weight={config.mel_weight} is for the vocoder: leave it 0 for the code")
        super().__init__(tokenizer.autoencoder, config)
        self.autoencoder = tokenizer.autoencoder
        quantizer = self.autoencoder.quantizer
        self.usage = torch.zeros(quantizer.num_codebooks, quantizer.codebook_size, dtype=torch.int64)

    def losses(self, batch: SpeechCrops) -> dict[str, Tensor]:
        figures, codes = code_losses(self.autoencoder, batch.features)
        for counts, used in zip(self.usage, codes.flatten(0, -2).T.cpu(), strict=True):
            counts += torch.bincount(used, minlength=len(counts))
        return figures

    def __call__(self, batch: SpeechCrops) -> Mapping[str, Tensor | float]:
        return {**super().__call__(batch), "revived": float(self._revive(batch.features))}

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"usage": self.usage}

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        super().load_state_dict(tensors)
        self.usage = tensors["usage"].clone()

    @torch.no_grad()
    def _revive(self, features: Float[Tensor, "b frames features"]) -> int:
        """Every `_REVIVE_EVERY` steps, except in the last fifth, move unused codes to vectors with a large
        error. Return the number moved.
        """
        if self.steps % _REVIVE_EVERY or self.steps > 0.8 * self.config.num_steps:
            return 0
        stream = rng.generator(0, "speech_tokenizer", "revive", self.steps)
        latents = self.autoencoder.latent(features).flatten(0, 1)
        moved = self.autoencoder.quantizer.revive(self.usage, latents, stream)
        self.usage.zero_()
        return moved


@final
class VocoderStep(SpeechStep):
    """One update of the vocoder on features that the trained code reconstructs, whose errors it learns to
    correct.
    """

    def __init__(self, tokenizer: SpeechTokenizer, config: SpeechTraining) -> None:
        super().__init__(tokenizer.vocoder, config)
        self.tokenizer = tokenizer

    def losses(self, batch: SpeechCrops) -> dict[str, Tensor]:
        code = self.tokenizer.autoencoder
        with torch.no_grad():
            codes = code.quantizer.encode(code.latent(batch.features))
            decoded = code.features(code.quantizer.decode(codes))
        made = self.tokenizer.vocoder(decoded)
        spectral = spectral_loss(made, batch.waveform)
        if not self.config.mel_weight:
            return {"loss": spectral}
        mel = mel_loss(made, batch.waveform, self.tokenizer.sample_rate)
        return {"loss": spectral + self.config.mel_weight * mel, "spectral": spectral, "mel": mel}


def code_losses(
    autoencoder: SpeechAutoencoder, features: Float[Tensor, "b frames features"]
) -> tuple[dict[str, Tensor], Int[Tensor, "b codes codebooks"]]:
    """Return the losses of reconstructed features, including the quantizer's own, and the codes.

    loss = mean |d| + 1/2 mean d² + 1/2 mean |d(t+1) - d(t)| + 4 |pitch| + |voicing| + codes, where d is the
    difference of the log-mel envelopes in nats, pitch that in octaves over voiced frames.
    """
    device = features.device.type
    with torch.autocast(device, torch.bfloat16):
        latent = autoencoder.latent(features)
    quantized = autoencoder.quantizer(latent.float())
    with torch.autocast(device, torch.bfloat16):
        made = autoencoder.features(quantized.values)
    difference = made.float() - features
    mel = difference[..., : autoencoder.num_mels]
    is_voiced = features[..., -1]
    # The pitch of unvoiced frames is undefined, and the decoder's value there is not used.
    pitch = (difference[..., -2].abs() * is_voiced).sum() / is_voiced.sum().clamp(min=1.0)
    voicing = difference[..., -1].abs().mean()
    codes = quantized.loss.mean()
    motion = mel.diff(dim=1).abs().mean()
    envelope = mel.abs().mean() + 0.5 * mel.square().mean() + 0.5 * motion
    total = envelope + 4.0 * pitch + voicing + codes
    figures = {"loss": total, "mel": mel.abs().mean(), "pitch": pitch, "voicing": voicing, "codes": codes}
    return figures, quantized.codes


def spectral_loss(
    made: Float[Tensor, "b samples"],
    real: Float[Tensor, "b samples"],
    fft_sizes: tuple[int, ...] = (256, 512, 1024),
) -> Float[Tensor, ""]:
    """Return the multi-resolution STFT distance (Yamamoto et al. 2020, arXiv 1910.11480): mean |Δ log
    magnitude| + spectral convergence.
    """
    total = made.new_zeros(())
    for fft_size in fft_sizes:
        window = torch.hann_window(fft_size, device=made.device)
        magnitudes = [
            torch.stft(x, fft_size, fft_size // 4, window=window, return_complex=True).abs()
            for x in (made, real)
        ]
        difference = magnitudes[0] - magnitudes[1]
        # 1e-2 of an STFT bin is inaudible at these window sizes; without it silence would dominate the loss.
        logs = [torch.log(m + 1e-2) for m in magnitudes]
        total = (
            total
            + (logs[0] - logs[1]).abs().mean()
            + difference.norm() / magnitudes[1].norm().clamp(min=1e-3)
        )
    return total / len(fft_sizes)


def mel_loss(
    made: Float[Tensor, "b samples"], real: Float[Tensor, "b samples"], sample_rate: int, num_mels: int = 80
) -> Float[Tensor, ""]:
    """Return the mean |Δ log mel amplitude| of 25 ms windows (Kong et al. 2020, arXiv 2010.05646).

    These are the inputs of speech recognizers; errors of single bins that no band shows are ignored.
    """
    length = sample_rate // 40
    fft_size = 1 << (length - 1).bit_length()
    window = torch.hann_window(length, device=made.device)
    bands = mel_filters(num_mels, fft_size // 2 + 1, sample_rate).to(made.device)
    logs = []
    for waveform in (made, real):
        spectrum = torch.stft(waveform, fft_size, sample_rate // 100, length, window, return_complex=True)
        # The sum of squares is differentiable at 0, the magnitude is not.
        power = torch.view_as_real(spectrum).square().sum(-1)
        logs.append(0.5 * torch.log(power.transpose(1, 2) @ bands + 1e-5))
    return (logs[0] - logs[1]).abs().mean()


@final
class SpeechTokenizerStep:
    """The updates of a whole run: first those of the code, then those of the vocoder."""

    def __init__(self, tokenizer: SpeechTokenizer, *, code: SpeechTraining, vocoder: SpeechTraining) -> None:
        self.tokenizer = tokenizer
        self.stages: Mapping[str, SpeechStep] = {
            "code": CodeStep(tokenizer, code),
            "vocoder": VocoderStep(tokenizer, vocoder),
        }
        self.num_code_steps = code.num_steps

    def __call__(self, batch: SpeechCrops) -> Mapping[str, Tensor | float]:
        is_code = self.stages["code"].steps < self.num_code_steps
        return self.stages["code" if is_code else "vocoder"](batch)

    def state_dict(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": value
            for name, stage in self.stages.items()
            for key, value in stage.state_dict().items()
        }

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        for name, stage in self.stages.items():
            prefix = f"{name}."
            stage.load_state_dict(
                {key.removeprefix(prefix): v for key, v in tensors.items() if key.startswith(prefix)}
            )


@final
@dataclass(frozen=True, kw_only=True)
class Recording:
    """Concatenated clips, padded to whole code frames: 16-bit samples, and float16 features of each clip.

    Crops may extend from one clip into the next.
    """

    waveform: Concatenation
    features: Concatenation
    hop: int

    def crop(self, first_frame: int, num_frames: int) -> tuple[Tensor, Tensor]:
        """Return the samples, in [-1, 1], and the features of `num_frames` feature frames."""
        start, stop = first_frame * self.hop, (first_frame + num_frames) * self.hop
        samples = torch.from_numpy(self.waveform.read(start, stop)).float() / 32767
        return samples, torch.from_numpy(self.features.read(first_frame, first_frame + num_frames)).float()


def speech_batches(
    recording: Recording, *, code: SpeechTraining, vocoder: SpeechTraining, seed: int
) -> Callable[[int], Iterator[SpeechCrops]]:
    """Return a function that yields endless batches of random crops from batch `start` on.

    The first `code.num_steps` batches are for the code, the others for the vocoder. Crops start at any
    feature frame, not only at code frames, since clips may start anywhere in a sound.

    Raises:
        UserError: there is less speech than one crop.
    """
    num_frames = len(recording.features)
    longest = max(code.crop_frames, vocoder.crop_frames)
    if num_frames <= longest:
        raise UserError(f"{num_frames} frames of speech are too few for a crop of {longest}: add recordings")

    def batches(start: int) -> Iterator[SpeechCrops]:
        index = start
        while True:
            is_code = index < code.num_steps
            stage, config = ("code", code) if is_code else ("vocoder", vocoder)
            number = index if is_code else index - code.num_steps
            draw = rng.generator(seed, "speech_tokenizer", stage, number)
            firsts = draw.integers(0, num_frames - config.crop_frames, config.batch_size)
            crops = [recording.crop(int(first), config.crop_frames) for first in firsts]
            waveforms, features = zip(*crops, strict=True)
            yield SpeechCrops(waveform=torch.stack(waveforms), features=torch.stack(features))
            index += 1

    return batches
