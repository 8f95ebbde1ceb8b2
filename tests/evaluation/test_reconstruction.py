"""Round trips: PSNR and SSIM against slow twins, the use of codes against counting, a codec that loses
nothing, and one that loses all.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import final

import numpy as np
import pytest
from torch import Tensor

from trimask.evaluation.judges.panel import Panel
from trimask.evaluation.reconstruction import (
    Clips,
    codebook_use,
    image_figures,
    speech_figures,
    structural_similarity,
)


@final
@dataclass(frozen=True, kw_only=True)
class Levels:
    """An image and speech codec that keeps `levels` values of each pixel or sample."""

    levels: int
    image_size: int = 16
    grid: tuple[int, int] = (16, 16)
    num_codebooks: int = 3
    sample_rate: int = 16_000
    frame_rate: float = 16_000.0

    @property
    def codebook_size(self) -> int:
        return self.levels

    def encode(self, signal: Tensor) -> Tensor:
        codes = ((signal + 1) / 2 * (self.levels - 1)).round().long()
        return codes.permute(0, 2, 3, 1).flatten(1, 2) if signal.ndim == 4 else codes[:, None]

    def decode(self, codes: Tensor) -> Tensor:
        values = codes.float() / (self.levels - 1) * 2 - 1
        return values.unflatten(1, self.grid).permute(0, 3, 1, 2) if codes.ndim == 3 else values[:, 0]


def pictures(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def test_a_codec_that_keeps_all_is_at_the_ceiling():
    figures = image_figures(Levels(levels=256), pictures())
    assert figures["psnr"]["value"] == pytest.approx(100)  # the error is held above 1e-10
    assert figures["ssim"]["value"] == pytest.approx(1)
    assert figures["codes_per_image"] == 768 and figures["bits_per_image"] == 768 * 8
    assert figures["psnr_floor"]["value"] < 15 and figures["ssim_floor"]["value"] < 0.2


def test_psnr_against_a_loop():
    images, codec = pictures(), Levels(levels=4)
    figures = image_figures(codec, images)
    expected = []
    for image in images:
        kept = np.round(image / 255 * 3) / 3
        error = ((np.round(kept * 255) - image) / 255) ** 2
        expected.append(-10 * math.log10(error.mean()))
    assert figures["psnr"]["value"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert figures["psnr"]["n"] == 3


def test_structural_similarity_against_its_definition_at_each_place():
    a, b = pictures(2), np.roll(pictures(2), 1, axis=2)
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    for image, other, found in zip(a / 255, b / 255, structural_similarity(a, b), strict=True):
        values = []
        for channel in range(3):
            for y in range(6):
                for x in range(6):
                    p = image[y : y + 11, x : x + 11, channel]
                    q = other[y : y + 11, x : x + 11, channel]
                    mp, mq = (window * p).sum(), (window * q).sum()
                    vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                    cov = (window * (p - mp) * (q - mq)).sum()
                    top = (2 * mp * mq + 0.01**2) * (2 * cov + 0.03**2)
                    values.append(top / ((mp**2 + mq**2 + 0.01**2) * (vp + vq + 0.03**2)))
        assert found == pytest.approx(np.mean(values), abs=1e-4)


def test_the_use_of_codes_is_counted():
    codes = np.array([[0, 5], [0, 5], [0, 5], [1, 5], [2, 6], [2, 7]])
    first, second = codebook_use(codes, codebook_size=8)
    assert (first["used"], first["dead"]) == (3, 5) and (second["used"], second["dead"]) == (3, 5)

    def perplexity(values: list[int]) -> float:
        shares = [n / len(values) for n in Counter(values).values()]
        return math.exp(-sum(p * math.log(p) for p in shares))

    assert first["perplexity"] == pytest.approx(perplexity([0, 0, 0, 1, 2, 2]))
    assert first["perplexity_inked"] == pytest.approx(perplexity([1, 2, 2]))
    assert second["perplexity_inked"] == pytest.approx(perplexity([5, 6, 7]))


def test_speech_stands_between_noise_and_itself():
    time = np.arange(8000) / 16_000
    waveforms = [
        (0.5 * np.sin(2 * np.pi * f * time * (1 + time))).astype(np.float32) for f in (200, 300, 450)
    ]
    clips = Clips(waveforms=waveforms, sample_rate=16_000, texts=["", "", ""])
    fine, coarse = (
        speech_figures(Levels(levels=n, num_codebooks=1), clips, judges=Panel(), resample=lambda x, a, b: x)
        for n in (65536, 8)
    )
    spectral = fine["mel_cepstral_distance"]
    assert spectral["round_trip"]["value"] < 1 < coarse["mel_cepstral_distance"]["round_trip"]["value"]
    assert coarse["mel_cepstral_distance"]["round_trip"]["value"] < spectral["noise"]["value"]
    assert coarse["bits_per_second"] == 48_000 and coarse["seconds"] == 1.5
    assert "word_error_rate" not in fine and "quality" not in fine
