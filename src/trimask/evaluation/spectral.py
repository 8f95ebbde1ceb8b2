"""Mel-cepstral distance: how similar two readings of one text sound, without a network."""

import math
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from trimask.tokenizers.speech.features import mel_filters

MEASURE = (
    "mel-cepstral distance in dB over 13 coefficients (without the 0th, so loudness does not count), "
    "frames of 25 ms every 10 ms, aligned by dynamic time warping, mean over the path"
)
NUM_COEFFICIENTS = 13
_NUM_BANDS = 40
_FLOOR = 1e-4  # relative to the clip's loudest band: anything below counts as silence
_TO_DECIBEL = 10 * math.sqrt(2) / math.log(10)


def mel_cepstral_distance(
    a: Float32[np.ndarray, "samples_a"], b: Float32[np.ndarray, "samples_b"], sample_rate: int
) -> float:
    """Compute (10 √2 / ln 10) · mean over the path of ‖c_i - c'_j‖, in dB [L: Kubichek 1993]; see `MEASURE`.

    A clip without samples counts as a frame of silence.
    """
    distances = np.sqrt(
        ((cepstrum(a, sample_rate)[:, None] - cepstrum(b, sample_rate)[None]) ** 2).sum(-1, dtype=np.float64)
    )
    total, length = warp(distances)
    return _TO_DECIBEL * total / length


def cepstrum(
    waveform: Float32[np.ndarray, "samples"], sample_rate: int
) -> Float[np.ndarray, "frames coefficients"]:
    """Compute mel cepstra 1 … 13 of 40 log mel amplitudes: ln|X_b| = c_0 + Σ c_k cos(π k (b + ½)/40)."""
    window, hop = round(0.025 * sample_rate), round(0.010 * sample_rate)
    samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
    samples = torch.nn.functional.pad(samples, (0, max(window - len(samples), 0)))
    frames = samples.unfold(0, window, hop) * torch.hann_window(window)
    power = torch.fft.rfft(frames).abs().square()
    mel = (power @ _bands(power.shape[-1], sample_rate)).sqrt()
    log_mel = mel.clamp(min=max(float(mel.max()) * _FLOOR, 1e-9)).log()
    return (log_mel @ _cosines().T).numpy()


def warp(distances: Float[np.ndarray, "n m"]) -> tuple[float, int]:
    """Find the cheapest path from the first to the last cell, by steps (1, 0), (0, 1) and (1, 1).

    Return its sum and number of cells; ties prefer diagonal steps. The cells of one anti-diagonal do not
    depend on each other, and are computed together.
    """
    n, m = distances.shape
    cost = np.full((n + 1, m + 1), np.inf)
    length = np.zeros((n + 1, m + 1), dtype=np.int64)
    cost[0, 0] = 0.0
    for diagonal in range(2, n + m + 1):
        i = np.arange(max(1, diagonal - m), min(n, diagonal - 1) + 1)
        j = diagonal - i
        steps = np.stack([cost[i - 1, j - 1], cost[i - 1, j], cost[i, j - 1]])
        best = steps.argmin(0)
        cost[i, j] = steps[best, np.arange(len(i))] + distances[i - 1, j - 1]
        before = np.stack([length[i - 1, j - 1], length[i - 1, j], length[i, j - 1]])
        length[i, j] = before[best, np.arange(len(i))] + 1
    return float(cost[n, m]), int(length[n, m])


@cache
def _bands(num_bins: int, sample_rate: int) -> Tensor:
    return mel_filters(_NUM_BANDS, num_bins, sample_rate)


@cache
def _cosines() -> Float[Tensor, "coefficients bands"]:
    k = torch.arange(1, NUM_COEFFICIENTS + 1)[:, None]
    band = torch.arange(_NUM_BANDS)[None] + 0.5
    # With this scale, the distance is the root mean square difference of the log spectra over bands, in dB.
    return (2 * torch.cos(math.pi * k * band / _NUM_BANDS) / _NUM_BANDS).float()
