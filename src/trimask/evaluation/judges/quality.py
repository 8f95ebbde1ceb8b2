"""Speech quality: DistillMOS predicts the mean opinion score (1 to 5) that listeners would give."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from trimask.errors import UserError
from trimask.evaluation.judges.pinned import check
from trimask.evaluation.judges.weights import load_pinned, pinned_name

_RATE, _HOP, _WINDOW = 16_000, 160, 320
_LENGTH, _MOST_HOP = 122_880, 16_000  # samples of a segment; maximum distance between segments
_CHANNELS = (64, 64, 128, 256, 256, 256)
_FEATURES, _WIDTH, _HEADS, _LAYERS, _FRAMES = 1024, 200, 8, 7, 384


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class QualityJudge:
    """DistillMOS [L: Stahl & Gamper 2025]; `source` is the folder of its pinned weights."""

    source: str

    @property
    def name(self) -> str:
        return "DistillMOS"

    def check(self) -> None:
        """Check that `source` has the pinned weights. Raises as `scores`."""
        if pinned_name(self.source) != "distillmos":
            raise UserError(
                f"{self.source} has no DistillMOS: fetch it with `trimask evaluate --fetch-judges DIR`"
            )
        check(Path(self.source), "distillmos")

    @torch.inference_mode()
    def scores(self, clips: list[Float32[np.ndarray, "_"]], sample_rate: int) -> Float[np.ndarray, "n"]:
        """Score each clip (mono, 16 kHz) from 1 (bad) to 5 (excellent); a clip without samples gets 1.

        Raises:
            UserError: another sample rate, or a source that is not the pinned one.
        """
        if sample_rate != _RATE:
            raise UserError(f"sample_rate={sample_rate}: the judge needs {_RATE} Hz, resample first")
        self.check()
        network = DistillMos.load(Path(self.source))
        return np.array([network.score(clip) if len(clip) else 1.0 for clip in clips])


@final
class DistillMos(nn.Module):
    """A convolutional network over the compressed complex spectrum, and a transformer.

    Parameter names are those of the weights (PyPI distillmos 0.9.1 builds the same network).
    """

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.ModuleDict({"cnn": _convolutions()})
        self.transformer_pool_attn = _Pooled()

    def forward(self, segments: Float[Tensor, "b samples"]) -> Float[Tensor, "b"]:
        """Score segments of 122,880 samples."""
        peak = segments.abs().amax(1, keepdim=True)
        features = self.cnn["cnn"](_compress_spectrum(segments / (peak + 1e-8)))
        return 1 + 4 * self.transformer_pool_attn(features.flatten(1, 2).transpose(1, 2))

    @torch.inference_mode()
    def score(self, waveform: Float32[np.ndarray, "samples"]) -> float:
        """Average the scores of overlapping segments of 7.68 s; a shorter clip is padded with zeros."""
        samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
        over = max(len(samples) - _LENGTH, 0)
        samples = F.pad(samples, (0, max(_LENGTH - len(samples), 0)))
        starts = [int(c * over) for c in np.linspace(0, 1, math.ceil(over / _MOST_HOP) + 1)]
        return float(self(torch.stack([samples[start : start + _LENGTH] for start in starts])).mean())

    @classmethod
    def load(cls, folder: Path) -> "DistillMos":
        """Load the pinned weights in `folder`."""
        network = cls()
        network.load_state_dict(load_pinned(folder, "distillmos")["model"])
        return network.eval()


def _convolutions() -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 2
    for number, channels in enumerate(_CHANNELS):
        stride = (2 if number else 1, 2 if number == len(_CHANNELS) - 1 else 1)
        layers += [nn.Conv2d(before, channels, 3, stride=stride, padding=(0, 1)), nn.LeakyReLU(0.1)]
        before = channels
    return nn.Sequential(*layers)


def _compress_spectrum(x: Float[Tensor, "b samples"]) -> Float[Tensor, "b 2 bins frames"]:
    """Compute real and imaginary parts of the spectrum, with magnitudes raised to the power 0.3."""
    pad = (_WINDOW - _HOP) // 2
    x = F.pad(x, (pad, pad), mode="reflect")
    spectrum = torch.stft(
        x, _WINDOW, _HOP, window=torch.hann_window(_WINDOW), center=False, return_complex=True
    )
    parts = torch.view_as_real(spectrum)
    magnitude = parts.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)
    return (magnitude**0.3 * parts / magnitude).permute(0, 3, 1, 2)


class _Pooled(nn.Module):
    """Transformer over frames, then attention pooling to one number in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_input = nn.BatchNorm1d(_FEATURES)
        self.transformer = _Transformer()
        self.norm_trans = nn.BatchNorm1d(_WIDTH)
        self.pool = _AttentionPool()

    def forward(self, features: Float[Tensor, "b frames features"]) -> Float[Tensor, "b"]:
        x = self.transformer(_per_channel(self.norm_input, features))
        return torch.sigmoid(self.pool(_per_channel(self.norm_trans, x)))


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(_FEATURES)
        self.position_encoding = nn.Module()
        self.position_encoding.register_buffer("pe", torch.zeros(1, _FRAMES, _WIDTH))
        self.linear_proj = nn.Linear(_FEATURES, _WIDTH)
        layer = nn.TransformerEncoderLayer(_WIDTH, _HEADS, 2 * _WIDTH, dropout=0.0, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)

    def forward(self, x: Float[Tensor, "b frames features"]) -> Float[Tensor, "b frames width"]:
        x = self.linear_proj(_per_channel(self.norm, x)) + self.position_encoding.get_buffer("pe")
        return self.transformer_encoder(x)


class _AttentionPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(_WIDTH, 2 * _WIDTH)
        self.linear2 = nn.Linear(2 * _WIDTH, 1)
        self.linear3 = nn.Linear(_WIDTH, 1)

    def forward(self, x: Float[Tensor, "b frames width"]) -> Float[Tensor, "b"]:
        attention = torch.softmax(self.linear2(torch.relu(self.linear1(x))), dim=1)
        return self.linear3((attention * x).sum(1)).squeeze(-1)


def _per_channel(norm: nn.BatchNorm1d, x: Float[Tensor, "b frames c"]) -> Float[Tensor, "b frames c"]:
    return norm(x.transpose(1, 2)).transpose(1, 2)
