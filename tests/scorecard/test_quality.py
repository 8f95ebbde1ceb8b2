"""The quality of samplers, prompt by prompt, on a model whose mistakes are known."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from generation.fakes import FakeImage, FakeSpeech, FakeText, random_denoiser
from in_memory import InMemory
from trimask.data.source import ExampleSource
from trimask.evaluation.judges.language_model import LanguageJudge
from trimask.evaluation.judges.panel import Panel
from trimask.evaluation.judges.recognizer import Recognizer
from trimask.generation.generate import Generator
from trimask.generation.generated import Generated
from trimask.scorecard.examples import DecodedPicture, DecodedRecording, Examples
from trimask.scorecard.quality import (
    Asked,
    CaptionWords,
    OwnPictureNearest,
    Part,
    PassagePerplexity,
    SpokenWords,
    TranscriptCharacters,
)

NUM_OF_SPLIT = 8
SPLITS = ("train", "validation")


def picture(split: str, number: int) -> DecodedPicture:
    """A grey picture, lighter by number; the captions name both."""
    level = 10 + 12 * number + (6 if split == "train" else 0)
    return DecodedPicture(
        key=f"{split}-{number}",
        concept=f"{number}",
        caption=f"{split} picture {number}",
        codes=np.array([[level]]),
        decoded=np.full((32, 32, 3), level, dtype=np.uint8),
    )


def recording(split: str, number: int) -> DecodedRecording:
    return DecodedRecording(
        text=f"{split} word {number}",
        voice="slt" if number % 2 else "rms",
        language="en",
        sample_rate=16_000,
        codes=np.array([[number]]),
        decoded=np.full(40 + number, 0.1 * (number + 1), dtype=np.float32),
    )


class Few(Examples):
    held_out = "validation"
    tasks = ()
    passages = "texts"
    text_window = 8
    reference = None

    def splits(self) -> tuple[str, ...]:
        return SPLITS

    def sources(self, split: str) -> Mapping[str, ExampleSource]:
        return {"texts": InMemory(name="texts", codes={}, groups=np.zeros(0, dtype=np.int64))}

    def pictures(self, split: str, count: int) -> Sequence[DecodedPicture]:
        return [picture(split, number) for number in range(NUM_OF_SPLIT)]

    def recordings(self, split: str, count: int) -> Sequence[DecodedRecording]:
        return [recording(split, number) for number in range(NUM_OF_SPLIT)]

    def texts(self, source: ExampleSource, count: int) -> list[str]:
        return ["one two three four", "five six seven eight"] * (count // 2)

    def training_words(self) -> set[str]:
        return set()

    def as_json(self) -> dict[str, Any]:
        return {}

    def list_left_out(self) -> list[dict[str, str]]:
        return []


class Scripted(Generator):  # pyright: ignore[reportGeneralTypeIssues]  (final: a stand-in alone derives)
    """Gives what `script` has for a task and one of its inputs; remembers what was asked."""

    def generate_many(self, task: Any, prompt: Any = None, **options: Any) -> list[Generated]:
        self.__dict__.setdefault("asked", []).append({"task": task, "prompt": prompt, **options})
        inputs = prompt or options.get("image") or options.get("speech") or list(options["numbers"])
        return [self.__dict__["script"](task, each) for each in inputs]


def generated(**found: Any) -> Generated:
    return Generated(tokens=np.zeros(0, dtype=np.int64), **found)


def ask(script: Any, *, part: Part = "tuning", number: int = 8, judges: Panel | None = None) -> Asked:
    generator = Scripted(random_denoiser(), text=FakeText(), image=FakeImage(), speech=FakeSpeech())
    generator.__dict__["script"] = script
    return Asked(
        generator=generator, examples=Few(), judges=judges or Panel(), part=part, number=number, seed=3
    )


def asked_for(asked: Asked) -> list[dict[str, Any]]:
    return asked.generator.__dict__["asked"]


def test_parts_have_no_prompt_in_common_and_equal_shares_of_the_splits():
    def paint(task: str, prompt: str) -> Generated:
        return generated(task=task, image=Image.new("RGB", (32, 32)), codes={"image": np.ones((1, 1))})

    prompts = {}
    for part in ("tuning", "check"):
        asked = ask(paint, part=part)
        OwnPictureNearest().measure(asked)
        prompts[part] = set(asked_for(asked)[0]["prompt"])
        assert sorted(prompt.split()[0] for prompt in prompts[part]) == ["train"] * 4 + ["validation"] * 4
    assert not prompts["tuning"] & prompts["check"]
    with pytest.raises(ValueError, match="too few to judge on"):
        few = ask(paint)
        few.choose({"train": [1], "validation": []})


def test_own_pictures_are_ranked_among_all():
    def paint(task: str, prompt: str) -> Generated:
        split, _, number = prompt.split()
        right = picture(split, int(number)).decoded
        pixels = right if split == "train" else np.zeros_like(right)
        return generated(task=task, image=Image.fromarray(pixels), codes={"image": np.ones((1, 1))})

    asked = ask(paint)
    found = OwnPictureNearest().measure(asked)
    prompts = [prompt.split() for prompt in asked_for(asked)[0]["prompt"]]
    # A black picture is nearest to the darkest: the rank of a picture of the gallery is its lightness.
    levels = sorted(picture(split, n).decoded[0, 0, 0] for split in SPLITS for n in range(NUM_OF_SPLIT))
    ranks = [
        0 if split == "train" else levels.index(picture(split, int(number)).decoded[0, 0, 0])
        for split, _, number in prompts
    ]
    assert found.errors == pytest.approx(np.array(ranks) / (2 * NUM_OF_SPLIT - 1))
    assert found.figures["nearest"] == np.mean(np.array(ranks) == 0)
    assert (found.figures["empty"], found.figures["complete"]) == (0, 1)


def test_captions_lose_the_words_that_are_wrong():
    def caption(task: str, codes: np.ndarray) -> Generated:
        level = int(codes[0, 0])
        rows = [picture(split, n) for split in SPLITS for n in range(NUM_OF_SPLIT)]
        (own,) = [row for row in rows if row.codes[0, 0] == level]
        if own.key.startswith("train"):
            return generated(task=task, text=own.caption, codes={"text": np.ones((3, 1))})
        return generated(task=task, text="", codes={"text": np.ones((0, 1))}, is_complete=False)

    found = CaptionWords().measure(ask(caption))
    assert sorted(found.errors) == [0.0] * 4 + [1.0] * 4
    assert (found.figures["empty"], found.figures["complete"]) == (0.5, 0.5)
    assert not CaptionWords().is_sound(found.figures)
    assert CaptionWords().is_sound({"empty": 0.1})


def test_transcripts_count_characters():
    def transcribe(task: str, codes: np.ndarray) -> Generated:
        return generated(task=task, text=f"word {int(codes[0, 0])}", codes={"text": np.ones((2, 1))})

    found = TranscriptCharacters().measure(ask(transcribe))
    # "train " is missing from half of them, "validation " from the others.
    assert sorted(found.errors) == [6.0] * 4 + [11.0] * 4
    assert sorted(found.units) == [12.0] * 4 + [17.0] * 4


def test_words_are_those_that_a_recognizer_hears_in_the_right_voice(monkeypatch: pytest.MonkeyPatch):
    def speak(task: str, prompt: str) -> Generated:
        split, _, number = prompt.split()
        return generated(
            task=task,
            waveform=recording(split, int(number)).decoded,
            sample_rate=16_000,
            codes={"speech": np.ones((1, 1))},
        )

    def hear(self: object, clips: list[np.ndarray], rate: int, languages: Sequence[str]) -> list[str]:
        assert rate == 16_000 and set(languages) == {"en"}
        return [f"validation word {len(clip) - 40}" + " word" * (9 * (len(clip) == 40)) for clip in clips]

    monkeypatch.setattr(Recognizer, "transcribe", hear)
    asked = ask(speak, judges=Panel(recognizer=Recognizer(source="nowhere")))
    found = SpokenWords().measure(asked)
    assert set(found.units) == {3.0}
    asked_numbers = [int(p.split()[2]) for each in asked_for(asked) for p in each["prompt"]]
    looped = asked_numbers.count(0)  # number 0 is heard with nine words more: at most its three are wrong
    assert found.errors.max() <= 3 and (found.errors == 3).sum() == looped
    for request in asked_for(asked):
        numbers = {int(prompt.split()[2]) % 2 for prompt in request["prompt"]}
        assert numbers == {int(request["voice"] == "slt")}


def test_passages_are_judged_by_an_outside_model_and_must_vary(monkeypatch: pytest.MonkeyPatch):
    def write(task: str, number: int) -> Generated:
        text = "" if number == 8 else "nine ten nine ten"
        return generated(task=task, text=text, codes={"text": np.ones((len(text), 1))})

    def nats(context: str, text: str) -> tuple[float, int]:
        return 2.0 * len(text.split()), len(text.split()) - 1

    monkeypatch.setattr(LanguageJudge, "load", lambda self: SimpleNamespace(nats=nats))
    panel = Panel(language_model=LanguageJudge(source="nowhere"))
    found = PassagePerplexity().measure(ask(write, judges=panel))
    assert set(found.errors) == {8.0} and set(found.units) == {3.0}
    assert found.figures["distinct_2_of_held_out_text"] == 6 / 24
    assert found.figures["distinct_2"] == 2 / 24
    assert not PassagePerplexity().is_sound(found.figures)
    varied = {**found.figures, "distinct_2": 0.25}
    assert PassagePerplexity().is_sound(varied)
    assert not PassagePerplexity().is_sound({**varied, "words": 1.9})  # held-out text has 4
    checked = PassagePerplexity().measure(ask(write, part="check", judges=panel))
    assert sorted(set(checked.errors)) == [0.0, 8.0]  # an empty one has no token
    assert checked.figures["empty"] == 1 / 8
