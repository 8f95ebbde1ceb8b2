"""The quickstart data at other sizes and rates."""

import numpy as np

from trimask.datasets.quickstart import load_images, load_speech
from trimask.media.encoded import pixels_at, waveform_at
from trimask.media.recording import resample


def test_what_fits_is_left_alone() -> None:
    image, utterance = load_images("validation")[0], load_speech("validation")[0]
    assert np.array_equal(pixels_at(image, 64), image.pixels())
    assert np.array_equal(waveform_at(utterance, utterance.sample_rate), utterance.waveform())


def test_pictures_are_resized() -> None:
    image = load_images("validation")[0]
    large = pixels_at(image, 128)
    assert large.shape == (128, 128, 3) and large.dtype == np.uint8
    means = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(means - image.pixels()).mean() < 8


def test_audio_is_resampled() -> None:
    utterance = load_speech("validation")[0]
    assert len(waveform_at(utterance, 24_000)) == round(utterance.num_samples * 1.5)
    tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32)
    made = resample(tone, 16_000, 24_000)
    ideal = np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000)
    assert made.dtype == np.float32 and np.abs(made - ideal)[100:-100].max() < 1e-3
