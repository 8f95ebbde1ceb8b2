"""A source-filter vocoder: features to a waveform through two predicted smooth filters.

The excitation is a band-limited pulse train at the pitch, and noise. For each of the two, a small network
predicts a minimum-phase filter per frame: log gains in mel bands, as corrections of the envelope. So the
vocoder works before any training, and needs no adversarial loss and no phase prediction.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimask import rng
from trimask.errors import UserError
from trimask.tokenizers.speech.blocks import ConvStack
from trimask.tokenizers.speech.features import REFERENCE_PITCH, SpeechFeaturesConfig

_NOISE_SEED = 0


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class VocoderConfig:
    """Size of the filter network [D]."""

    width: int = 160
    depth: int = 4
    kernel: int = 7

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("depth", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}: use {least} or more")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UserError(f"kernel={self.kernel}: use an odd number, 1 or more")


@final
class Vocoder(nn.Module):
    """Synthesizes `hop` samples per frame from features at `sample_rate / hop` frames per second.

        waveform = Σ_i  h_i * (w_i · pulses) + g_i * (w_i · noise)

    with Hann windows w_i of two hops (they add up to 1), h_i and g_i minimum-phase impulse responses.
    Deterministic: the noise is a function of the sample's position.
    """

    centres: Tensor
    fold: Tensor
    window: Tensor

    def __init__(self, config: VocoderConfig, features: SpeechFeaturesConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = features
        self.filters = ConvStack(
            features.num_mels + 2,
            2 * features.num_mels,
            width=config.width,
            depth=config.depth,
            kernel=config.kernel,
        )
        self.register_buffer("centres", _band_interpolation(features), persistent=False)
        self.register_buffer("window", torch.hann_window(2 * features.hop), persistent=False)
        half = features.fft_size // 2
        fold = torch.zeros(features.fft_size)
        fold[0] = fold[half] = 1.0
        fold[1:half] = 2.0
        self.register_buffer("fold", fold, persistent=False)

    def forward(self, features: Float[Tensor, "b frames features"]) -> Float[Tensor, "b samples"]:
        """Synthesize the waveform of each sequence of features."""
        num_mels = self.geometry.num_mels
        padded = torch.cat([features[:, :1], features, features[:, -1:]], dim=1)
        envelope = padded[..., :num_mels]
        inputs = torch.cat([(envelope + 5.0) / 2.0, padded[..., num_mels:]], dim=-1)
        voiced, unvoiced = self.filters(inputs).chunk(2, dim=-1)
        # Before training, pulses are 4 nats lower in unvoiced frames, and noise 2 nats lower in voiced ones.
        voicing = padded[..., -1:]
        gains = torch.stack(
            [envelope + voiced - 4 * (1 - voicing), envelope + unvoiced - 2 * voicing], dim=-2
        )
        responses = self._minimum_phase(gains @ self.centres)
        pitch = REFERENCE_PITCH * torch.exp2(padded[..., num_mels].clamp(-1.5, 1.5))
        sources = torch.stack([pulses(pitch, self.geometry), self._noise(pitch)], dim=1)
        hop = self.geometry.hop
        frames = nn.functional.pad(sources, (hop // 2, hop // 2)).unfold(-1, 2 * hop, hop) * self.window
        spectra = torch.fft.rfft(frames, n=self.geometry.fft_size).transpose(1, 2)
        pieces = torch.fft.irfft((spectra * responses).sum(-2), n=self.geometry.fft_size)
        return self._overlap_add(pieces, features.shape[1])

    def _minimum_phase(self, log_gains: Float[Tensor, "b frames sources bins"]) -> Tensor:
        """Return complex minimum-phase responses with these gains, by folding the real cepstrum."""
        cepstrum = torch.fft.irfft(log_gains, n=self.geometry.fft_size)
        return torch.exp(torch.fft.rfft(cepstrum * self.fold))

    def _noise(self, pitch: Float[Tensor, "b frames"]) -> Float[Tensor, "b samples"]:
        # White noise of variance 1, keyed by the frame, so a prefix of a clip has the same noise.
        frames = torch.arange(pitch.shape[1], device=pitch.device)
        draws = rng.uniform(rng.fold(rng.key(_NOISE_SEED, "vocoder"), frames), self.geometry.hop)
        noise = ((draws - 0.5) * math.sqrt(12.0)).to(pitch.dtype).flatten()
        return noise.expand(pitch.shape[0], -1)

    def _overlap_add(
        self, pieces: Float[Tensor, "b pieces length"], num_frames: int
    ) -> Float[Tensor, "b samples"]:
        hop = self.geometry.hop
        batch, count, length = pieces.shape
        columns = -(-length // hop)
        pieces = nn.functional.pad(pieces, (0, columns * hop - length)).view(batch, count, columns, hop)
        total = sum(nn.functional.pad(pieces[:, :, k], (0, 0, k, columns - 1 - k)) for k in range(columns))
        assert isinstance(total, Tensor)
        # Padded frame 0 is one hop before the first sample, and its piece starts half a hop before that.
        start = hop + hop // 2
        return total.flatten(1)[:, start : start + num_frames * hop]


def pulses(pitch: Float[Tensor, "b frames"], geometry: SpeechFeaturesConfig) -> Float[Tensor, "b samples"]:
    """Generate cosines at all harmonics below half the sample rate, with power 1.

    2 Σ_{k=1}^{K} cos(2πkφ) = sin((2K + 1)πφ) / sin(πφ) - 1, a pulse train without aliasing. The pitch is
    interpolated between frames.
    """
    smooth = nn.functional.interpolate(pitch[:, None], scale_factor=geometry.hop, mode="linear")[:, 0]
    phase = (smooth.double() / geometry.sample_rate).cumsum(-1).remainder(1.0)
    harmonics = (0.49 * geometry.sample_rate / smooth).floor().clamp(min=1.0)
    below = torch.sin(math.pi * phase)
    is_peak = below.abs() < 1e-6
    ratio = torch.sin((2 * harmonics + 1) * math.pi * phase) / torch.where(is_peak, 1.0, below)
    return ((torch.where(is_peak, 2 * harmonics + 1, ratio) - 1) / (2 * harmonics).sqrt()).to(pitch.dtype)


def _band_interpolation(features: SpeechFeaturesConfig) -> Float[Tensor, "mels bins"]:
    """Return the matrix that interpolates log gains from mel band centres to FFT bins, linearly in mel."""
    bins = torch.linspace(0, features.sample_rate / 2, features.fft_size // 2 + 1, dtype=torch.float64)
    mels = 2595 * torch.log10(1 + bins / 700)
    spacing = 2595 * math.log10(1 + features.sample_rate / 1400) / (features.num_mels + 1)
    positions = (mels / spacing - 1).clamp(0, features.num_mels - 1)
    bands = torch.arange(features.num_mels, dtype=torch.float64)
    return (1 - (positions[None] - bands[:, None]).abs()).clamp(min=0).float()
