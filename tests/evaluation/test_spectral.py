"""Mel-cepstral distance: a known difference in dB, the alignment against a slow twin, and what it ranks."""

import math

import numpy as np
import pytest
import torch

from trimask.datasets.quickstart import load_speech
from trimask.evaluation import spectral
from trimask.evaluation.spectral import cepstrum, mel_cepstral_distance, warp


def _slow(distances: np.ndarray) -> float:
    cost = np.full(distances.shape, np.inf)
    for i in range(distances.shape[0]):
        for j in range(distances.shape[1]):
            before = [0.0] if i == j == 0 else []
            before += [cost[i - a, j - b] for a, b in ((1, 0), (0, 1), (1, 1)) if i >= a and j >= b]
            cost[i, j] = distances[i, j] + min(before)
    return float(cost[-1, -1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 1), (7, 9), (12, 4)])
def test_alignment_is_the_cheapest(shape: tuple[int, int]) -> None:
    distances = np.random.default_rng(0).random(shape)
    total, length = warp(distances)
    assert total == pytest.approx(_slow(distances))
    assert max(shape) <= length <= sum(shape) - 1


def test_stretched_speech_is_no_distance_away() -> None:
    frames = np.random.default_rng(0).random((5, 3))
    distances = np.linalg.norm(frames[:, None] - np.repeat(frames, 3, 0)[None], axis=-1)
    assert warp(distances) == (0.0, 15)


def test_a_ripple_of_the_log_spectrum_is_its_root_mean_square_in_decibels() -> None:
    band = torch.arange(40) + 0.5
    ripple = 0.7 * torch.cos(math.pi * 3 * band / 40)
    coefficients = (ripple @ spectral._cosines().T).double().numpy()
    decibels = 20 / math.log(10) * float(ripple.square().mean().sqrt())
    assert spectral._TO_DECIBEL * np.linalg.norm(coefficients) == pytest.approx(decibels, rel=1e-5)


def test_loudness_does_not_count_and_silence_is_finite() -> None:
    clip = load_speech("validation")[0].waveform()
    assert mel_cepstral_distance(clip, 0.5 * clip, 16_000) < 0.01
    assert mel_cepstral_distance(clip, clip, 16_000) == 0
    assert math.isfinite(mel_cepstral_distance(clip, np.zeros(0, dtype=np.float32), 16_000))
    assert cepstrum(clip, 16_000).shape == ((len(clip) - 400) // 160 + 1, spectral.NUM_COEFFICIENTS)


def test_it_ranks_real_speech_as_it_must() -> None:
    clips = [row.waveform() for row in load_speech("validation") if row.voice == "slt"][:4]
    draw = np.random.default_rng(0)
    for own, other in zip(clips, clips[1:] + clips[:1], strict=True):
        hiss = (own + 0.002 * draw.standard_normal(len(own))).astype(np.float32)
        noise = (0.1 * draw.standard_normal(len(own))).astype(np.float32)
        near, far, farthest = (mel_cepstral_distance(own, clip, 16_000) for clip in (hiss, other, noise))
        assert near < far < farthest
