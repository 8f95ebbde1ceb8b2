"""The small networks that are built here for other people's weights: names, shapes, and what must hold of any
weights. That the weights fit and say what they should is tested in test_validated.py.
"""

import math

import numpy as np
import pytest
import torch

from trimask.evaluation.judges.images import EfficientNetLite0, _same, _standardize
from trimask.evaluation.judges.quality import DistillMos, QualityJudge
from trimask.evaluation.judges.speaker import (
    SpeakerJudge,
    VoiceEncoder,
    _part_starts,
    _slaney_bands,
    mel_power,
)


def test_efficientnet_lite0_has_the_published_shape() -> None:
    network = EfficientNetLite0().eval()
    state = network.state_dict()
    assert len(state) == 296  # of the weights file
    # Tan & Le's lite variant: 4.65M parameters, of which 1.28M in the classifier.
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    assert state["_blocks.3._depthwise_conv.weight"].shape == (144, 1, 5, 5)
    assert state["_blocks.15._project_conv.weight"].shape == (320, 1152, 1, 1)
    with torch.inference_mode():
        pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        images = _standardize(pixels)
        assert images.shape == (2, 3, 224, 224)
        assert network(images).shape == (2, 1280) and network.classes(images).shape == (2, 1000)


def test_same_padding_puts_the_odd_pixel_last() -> None:
    conv = torch.nn.Conv2d(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(conv.weight)
    # A row of 4 under stride 2: windows start at 0 and 2, the last one reaches over the end.
    found = _same(conv, torch.ones(1, 1, 4, 4))
    assert found[0, 0].tolist() == [[9.0, 6.0], [6.0, 4.0]]


def test_voice_encoder_has_the_published_shape() -> None:
    network = VoiceEncoder().eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_423_616
    vector = network.embed(np.ones(4000, dtype=np.float32))
    assert vector.shape == (256,) and np.isfinite(vector).all()


def test_mel_bands_are_slaneys() -> None:
    bands = _slaney_bands().double()
    assert bands.shape == (201, 40)
    # Bands that are wide against the 40 Hz of a bin have unit area.
    np.testing.assert_allclose((bands.sum(0) * 40).numpy()[20:], 1, atol=0.05)
    # 40 bands to 8 kHz: mel 45.245 in 41 steps; the first triangle peaks at 1.1035 mel, 73.6 Hz.
    assert int(bands[:, 0].argmax()) == round(45.2455 / 41 * 200 / 3 / 40)
    top = 1000 * math.exp((45.2455 * 40 / 41 - 15) * math.log(6.4) / 27)
    assert int(bands[:, -1].argmax()) == round(top / 40)


def test_mel_power_of_a_tone_lies_in_its_band() -> None:
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(16_000) / 16_000)
    mel = mel_power(tone)
    assert mel.shape == (101, 40)
    assert int(mel.mean(0).argmax()) == int(_slaney_bands()[25].argmax())


@pytest.mark.parametrize(
    ("num_samples", "starts"), [(8_000, [0]), (25_600, [0]), (33_000, [0, 77]), (60_000, [0, 77, 154, 231])]
)
def test_parts_of_an_utterance(num_samples: int, starts: list[int]) -> None:
    assert _part_starts(num_samples) == starts


def test_distillmos_scores_lie_between_one_and_five() -> None:
    network = DistillMos().eval()
    assert len(network.state_dict()) == 120  # of the weights file
    clip = np.sin(np.arange(4000) / 20).astype(np.float32)
    assert 1 < network.score(clip) < 5
    # The level does not count.
    assert network.score(0.1 * clip) == pytest.approx(network.score(clip), abs=1e-4)


def test_other_rates_are_refused() -> None:
    for judge in (SpeakerJudge(source="x").vectors, QualityJudge(source="x").scores):
        with pytest.raises(ValueError, match="24000"):
            judge([], 24_000)
