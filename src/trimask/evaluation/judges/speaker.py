"""Speaker vectors of clips: clips of the same speaker have a high cosine."""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from trimask.errors import UserError
from trimask.evaluation.judges.hub import check_hub, import_transformers
from trimask.evaluation.judges.pinned import check
from trimask.evaluation.judges.weights import load_pinned, pinned_name

_RATE, _WINDOW, _HOP, _BANDS = 16_000, 400, 160, 40
_FRAMES = 160  # of a part of an utterance: 1.6 s
_STEP = 77  # frames from one part to the next: 1.3 parts per second
_COVERAGE = 0.75
_LOUDNESS = 10 ** (-30 / 20)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SpeakerJudge:
    """A frozen speaker encoder.

    `source` is the folder of the pinned Resemblyzer weights, or a name or folder of an x-vector model for
    transformers.
    """

    source: str

    @property
    def name(self) -> str:
        return "Resemblyzer" if pinned_name(self.source) == "resemblyzer" else Path(self.source).name

    def check(self) -> None:
        """Check, without loading weights, that the model is available. Raises as `vectors`."""
        if pinned_name(self.source) == "resemblyzer":
            check(Path(self.source), "resemblyzer")
        else:
            check_hub("speaker", self.source)

    def vectors(self, clips: list[Float32[np.ndarray, "_"]], sample_rate: int) -> Float[np.ndarray, "n d"]:
        """Compute a unit vector per clip (mono, 16 kHz); one without samples counts as a second of silence.

        Raises:
            UserError: another sample rate. ImportError: a hub model without transformers.
        """
        if sample_rate != _RATE:
            raise UserError(f"sample_rate={sample_rate}: the judge needs {_RATE} Hz, resample first")
        audible = [clip if len(clip) else np.zeros(_RATE, dtype=np.float32) for clip in clips]
        if pinned_name(self.source) == "resemblyzer":
            encoder = VoiceEncoder.load(Path(self.source))
            found = [encoder.embed(clip) for clip in audible]
        else:
            embed = _hub_encoder(self.source)
            found = [embed(clip) for clip in audible]
        stacked = np.stack(found).astype(np.float64)
        return stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-12)


@final
class VoiceEncoder(nn.Module):
    """Resemblyzer's network [L: Wan et al. 2018, GE2E]: three LSTM layers over 40 mel bands, a linear layer,
    ReLU, unit norm. Parameter names are those of the weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_BANDS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Float[Tensor, "b frames bands"]) -> Float[Tensor, "b 256"]:
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)

    @torch.inference_mode()
    def embed(self, waveform: Float32[np.ndarray, "samples"]) -> Float[np.ndarray, "256"]:
        """Average the vectors of overlapping parts of 1.6 s.

        Quiet clips are amplified to -30 dBFS, as in training. Pauses are kept: unlike the original, there is
        no voice activity detection.
        """
        samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
        power = float(samples.square().mean().sqrt())
        samples = samples * max(_LOUDNESS / max(power, 1e-7), 1.0)
        starts = _part_starts(len(samples))
        missing = (starts[-1] + _FRAMES) * _HOP - len(samples)
        mel = mel_power(nn.functional.pad(samples, (0, max(missing, 0))))
        parts = self(torch.stack([mel[start : start + _FRAMES] for start in starts]))
        return parts.mean(0).numpy()

    @classmethod
    def load(cls, folder: Path) -> "VoiceEncoder":
        """Load the pinned weights in `folder`."""
        stored = load_pinned(folder, "resemblyzer")["model_state"]
        encoder = cls()
        # The two `similarity_` parameters only scale the training loss.
        encoder.load_state_dict({k: v for k, v in stored.items() if not k.startswith("similarity_")})
        return encoder.eval()


def mel_power(samples: Float[Tensor, "samples"]) -> Float[Tensor, "frames bands"]:
    """Compute librosa's default melspectrogram: power, centred frames padded with zeros, Slaney's mel scale,
    triangles of unit area.
    """
    spectrum = torch.stft(
        samples,
        _WINDOW,
        _HOP,
        window=torch.hann_window(_WINDOW),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return spectrum.abs().square().T @ _slaney_bands()


@cache
def _slaney_bands() -> Float[Tensor, "bins bands"]:
    frequencies = torch.linspace(0, _RATE / 2, _WINDOW // 2 + 1, dtype=torch.float64)
    mels = torch.linspace(0, _to_mel(_RATE / 2), _BANDS + 2, dtype=torch.float64)
    edges = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * math.log(6.4) / 27))
    rise = (frequencies[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[None, 2:] - frequencies[:, None]) / (edges[2:] - edges[1:-1])
    return (torch.minimum(rise, fall).clamp(min=0) * 2 / (edges[2:] - edges[:-2])).float()


def _to_mel(frequency: float) -> float:
    """Convert Hz to Slaney's mel scale: linear up to 1 kHz, logarithmic above."""
    return 15 + 27 * math.log(frequency / 1000) / math.log(6.4) if frequency >= 1000 else frequency * 3 / 200


def _part_starts(num_samples: int) -> list[int]:
    """Return the first frame of each part; the last part is left out if the clip covers too little of it."""
    num_frames = math.ceil((num_samples + 1) / _HOP)
    starts = list(range(0, max(1, num_frames - _FRAMES + _STEP + 1), _STEP))
    coverage = (num_samples - starts[-1] * _HOP) / (_FRAMES * _HOP)
    return starts[:-1] if coverage < _COVERAGE and len(starts) > 1 else starts


def _hub_encoder(source: str) -> Any:
    transformers = import_transformers("speaker")
    network = transformers.AutoModelForAudioXVector.from_pretrained(source).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(source)

    @torch.inference_mode()
    def embed(clip: np.ndarray) -> np.ndarray:
        inputs = extractor(clip, sampling_rate=_RATE, return_tensors="pt")
        return network(**inputs).embeddings[0].float().numpy()

    return embed
