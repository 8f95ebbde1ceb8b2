"""Pitch, envelope and vocoder on signals whose truth is known."""

import math

import pytest
import torch

from trimask.tokenizers.speech.features import REFERENCE_PITCH, SpeechFeatures, SpeechFeaturesConfig
from trimask.tokenizers.speech.vocoder import Vocoder, VocoderConfig, pulses

FEATURES = SpeechFeatures(SpeechFeaturesConfig())
RATE = FEATURES.config.sample_rate


def harmonic_tone(pitch: float, seconds: float = 0.5) -> torch.Tensor:
    """Harmonics falling as 1/k, in phases that make no tidy peak."""
    time = torch.arange(int(seconds * RATE)) / RATE
    harmonics = range(1, int(7000 / pitch) + 1)
    return 0.1 * torch.stack([torch.cos(2 * math.pi * pitch * k * time + k * k) / k for k in harmonics]).sum(
        0
    )


@pytest.mark.parametrize("pitch", [75.0, 110.0, 170.0, 240.0, 330.0])
def test_pitch_of_a_harmonic_tone(pitch: float):
    measured, is_voiced = FEATURES.pitch(harmonic_tone(pitch)[None])
    inside = measured[0, 5:-5]
    assert bool(is_voiced[0, 5:-5].all())
    assert float((inside / pitch - 1).abs().max()) < 0.03


def test_noise_and_silence_have_no_pitch():
    noise = 0.1 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))
    assert float(FEATURES.pitch(noise)[1].float().mean()) < 0.1
    silence = FEATURES(torch.zeros(1, 1000))
    assert bool(silence.isfinite().all())
    assert not bool(silence[..., -1].any())


def test_envelope_does_not_depend_on_the_pitch():
    low, high = (FEATURES(harmonic_tone(pitch)[None])[0, 10:-10, 4:40] for pitch in (100.0, 200.0))
    # Same spectral slope; the higher tone has half the harmonics, each as loud for its number: slopes agree,
    # ripples don't show.
    slopes = [x.mean(0) - x.mean() for x in (low, high)]
    assert float((slopes[0] - slopes[1]).abs().mean()) < 0.15


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 4000])
def test_frames_cover_the_waveform(samples: int):
    assert FEATURES(torch.zeros(2, samples)).shape == (2, -(-samples // 160), FEATURES.num_features)


def test_each_waveform_is_measured_alone():
    pair = torch.stack([harmonic_tone(120.0), harmonic_tone(210.0)])
    together = FEATURES(pair)
    alone = torch.cat([FEATURES(one[None]) for one in pair])
    torch.testing.assert_close(together, alone)


def test_pulses_have_unit_power_and_the_given_pitch():
    train = pulses(torch.full((1, 100), 125.0), FEATURES.config)
    assert float(train.square().mean()) == pytest.approx(1.0, abs=0.05)
    spectrum = torch.fft.rfft(train[0]).abs()
    assert int(spectrum[1:].argmax() + 1) % 125 == 0


def test_untrained_vocoder_gives_the_features_back():
    vocoder = Vocoder(VocoderConfig(width=16, depth=1), FEATURES.config)
    features = torch.full((1, 60, FEATURES.num_features), -3.0)
    features[..., -2] = math.log2(160.0 / REFERENCE_PITCH)
    features[..., -1] = 1.0
    with torch.no_grad():
        made = vocoder(features)
        assert made.shape == (1, 60 * 160)
        measured = FEATURES(made)[0, 5:-5]
    pitch = REFERENCE_PITCH * torch.exp2(measured[:, -2])
    assert float((pitch / 160.0 - 1).abs().max()) < 0.03
    assert float((measured[:, 2:-4] + 3.0).abs().mean()) < 0.5


def test_a_prefix_of_the_features_gives_a_prefix_of_the_waveform():
    vocoder = Vocoder(VocoderConfig(width=16, depth=1), FEATURES.config)
    features = torch.full((1, 40, FEATURES.num_features), -3.0)
    features[..., -2:] = 0.0
    with torch.no_grad():
        whole, part = vocoder(features), vocoder(features[:, :20])
    torch.testing.assert_close(whole[:, : 15 * 160], part[:, : 15 * 160], atol=1e-5, rtol=1e-4)
