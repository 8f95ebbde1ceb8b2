"""Each judge applied to real data, to shuffled pairs and to noise: one that cannot rank these is no judge."""

from pathlib import Path

import numpy as np
import pytest

from trimask.datasets.quickstart import CaptionedImage, Utterance, load_images, load_speech, load_text
from trimask.evaluation.distances import frechet, kernel
from trimask.evaluation.judges.images import ImageJudge
from trimask.evaluation.judges.panel import Panel
from trimask.evaluation.retrieval import fit_linear_map, retrieval
from trimask.evaluation.speech import word_error_rate
from trimask.evaluation.text import derangement

# Other people's libraries warn of themselves.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
_RATE = 16_000


@pytest.fixture(scope="module")
def panel(judges_folder: Path) -> Panel:
    panel = Panel.parse([str(judges_folder)])
    assert panel.list_left_out() == []
    return panel


@pytest.fixture(scope="module")
def rows() -> list[Utterance]:
    return sentences_of_each_voice(10)


def sentences_of_each_voice(count: int) -> list[Utterance]:
    spoken = [row for row in load_speech("validation") if row.kind == "sentence"]
    return [row for voice in ("slt", "rms") for row in [r for r in spoken if r.voice == voice][:count]]


@pytest.fixture(scope="module")
def noise(rows: list[Utterance]) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [(0.1 * draw.standard_normal(row.num_samples)).astype(np.float32) for row in rows]


def test_recognizer(panel: Panel, noise: list[np.ndarray]) -> None:
    assert panel.recognizer is not None
    rows = sentences_of_each_voice(20)  # of half as many an interval would not tell much
    texts = [row.text for row in rows]
    heard = panel.recognizer.transcribe([row.waveform() for row in rows], _RATE)
    real = word_error_rate(texts, heard)
    shuffled = word_error_rate(texts, heard[1:] + heard[:1])
    static = word_error_rate(texts[: len(noise)], panel.recognizer.transcribe(noise, _RATE))
    assert real.high < 0.35 < shuffled.low and static.low > 0.8


def test_speaker(panel: Panel, rows: list[Utterance], noise: list[np.ndarray]) -> None:
    assert panel.speaker is not None
    clips = panel.speaker.vectors([row.waveform() for row in rows], _RATE)
    cosines = clips @ clips.T
    same = np.array([[a.voice == b.voice for b in rows] for a in rows])
    apart = ~np.eye(len(rows), dtype=bool)
    assert cosines[same & apart].min() > cosines[~same].max(), (
        "every pair of one voice above every other pair"
    )
    assert (clips @ panel.speaker.vectors(noise, _RATE).T).max() < cosines[same & apart].min()


def test_quality(panel: Panel, rows: list[Utterance], noise: list[np.ndarray]) -> None:
    assert panel.quality is not None
    draw = np.random.default_rng(1)
    clips = [row.waveform() for row in rows]
    hissing = [(c + 0.05 * draw.standard_normal(len(c))).astype(np.float32) for c in clips]
    real, hiss, static = (panel.quality.scores(x, _RATE).mean() for x in (clips, hissing, noise))
    assert real > hiss + 0.2 and real > static + 0.2


def test_distillmos_says_what_its_own_package_says(panel: Panel, rows: list[Utterance]) -> None:
    # distillmos 0.9.1 itself, on these two clips: 2.6116 and 2.1217.
    assert panel.quality is not None
    found = panel.quality.scores([row.waveform() for row in rows[:2]], _RATE)
    np.testing.assert_allclose(found, [2.6116, 2.1217], atol=2e-3)


def _pictures(rows: list[CaptionedImage]) -> np.ndarray:
    return np.stack([row.pixels() for row in rows])


def test_image_features(panel: Panel) -> None:
    assert panel.images is not None and panel.images.name == "EffLite0"
    rows = [row for row in load_images("validation") if row.hexcode == row.base]
    real = panel.images.features(_pictures(rows[:80]))
    half, other = real[::2], real[1::2]
    static = panel.images.features(np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"40 and 40 examples: .* at least 2562 of each"):
        frechet(half, other)
    few = np.random.default_rng(1).standard_normal((real.shape[1], 8)) / np.sqrt(real.shape[1])
    assert frechet(half @ few, other @ few).high < frechet(static @ few, other @ few).low
    assert kernel(half, other).high < kernel(static, other).low


def test_caption_agreement(panel: Panel) -> None:
    assert isinstance(panel.images, ImageJudge) and panel.sentences is not None
    training = [row for row in load_images("train") if row.hexcode == row.base][::4][:160]
    held_out = [row for row in load_images("validation") if row.hexcode == row.base][::3]
    n = len(held_out)
    fitted = fit_linear_map(
        panel.images.features(_pictures(training)), panel.sentences.vectors([r.caption for r in training])
    )
    predicted = fitted(panel.images.features(_pictures(held_out)))
    gallery = panel.sentences.vectors([row.caption for row in held_out])
    own, shuffled = (retrieval(predicted, gallery, order) for order in (range(n), derangement(n, 0)))
    # Of 39 captions, 38 % are among the 5 nearest (chance: 13 %).
    assert own.top5.low > 5 / n and own.rank_fraction.high < 0.5
    assert shuffled.top5.low < 5 / n < shuffled.top5.high
    static = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    blind = retrieval(np.resize(fitted(panel.images.features(static)), predicted.shape), gallery, range(n))
    assert blind.top5.low < 5 / n < blind.top5.high


def test_sentences(panel: Panel) -> None:
    assert panel.sentences is not None
    v = panel.sentences.vectors(["a red apple", "a crimson apple", "the parliament votes"])
    assert v[0] @ v[1] > 0.6 and v[0] @ v[2] < 0.3


def test_language_model(panel: Panel) -> None:
    assert panel.language_model is not None
    model = panel.language_model.load()
    draw = np.random.default_rng(0)
    texts = [" ".join(row.text.split()[:120]) for row in load_text("validation")[:3]]
    scrambled = [" ".join(draw.permutation(text.split()).tolist()) for text in texts]
    (real, tokens), (shuffled, _) = model.perplexity(texts), model.perplexity(scrambled)
    assert tokens.min() > 100 and 5 * real.value < shuffled.value
    assert real.value < 120
    paris, london = (model.nats("The capital of France is", city)[0] for city in (" Paris", " London"))
    assert paris < 1 < london
