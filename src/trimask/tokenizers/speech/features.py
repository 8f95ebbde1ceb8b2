"""Speech features at 100 frames per second: a smooth log-mel envelope, pitch and voicing.

The spectrum is smoothed over a bandwidth of the pitch before the mel bands are taken (as in CheapTrick,
Morise 2015), so that the envelope does not depend on the pitch. Otherwise, the harmonics of a high voice
would show in the low bands, and the codebooks would encode the pitch twice.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimask.errors import UserError

# The reference of the pitch in octaves, in Hz: between low and high voices [D].
REFERENCE_PITCH = 140.0
_SILENCE_POWER = 1e-12


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechFeaturesConfig:
    """Geometry of the features; all values are decisions of this project [D]."""

    sample_rate: int = 16_000
    hop: int = 160
    window: int = 512
    fft_size: int = 1024
    num_mels: int = 64
    floor: float = 1e-3
    """Lower bound of mel amplitudes; without it, codes would encode inaudible detail."""
    lowest_pitch: float = 62.0
    highest_pitch: float = 400.0
    voicing_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("sample_rate", "hop", "num_mels"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: use 1 or more")
        if not 2 <= self.window <= self.fft_size or self.fft_size % 2:
            raise UserError(
                f"window={self.window}, fft_size={self.fft_size}: use a window of 2 samples or more, and an "
                "even fft_size that is at least as large"
            )
        if not 0 < self.lowest_pitch < self.highest_pitch < self.sample_rate / 2:
            raise UserError(
                f"lowest_pitch={self.lowest_pitch}, highest_pitch={self.highest_pitch}: use rising values "
                "between 0 and half the sample rate"
            )


@final
class SpeechFeatures(nn.Module):
    """Computes `[log-mel envelope…, pitch, voicing]` from waveforms, without trained parameters.

    Frame i is centred on sample `(i + 1/2) hop`; there are `ceil(samples / hop)` frames. The pitch is in
    octaves above `REFERENCE_PITCH` and 0 where unvoiced; voicing is 0 or 1.
    """

    mel_bands: Tensor
    window: Tensor

    def __init__(self, config: SpeechFeaturesConfig) -> None:
        super().__init__()
        self.config = config
        bands = mel_filters(config.num_mels, config.fft_size // 2 + 1, config.sample_rate)
        self.register_buffer(
            "mel_bands", bands / bands.sum(0, keepdim=True).clamp(min=1e-6), persistent=False
        )
        self.register_buffer("window", torch.hann_window(config.window), persistent=False)

    @property
    def num_features(self) -> int:
        """Number of features: mel bands, pitch and voicing."""
        return self.config.num_mels + 2

    def forward(self, waveform: Float[Tensor, "b samples"]) -> Float[Tensor, "b frames features"]:
        """Compute the features of each waveform (amplitudes in [-1, 1])."""
        pitch, is_voiced = self.pitch(waveform)
        # Unvoiced frames have no harmonics to smooth; 100 Hz is about the resolution of the window.
        bandwidth = torch.where(is_voiced, pitch, 100.0)
        log_mel = self.envelope(waveform, bandwidth)
        octaves = torch.where(is_voiced, torch.log2(pitch / REFERENCE_PITCH), 0.0)
        return torch.cat([log_mel, octaves[..., None], is_voiced.to(log_mel.dtype)[..., None]], dim=-1)

    def envelope(
        self, waveform: Float[Tensor, "b samples"], bandwidth: Float[Tensor, "b frames"]
    ) -> Float[Tensor, "b frames mels"]:
        """Return the natural logs of mel amplitudes, from the power spectrum smoothed over `bandwidth` Hz."""
        config = self.config
        frames = self._frames(waveform, config.window) * self.window
        power = torch.fft.rfft(frames, n=config.fft_size).abs().square() / self.window.square().sum()
        # Smooth by a box of varying width: differences of the running integral at fractional positions.
        integral = nn.functional.pad(power.cumsum(-1), (1, 0))
        bins = torch.arange(power.shape[-1], device=power.device) + 0.5
        half = bandwidth[..., None] * config.fft_size / config.sample_rate / 2
        high = (bins + half).clamp(max=float(power.shape[-1]))
        low = (bins - half).clamp(min=0.0)
        smooth = (_interpolate(integral, high) - _interpolate(integral, low)) / (high - low)
        mel = (smooth.clamp(min=0.0) @ self.mel_bands).sqrt()
        return torch.log(mel.clamp(min=config.floor))

    def pitch(self, waveform: Float[Tensor, "b samples"]) -> tuple[Float[Tensor, "b frames"], Tensor]:
        """Estimate the pitch in Hz, and whether each frame is voiced, by normalized cross-correlation.

        r(τ) = Σ x(n) x(n+τ) / sqrt(Σ x(n)² Σ x(n+τ)²). The period is the shortest lag whose peak is within
        10 % of the highest (longer ones are multiples), refined by a parabola; the pitch is then median
        filtered over 5 voiced frames.
        """
        config = self.config
        shortest = int(config.sample_rate / config.highest_pitch)
        longest = math.ceil(config.sample_rate / config.lowest_pitch)
        length = config.window
        frames = self._frames(waveform, length + longest)
        correlation = _normalized_correlation(frames, length, longest)
        scores = correlation[..., shortest - 1 : longest + 1]
        middle = scores[..., 1:-1]
        is_peak = (middle >= scores[..., :-2]) & (middle >= scores[..., 2:])
        peaks = torch.where(is_peak, middle, -1.0)
        best = peaks.amax(-1, keepdim=True)
        first = ((peaks >= 0.9 * best) & (peaks > 0)).to(torch.int8).argmax(-1, keepdim=True)
        left, centre, right = (scores.gather(-1, first + i).squeeze(-1) for i in range(3))
        curvature = (left - 2 * centre + right).clamp(max=-1e-6)
        shift = (0.5 * (left - right) / curvature).clamp(-0.5, 0.5)
        pitch = config.sample_rate / (first.squeeze(-1) + shortest + shift)
        loudness = frames.square().mean(-1).sqrt()
        is_voiced = (centre > config.voicing_threshold) & (loudness > 2 * config.floor)
        return _median(pitch, is_voiced), is_voiced

    def _frames(self, waveform: Float[Tensor, "b samples"], length: int) -> Float[Tensor, "b frames length"]:
        hop = self.config.hop
        count = -(-waveform.shape[-1] // hop)
        before = length // 2 - hop // 2
        after = (count - 1) * hop + length - before - waveform.shape[-1]
        return nn.functional.pad(waveform, (before, after)).unfold(-1, length, hop)


def mel_filters(num_mels: int, num_bins: int, sample_rate: int) -> Float[Tensor, "bins mels"]:
    """Return triangular filters with peak 1, evenly spaced on the mel scale m = 2595 log10(1 + f/700)."""
    frequencies = torch.linspace(0, sample_rate / 2, num_bins, dtype=torch.float64)
    edges = torch.linspace(0, _mel(sample_rate / 2), num_mels + 2, dtype=torch.float64)
    mels = 2595 * torch.log10(1 + frequencies / 700)
    width = edges[1] - edges[0]
    return (1 - (mels[:, None] - edges[None, 1:-1]).abs() / width).clamp(min=0).float()


def _mel(frequency: float) -> float:
    return 2595 * math.log10(1 + frequency / 700)


def _normalized_correlation(
    frames: Float[Tensor, "b frames length"], length: int, longest: int
) -> Float[Tensor, "b frames lags"]:
    fft_size = 1 << (frames.shape[-1] - 1).bit_length()
    spectrum = torch.fft.rfft(frames, n=fft_size)
    start = torch.fft.rfft(frames[..., :length], n=fft_size)
    products = torch.fft.irfft(spectrum * start.conj(), n=fft_size)[..., : longest + 2]
    energy = nn.functional.pad(frames.square().cumsum(-1), (1, 0))
    shifted = energy[..., length:] - energy[..., : energy.shape[-1] - length]
    shifted = nn.functional.pad(shifted, (0, 1))
    return products / (shifted * shifted[..., :1] + _SILENCE_POWER).sqrt()


def _interpolate(values: Tensor, positions: Tensor) -> Tensor:
    """Interpolate linearly along the last axis at fractional positions."""
    below = positions.floor().long().clamp(max=values.shape[-1] - 2)
    fraction = positions - below
    return torch.lerp(values.gather(-1, below), values.gather(-1, below + 1), fraction)


def _median(pitch: Float[Tensor, "b frames"], is_voiced: Tensor) -> Float[Tensor, "b frames"]:
    """Take the median over the voiced frames among 5 neighbours, which removes single octave errors."""
    marked = torch.where(is_voiced, pitch, torch.nan)
    windows = nn.functional.pad(marked, (2, 2), value=torch.nan).unfold(-1, 5, 1)
    return torch.where(is_voiced, windows.nanmedian(-1).values, pitch)
