"""The scorecard end to end on a tiny model, and its bounds: a broken model fails them, one that knows the
answers meets them.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from in_memory import InMemory
from trimask import io
from trimask.data.choice import choose
from trimask.data.selection import QuickstartData
from trimask.datasets.quickstart import CaptionedImage, Utterance, load_images, load_speech
from trimask.evaluation.judges import recognizer
from trimask.evaluation.judges.images import ImageJudge
from trimask.evaluation.judges.language_model import LanguageJudge, LoadedLanguageModel
from trimask.evaluation.judges.panel import Panel
from trimask.evaluation.judges.quality import QualityJudge
from trimask.evaluation.judges.sentences import SentenceJudge
from trimask.evaluation.judges.speaker import SpeakerJudge
from trimask.generation.generate import Generator
from trimask.generation.generated import Generated
from trimask.model.denoiser import Denoiser
from trimask.recipes.quickstart import debug
from trimask.runs import embedded as tokens
from trimask.runs.build import build_denoiser, build_vocabulary
from trimask.sampling.predictor import DenoiserPredictor
from trimask.scorecard.claims import check_claims
from trimask.scorecard.examples_quickstart import QuickstartExamples
from trimask.scorecard.images import Pictures, Reference, measure_set_distances, pixels_of
from trimask.scorecard.score import score
from trimask.scorecard.suite import QUICK, Suite
from trimask.scorecard.tables import scorecard_blocks
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.batch import Batch

pytestmark = pytest.mark.usefixtures("few_speeches", "few_sampling_steps")

_DATA = QuickstartData(num_concepts=16, has_variants=False, num_sentences=6, voices=("slt",), text_window=24)


@pytest.fixture(scope="module")
def tokenizers() -> Tokenizers:
    return Tokenizers.load()


def _generator(tokenizers: Tokenizers, kind: type[Generator] = Generator) -> Generator:
    denoiser = build_denoiser(debug(), build_vocabulary(debug(), tokenizers)).eval()
    return kind(denoiser, text=tokenizers.text, image=tokenizers.image, speech=tokenizers.speech)


class _OracleDenoiser(Denoiser):
    """Sure of what it was shown: 0.1 nats a token when the condition belongs to the targets, 9 otherwise."""

    def cross_entropy(
        self, tokens: Int[Tensor, "rows slots"], batch: Batch, is_predicted: Bool[Tensor, "rows slots"]
    ) -> Float[Tensor, "predicted"]:
        rows = is_predicted.nonzero()[:, 0]
        is_known = torch.tensor([self._knows(tokens[i], batch, i) for i in range(len(tokens))])
        return torch.where(is_known[rows], 0.1, 9.0)

    def _knows(self, z: Int[Tensor, "slots"], batch: Batch, row: int) -> bool:
        condition = batch.is_condition[row]
        if not condition.any():
            return True
        if not torch.equal(z[condition], batch.tokens[row][condition]):
            return False
        # Remembers the first conditions that it meets with their targets: the right ones are asked for first.
        key, value = _hash(batch.tokens[row][condition]), _hash(batch.tokens[row][batch.maskable[row]])
        return self.memory.setdefault(value, key) == key

    @property
    def memory(self) -> dict[int, int]:
        return self.__dict__.setdefault("_memory", {})


def _hash(tokens: Int[Tensor, "n"]) -> int:
    return hash(tuple(tokens.tolist()))


class _OracleGenerator(Generator):  # pyright: ignore[reportGeneralTypeIssues]  (final: a stand-in alone derives)
    """Answers from the data."""

    def generate_many(self, task: Any, prompt: Any = None, **options: Any) -> list[Generated]:
        none = np.zeros(0, dtype=np.int64)
        if task == "text":
            passage = "the people of the united states and the congress of our country"
            return [Generated(task=task, text=passage, tokens=none)] * options["num_samples"]
        if task == "text_to_image":
            images = {row.caption: row for row in load_images()}
            return [
                Generated(task=task, image=Image.fromarray(images[caption].pixels()), tokens=none)
                for caption in prompt
            ]
        if task == "image_to_text":
            captions = {row.pixels().tobytes(): row.caption for row in _rows()}
            texts = [captions[np.asarray(image).tobytes()] for image in options["image"]]
            return [Generated(task=task, text=text, tokens=none) for text in texts]
        spoken = {row.text: row for row in _utterances()}
        if task == "text_to_speech":
            return [
                Generated(task=task, waveform=spoken[text].waveform(), sample_rate=16_000, tokens=none)
                for text in prompt
            ]
        heard = {row.waveform().tobytes(): row.text for row in spoken.values()}
        return [Generated(task=task, text=heard[clip.tobytes()], tokens=none) for clip in options["speech"]]


def _rows() -> list[CaptionedImage]:
    return [row for split in ("train", "validation") for row in tokens.pictures(split, _DATA)]


def _utterances() -> list[Utterance]:
    return [
        row
        for split in ("train", "validation")
        for row in tokens.select_speech(load_speech(split), _DATA, set())
    ]


def _few(num_sequences: int) -> Suite:
    return replace(
        QUICK,
        num_sequences=num_sequences,
        num_clips=num_sequences,
        num_masks=2,
        num_passages=4,
        num_choices=8,
    )


def _play_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges without weights: what they are asked, and where their answers go, is what is tested."""

    def loudness(self: Any, clips: list[np.ndarray], rate: int) -> np.ndarray:
        return np.array([1 + float(np.abs(clip).mean()) for clip in clips])

    def spectra(self: Any, clips: list[np.ndarray], rate: int) -> np.ndarray:
        found = np.stack([np.abs(np.fft.rfft(clip, 1 << 15))[:64] for clip in clips])
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def letters(self: Any, texts: Sequence[str]) -> np.ndarray:
        return np.array([[1.0 + text.lower().count(chr(97 + i)) for i in range(26)] for text in texts])

    def colours(self: Any, pixels: np.ndarray) -> np.ndarray:
        return pixels.reshape(len(pixels), 4, 16, 4, 16, 3).mean((2, 4)).reshape(len(pixels), -1)

    monkeypatch.setattr(recognizer, "transcribe", _fake_judge)
    monkeypatch.setattr(Panel, "problems", lambda self: [])
    monkeypatch.setattr(SpeakerJudge, "vectors", spectra)
    monkeypatch.setattr(QualityJudge, "scores", loudness)
    monkeypatch.setattr(SentenceJudge, "vectors", letters)
    monkeypatch.setattr(ImageJudge, "features", colours)
    monkeypatch.setattr(
        LanguageJudge, "load", lambda self: LoadedLanguageModel(network=_flat, tokenizer=_bytes)
    )


def _bytes(text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
    return {"input_ids": list(text.encode())}


def _flat(tokens: Int[Tensor, "1 n"]) -> Any:
    """All bytes alike: a perplexity of 256, whatever is read."""
    return SimpleNamespace(logits=torch.zeros(*tokens.shape, 256))


def _check_judged(result: dict[str, Any]) -> None:
    said = result["speech"]["generated"]["seen"]
    assert said["speaker_similarity"]["generated"]["value"] == pytest.approx(1, abs=1e-6)
    assert {"noise", "round_trip", "same_voice"} <= set(said["speaker_similarity"])
    assert set(said["quality"]) == {"judge", "generated", "noise", "round_trip", "teacher"}
    assert set(result["image_distances"]["seen"]) == {"LAB32", "judge"}
    seen = result["caption_agreement"]["unseen"]
    assert seen["generated"] == seen["real"] and seen["fitted_on"] == 16
    assert seen["generated"]["chance"]["rank_fraction"] == 0.5
    perplexities = result["text"]["generative_perplexity"]
    assert all(each["value"] == pytest.approx(256) for each in perplexities.values())
    assert set(perplexities) == {"samples", "real", "scrambled", "noise"}
    assert result["continuation"]["outside_language_model"]["value"] == 0, "equal per byte: a tie is wrong"
    html = "".join(block.html() for block in scorecard_blocks(result))
    for part in (
        "FD-judge",
        "judge 98",
        "Caption agreement",
        "quality, 1 to 5",
        "256 ± ",
        "ceiling: outside language model",
    ):
        assert part in html, part
    assert "Left out" not in html


def _fake_judge(clips: list[np.ndarray], rate: int, folder: str, **options: Any) -> list[str]:
    """Knows the reader's clips, and no others."""
    texts = {row.waveform().tobytes(): row.text for row in _utterances()}
    return [texts.get(clip.tobytes(), "") for clip in clips]


@pytest.fixture(scope="module")
def broken(tokenizers: Tokenizers, few_speeches: None, few_sampling_steps: None) -> dict[str, Any]:
    return score(_generator(tokenizers), QuickstartExamples(_DATA, tokenizers), suite=_few(4))


def test_scorecard_is_plain_json_with_floors_and_intervals(broken: dict[str, Any], tmp_path: Path) -> None:
    io.write_json(tmp_path / "scores.json", broken)
    assert json.loads((tmp_path / "scores.json").read_text(encoding="utf-8")) == broken
    tasks = {(row["task"], row["split"]) for row in broken["likelihood"]}
    assert {("text", "validation"), ("text_to_image", "train"), ("speech_to_text", "validation")} <= tasks
    for row in broken["likelihood"]:
        assert row["conditional"]["low"] <= row["conditional"]["value"] <= row["conditional"]["high"]
        # A fresh model predicts uniformly.
        assert row["conditional"]["value"] == pytest.approx(row["uniform"], rel=0.8)
        if row["task"] in ("text_to_image", "text_to_speech"):
            assert row["gain_over_unconditional"]["value"] == pytest.approx(0, abs=1e-5)
    for task, parts in (("joint", {"text", "image"}), ("triple", {"text", "image", "speech"})):
        rows = [row for row in broken["likelihood"] if (row["task"], row["split"]) == (task, "train")]
        whole, *rest = rows[: 1 + len(parts)]
        assert whole["modality"] == "all" and "is_part" not in whole
        assert {row["modality"] for row in rest} == parts and all(row["is_part"] for row in rest)
        assert whole["num_tokens"] == sum(row["num_tokens"] for row in rest)
        for name in ("unigram", "uniform"):
            total = sum(row[name] * row["num_tokens"] for row in rest)
            assert whole[name] == pytest.approx(total / whole["num_tokens"])
        total = sum(row["conditional"]["value"] * row["num_tokens"] for row in rest)
        assert whole["conditional"]["value"] == pytest.approx(total / whole["num_tokens"])
    assert not any("is_part" in r for r in broken["likelihood"] if r["task"] not in ("joint", "triple"))
    assert broken["images"]["seen"]["generated"]["gallery"] == 16
    assert broken["images"]["seen"]["ceiling"]["top1"]["value"] > 0.5
    assert "not judged" in broken["speech"]["judge"] and "--judge" in broken["speech"]["judge"]
    assert len(broken["left_out"]) == 6 and all("--judges" in row["why"] for row in broken["left_out"])
    assert broken["suite"] == "quick" and broken["caption_agreement"] == {}
    spectral = broken["speech"]["generated"]["seen"]["mel_cepstral_distance"]
    assert spectral["round_trip"]["high"] < min(spectral["noise"]["low"], spectral["shuffled"]["low"])
    assert broken["continuation"]["model"]["n"] == 8 and broken["continuation"]["chance"] == 0.25


def test_a_broken_model_fails_its_bounds(broken: dict[str, Any]) -> None:
    results = {claim.name: claim.passed for claim in check_claims(broken)}
    must_fail = ("NELBO", "bits saved", "images, seen", "captions", "transcripts", "text: share")
    for part in must_fail:
        found = [passed for name, passed in results.items() if part in name]
        assert found, part
        assert not all(found), part
    assert not any(passed for name, passed in results.items() if "bits saved" in name or "captions" in name)


def test_a_model_that_knows_the_answers_meets_its_bounds(
    tokenizers: Tokenizers, monkeypatch: pytest.MonkeyPatch
) -> None:
    _play_judges(monkeypatch)
    generator = _generator(tokenizers, _OracleGenerator)
    denoiser = _OracleDenoiser(debug().model, generator.vocabulary).eval()
    assert isinstance(generator.predictor, DenoiserPredictor)
    generator.predictor.denoiser = denoiser
    roles = ("recognizer", "speaker", "quality", "images", "sentences", "language-model")
    judges = Panel.parse([f"{role}=judge" for role in roles])
    result = score(generator, QuickstartExamples(_DATA, tokenizers), suite=_few(16), judges=judges)
    failed = [claim for claim in check_claims(result) if not claim.passed]
    # This judge knows the very samples of the clips, which no codec gives back.
    assert [claim for claim in failed if "round_trip" not in claim.name] == []
    said = result["speech"]["generated"]["seen"]
    assert said["generated_word_error_rate"]["n"] == 6
    assert said["generated_character_error_rate"]["value"] == 0
    assert said["mel_cepstral_distance"]["generated"]["value"] == 0
    assert result["judges"]["images"] == {"name": "judge", "source": "judge"} and result["left_out"] == []
    _check_judged(result)
    sets = result["image_distances"]["seen"]["LAB32"]
    assert sets["generated"] == sets["real"], "it answers with the real pictures"
    assert sets["frechet_needs"] == 2 * (3072 + 1) and "frechet" not in sets["real"]  # eight of sixteen


def test_a_set_of_real_pictures_is_told_from_noise() -> None:
    """24 pictures against 24 others: the interval of real ones covers 0, and ends far below that of noise."""
    rows = tokens.pictures("train", QuickstartData(num_concepts=48, has_variants=False))
    chosen = [rows[i] for i in np.random.default_rng(0).permutation(48)[:24]]
    real = pixels_of(chosen)
    made = Pictures(chosen=chosen, generated=real[::-1], real=real, round_trip=real.copy())
    sets = measure_set_distances(made, Reference.draw(rows, Panel(), seed=0, count=48), seed=0)
    assert sets is not None
    found = sets["LAB32"]
    assert (found["n"], found["num_references"]) == (24, 24)
    assert found["generated"]["kernel"] == pytest.approx(found["real"]["kernel"]), "the order says nothing"
    assert found["real"]["kernel"]["low"] < 0 < found["real"]["kernel"]["high"]
    assert 5 * found["real"]["kernel"]["high"] < found["noise"]["kernel"]["low"]


def test_examples_are_drawn_from_each_group_first() -> None:
    groups = np.array([0] * 50 + list(range(1, 30)))
    codes = [np.zeros((1, 1), dtype=np.int64)] * len(groups)
    source = InMemory(name="some", codes={"text": codes}, groups=groups)
    chosen = choose(source, 30, seed=0)
    assert len({int(source.groups[i]) for i in chosen}) == 30
    everything = choose(source, 10**6, seed=0)
    assert sorted(everything) == list(range(len(source))) and everything[:30] == chosen


def test_a_generator_without_a_tokenizer_is_refused(tokenizers: Tokenizers) -> None:
    denoiser = build_denoiser(debug(), build_vocabulary(debug(), tokenizers))
    with pytest.raises(ValueError, match="without all of its tokenizers"):
        score(Generator(denoiser, text=tokenizers.text), QuickstartExamples(_DATA, tokenizers))
