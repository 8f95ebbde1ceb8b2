"""What the ablation compares and the library does not have: product quantization, a permuted linear code for
FSQ, other losses of the code, and an adversary for the vocoder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trimask.tokenizers.quantizer import Quantized, Quantizer, QuantizerConfig, check_codes, kmeans, nearest
from trimask.tokenizers.speech import SpeechTokenizer
from trimask.tokenizers.speech.autoencoder import SpeechAutoencoder
from trimask.tokenizers.speech.features import SpeechFeaturesConfig
from trimask.training.optimizers import build_adamw, clip_gradients, parameter_groups, set_learning_rate
from trimask.training.speech_tokenizer import (
    SpeechCrops,
    SpeechStep,
    SpeechTraining,
    code_losses,
    mel_loss,
    spectral_loss,
)

CodeLoss = Callable[[SpeechAutoencoder, Float[Tensor, "b frames features"]], dict[str, Tensor]]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ProductVectorConfig(QuantizerConfig):
    """`num_codebooks` plain codebooks, each over its own `dim / num_codebooks` numbers."""

    dim: int = 64
    codebook_size: int = 512
    num_codebooks: int = 8

    def build(self) -> "ProductVectorQuantizer":
        return ProductVectorQuantizer(self)


@final
class ProductVectorQuantizer(Quantizer):
    """Plain vector quantization of sub-vectors (number i goes to codebook i mod num_codebooks, so that each
    gets its share of the leading principal components); with one codebook it is plain VQ.
    """

    commitment = 0.5

    def __init__(self, config: ProductVectorConfig) -> None:
        super().__init__()
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        self.dim = config.dim
        part = config.dim // config.num_codebooks
        self.codebooks = nn.Parameter(torch.zeros(config.num_codebooks, config.codebook_size, part))

    def encode(self, vectors: Float[Tensor, "*n dim"]) -> Int[Tensor, "*n codebooks"]:
        parts = self._parts(vectors).reshape(-1, self.codebooks.shape[-1], self.num_codebooks)
        codes = [nearest(parts[..., i], book) for i, book in enumerate(self.codebooks.detach())]
        return torch.stack(codes, -1).view(*vectors.shape[:-1], self.num_codebooks)

    def decode(self, codes: Int[Tensor, "*n codebooks"]) -> Float[Tensor, "*n dim"]:
        check_codes(codes, self.num_codebooks, self.codebook_size)
        parts = [nn.functional.embedding(codes[..., i], book) for i, book in enumerate(self.codebooks)]
        return torch.stack(parts, -1).flatten(-2)

    def fit(self, vectors: Float[Tensor, "n dim"], generator: np.random.Generator) -> None:
        parts = self._parts(vectors)
        with torch.no_grad():
            for i, book in enumerate(self.codebooks):
                book.copy_(kmeans(parts[..., i], self.codebook_size, generator))

    def forward(self, vectors: Float[Tensor, "*n dim"]) -> Quantized:
        codes = self.encode(vectors.detach())
        decoded = self.decode(codes)
        pull = (vectors.detach() - decoded).square().mean(-1)
        commit = (vectors - decoded.detach()).square().mean(-1)
        return Quantized(decoded + (vectors - vectors.detach()), codes, pull + self.commitment * commit)

    def revive(
        self,
        usage: Int[Tensor, "codebooks size"],
        vectors: Float[Tensor, "n dim"],
        generator: np.random.Generator,
    ) -> int:
        return 0

    def _parts(self, vectors: Float[Tensor, "*n dim"]) -> Float[Tensor, "*n part codebooks"]:
        return vectors.unflatten(-1, (-1, self.num_codebooks))


@torch.no_grad()
def spread_components(autoencoder: SpeechAutoencoder) -> None:
    """Reorder a fitted linear code so that channel 0 of every FSQ codebook is among the strongest principal
    components, channel 1 among the next, …: then `levels` can fall with their variance.
    """
    books = autoencoder.quantizer.num_codebooks
    order = torch.arange(autoencoder.quantizer.dim).view(-1, books).T.flatten()
    autoencoder.analysis.weight.copy_(autoencoder.analysis.weight[order].clone())
    autoencoder.analysis.bias.copy_(autoencoder.analysis.bias[order].clone())
    autoencoder.synthesis.weight.copy_(autoencoder.synthesis.weight[:, order].clone())


def todays_loss(
    autoencoder: SpeechAutoencoder, features: Float[Tensor, "b frames features"]
) -> dict[str, Tensor]:
    """The figures of `code_losses` alone."""
    return code_losses(autoencoder, features)[0]


def weighed_loss(*, squared: float, motion: float, audible: float = 0.0, cepstral: float = 0.0) -> CodeLoss:
    """Like `code_losses`, with other terms of the envelope besides mean |d|.

    `audible` weighs |d| by exp((level - peak of the band over the crop) / 4), in nats: errors in loud
    bands count, errors at the floor do not. `cepstral` is mean |DCT(d)| over the first 20 quefrencies:
    errors of the spectral shape, not of single bands.
    """

    def losses(
        autoencoder: SpeechAutoencoder, features: Float[Tensor, "b frames features"]
    ) -> dict[str, Tensor]:
        with torch.autocast(features.device.type, torch.bfloat16):
            latent = autoencoder.latent(features)
        quantized = autoencoder.quantizer(latent.float())
        with torch.autocast(features.device.type, torch.bfloat16):
            made = autoencoder.features(quantized.values)
        difference = made.float() - features
        mel = difference[..., : autoencoder.num_mels]
        is_voiced = features[..., -1]
        pitch = (difference[..., -2].abs() * is_voiced).sum() / is_voiced.sum().clamp(min=1.0)
        total = mel.abs().mean() + 4.0 * pitch + difference[..., -1].abs().mean() + quantized.loss.mean()
        total = total + squared * mel.square().mean() + motion * mel.diff(dim=1).abs().mean()
        if audible:
            level = features[..., : autoencoder.num_mels]
            weight = torch.exp((level - level.amax(1, keepdim=True)) / 4)
            total = total + audible * (weight * mel.abs()).sum() / weight.sum()
        if cepstral:
            total = total + cepstral * (mel @ _cosines(autoencoder.num_mels)).abs().mean()
        return {"loss": total, "mel": mel.abs().mean()}

    return losses


def _cosines(num_mels: int, count: int = 20) -> Float[Tensor, "mels quefrencies"]:
    """The first `count` vectors of the orthonormal DCT-II."""
    n, k = torch.arange(num_mels)[:, None] + 0.5, torch.arange(count)
    scale = torch.full((count,), (2 / num_mels) ** 0.5)
    scale[0] = num_mels**-0.5
    return torch.cos(torch.pi / num_mels * n * k) * scale


@final
class VariantCodeStep(SpeechStep):
    """`CodeStep` with a loss of one's choice."""

    def __init__(
        self, tokenizer: SpeechTokenizer, config: SpeechTraining, loss: CodeLoss = todays_loss
    ) -> None:
        super().__init__(tokenizer.autoencoder, config)
        self.autoencoder = tokenizer.autoencoder
        self.loss = loss

    def losses(self, batch: SpeechCrops) -> dict[str, Tensor]:
        return self.loss(self.autoencoder, batch.features)


@final
class TrueFeaturesStep(SpeechStep):
    """One update of the vocoder on features that went through no code, measured on the crops themselves.

    `per_clip`: spectral convergence is a mean over clips, so that quiet ones count; else one of the batch.
    `mel` weighs the distance of mel spectra that is added.
    """

    def __init__(
        self, tokenizer: SpeechTokenizer, config: SpeechTraining, *, per_clip: bool, mel: float = 0.0
    ) -> None:
        super().__init__(tokenizer.vocoder, config)
        self.tokenizer, self.per_clip, self.mel = tokenizer, per_clip, mel

    def losses(self, batch: SpeechCrops) -> dict[str, Tensor]:
        with torch.no_grad():
            features = self.tokenizer.features(batch.waveform)
        # Both louder by as much as the features' floor is lower: so is the loss's own floor then.
        gain = SpeechFeaturesConfig().floor / self.tokenizer.config.features.floor
        made, real = gain * self.tokenizer.vocoder(features), gain * batch.waveform
        if not self.per_clip:
            return {"loss": spectral_loss(made, real)}
        pairs = zip(made.split(1), real.split(1), strict=True)
        loss = torch.stack([spectral_loss(*pair) for pair in pairs]).mean()
        if self.mel:
            loss = loss + self.mel * mel_loss(made / gain, batch.waveform, 16_000)
        return {"loss": loss}


@final
class SpectrumDiscriminator(nn.Module):
    """Log magnitudes at one resolution through four strided convolutions (after UnivNet, Jang et al. 2021,
    arXiv 2106.07889): scores of patches, and the features on the way.
    """

    def __init__(self, fft_size: int, width: int = 16) -> None:
        super().__init__()
        self.fft_size = fft_size
        shapes = [(1, width, (3, 9)), (width, width, (3, 8)), (width, width, (3, 8)), (width, width, (3, 4))]
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(
                nn.Conv2d(i, o, kernel, stride=(1, 2), padding=(1, kernel[1] // 2))
            )
            for i, o, kernel in shapes
        )
        self.last = nn.utils.parametrizations.weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, waveform: Float[Tensor, "b samples"]) -> tuple[Tensor, list[Tensor]]:
        window = torch.hann_window(self.fft_size, device=waveform.device)
        spectrum = torch.stft(waveform, self.fft_size, self.fft_size // 4, window=window, return_complex=True)
        # The square keeps the gradient finite where a magnitude is 0.
        power = torch.view_as_real(spectrum).square().sum(-1)
        x = 0.5 * torch.log(power + 1e-4).transpose(1, 2)[:, None]
        maps = []
        for layer in self.layers:
            x = nn.functional.leaky_relu(layer(x), 0.1)
            maps.append(x)
        return self.last(x), maps


@final
class AdversarialStep:
    """An update of the discriminators (least squares), then one of the vocoder on the spectral loss, the
    adversary's and the distance of its features (Kong et al. 2020, arXiv 2010.05646).
    """

    def __init__(
        self, tokenizer: SpeechTokenizer, config: SpeechTraining, *, adversarial: float, matching: float
    ) -> None:
        self.vocoder = tokenizer.vocoder
        self.config = config
        self.judges = nn.ModuleList(SpectrumDiscriminator(size) for size in (256, 512, 1024))
        self.optimizer = build_adamw(parameter_groups(self.vocoder.named_parameters()), config.optimizer)
        self.opponent = build_adamw(parameter_groups(self.judges.named_parameters()), config.optimizer)
        self.adversarial, self.matching = adversarial, matching
        self.steps = 0

    def __call__(self, features: Tensor, waveform: Tensor) -> dict[str, Tensor | float]:
        self.steps += 1
        factor = self.config.schedule.factor(self.steps / self.config.num_steps)
        set_learning_rate(self.optimizer, factor)
        set_learning_rate(self.opponent, factor)
        made = self.vocoder(features)
        apart = torch.zeros(())
        judges = self.judges if self.adversarial or self.matching else []
        self.opponent.zero_grad(set_to_none=True)
        for judge in judges:
            apart = apart + (judge(waveform)[0] - 1).square().mean() + judge(made.detach())[0].square().mean()
        if apart.requires_grad:
            apart.backward()
            clip_gradients(self.opponent, self.config.optimizer.clip_norm)
            self.opponent.step()
        self.optimizer.zero_grad(set_to_none=True)
        spectral = spectral_loss(made, waveform)
        fooled, matched = torch.zeros(()), torch.zeros(())
        for judge in judges:
            with torch.no_grad():
                real = judge(waveform)[1]
            score, maps = judge(made)
            fooled = fooled + (score - 1).square().mean() / len(self.judges)
            for a, b in zip(maps, real, strict=True):
                matched = matched + (a - b).abs().mean() / (len(self.judges) * len(maps))
        mel = mel_loss(made, waveform, 16_000) if self.config.mel_weight else torch.zeros(())
        pulled = self.adversarial * fooled + self.matching * matched
        (spectral + self.config.mel_weight * mel + pulled).backward()
        clip_gradients(self.optimizer, self.config.optimizer.clip_norm)
        self.optimizer.step()
        return {
            "spectral": spectral.item(),
            "mel": mel.item(),
            "fooled": fooled.item(),
            "matched": matched.item(),
            "apart": apart.item(),
        }
