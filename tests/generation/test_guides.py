"""Negative prompts and further conditions: which documents guide a result, and what is refused."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from generation.fakes import FakeImage, FakeSpeech, FakeText, hum, picture, random_denoiser, tiny_generator
from trimask.errors import UserError
from trimask.generation import Generator, Guide, LengthPolicy
from trimask.generation.keys import derive_key
from trimask.generation.prompts import Seen, SeenTexts
from trimask.model.denoiser import Denoiser
from trimask.sampling import Branch, Guidance, IntervalGuidance, SamplerConfig, sample
from trimask.vocabulary.sequence import Sequence, drop_conditions
from trimask.vocabulary.task import TASKS, Task

pytestmark = [
    pytest.mark.usefixtures("unchecked_shapes"),
    pytest.mark.filterwarnings("ignore::trimask.generation.SpanTooShortWarning"),
    pytest.mark.filterwarnings("ignore::trimask.generation.EmptySpanWarning"),
]
GENERATOR = tiny_generator()
CONFIG = SamplerConfig(num_steps=4, guidance_scale=3.0)
BOTH = Task(name="told", spans=(("text", "speech", "image"),), condition=("text", "speech"))


def two_conditions() -> Generator:
    """It has a task with two conditions."""
    tiny = random_denoiser()
    denoiser = Denoiser(tiny.config, replace(tiny.vocabulary, tasks=(*TASKS, BOTH), specials=()))
    denoiser.initialize(3)
    draw = np.random.default_rng(3).normal(size=denoiser.unembedding.weight.shape) * 0.5
    denoiser.unembedding.weight.data.copy_(torch.from_numpy(draw))
    lengths = LengthPolicy(caption_length=6, text_length=12, spoken_characters=5)
    codecs: dict[str, Any] = {"text": FakeText(), "image": FakeImage(), "speech": FakeSpeech()}
    return Generator(denoiser.eval().requires_grad_(False), lengths=lengths, **codecs)


TOLD = two_conditions()


def expected(generator: Generator, document: Sequence, guidance: Guidance, seed: int = 2) -> np.ndarray:
    key = derive_key(document, 0)
    return sample(generator.predictor, [document], CONFIG, seed=seed, keys=[key], guidance=[guidance])[0]


def tokens(generator: Generator, task: str, *args: Any, **options: Any) -> np.ndarray:
    return generator.generate_many(task, *args, seed=2, config=CONFIG, raw_prompt=True, **options)[0].tokens


def test_documents_of_prompts() -> None:
    """A picture's documents, made one by one from the prompts."""
    own, negative, other = (
        GENERATOR.codecs.document("text_to_image", {"text": text})
        for text in ("a hat", "a long, red coat", "b")
    )
    guidance = Guidance(base=negative, branches=(Branch(document=other, weight=-0.5),))
    found = tokens(
        GENERATOR,
        "text_to_image",
        "a hat",
        negative_prompt="a long, red coat",
        guides=[Guide(prompt="b", scale=-0.5)],
    )
    assert np.array_equal(found, expected(GENERATOR, own, guidance))
    plain = tokens(GENERATOR, "text_to_image", "a hat")
    assert np.array_equal(plain, expected(GENERATOR, own, Guidance())) and not np.array_equal(plain, found)


def test_speech_of_the_same_length() -> None:
    """A negative sentence would take other frames: the target's are kept, and the voice."""
    own = GENERATOR.codecs.document("text_to_speech", {"text": "good morning"}, voice="slt")
    length = (own.spans["speech"][1] - own.spans["speech"][0]) // 2
    negative = GENERATOR.codecs.document("text_to_speech", {"text": "no"}, voice="slt", span_length=length)
    assert GENERATOR.codecs.document("text_to_speech", {"text": "no"}).num_slots != negative.num_slots
    found = tokens(GENERATOR, "text_to_speech", "good morning", voice="slt", negative_prompt="no")
    assert np.array_equal(found, expected(GENERATOR, own, Guidance(base=negative)))


def test_guides_of_pictures_and_recordings() -> None:
    codes = np.ones((4, 2), dtype=np.int64)
    own = GENERATOR.codecs.document("image_to_text", {"image": picture()})
    other = GENERATOR.codecs.document("image_to_text", {"image": codes})
    found = tokens(GENERATOR, "image_to_text", image=picture(), guides=[Guide(image=codes, scale=0.8)])
    guidance = Guidance(branches=(Branch(document=other, weight=0.8),))
    assert np.array_equal(found, expected(GENERATOR, own, guidance))
    guides = (Guide(speech=(hum(9), 100), scale=0.8),)
    spoken = tokens(GENERATOR, "speech_to_text", speech=(hum(), 100), span_length=6, guides=guides)
    assert not np.array_equal(spoken, tokens(GENERATOR, "speech_to_text", speech=(hum(), 100), span_length=6))


def test_a_scale_for_each_condition() -> None:
    """∅ + a · (text − ∅) + b · (both − text), for a = 1.5 and b = 3."""
    given = {"text": "a hat", "speech": (hum(), 100)}
    own = TOLD.codecs.document("told", given)
    text_alone = drop_conditions(own, TOLD.vocabulary, ["speech"])
    start, stop = own.spans["speech"]
    assert (text_alone.tokens[start:stop] == TOLD.vocabulary.mask("speech")).all()
    assert np.array_equal(text_alone.tokens[:start], own.tokens[:start])
    guides = [Guide(without=("speech",), scale=1.5 - 3.0)]
    found = tokens(TOLD, "told", "a hat", speech=(hum(), 100), guides=guides)
    guidance = Guidance(branches=(Branch(document=text_alone, weight=-1.5),))
    assert np.array_equal(found, expected(TOLD, own, guidance))


def test_a_negative_prompt_keeps_the_other_condition() -> None:
    own, base = (TOLD.codecs.document("told", {"text": t, "speech": (hum(), 100)}) for t in ("a hat", "coat"))
    found = tokens(TOLD, "told", "a hat", speech=(hum(), 100), negative_prompt="coat")
    assert np.array_equal(found, expected(TOLD, own, Guidance(base=base)))
    alone = Guide(prompt="a cap", without=("speech",), scale=1.0)
    assert not np.array_equal(
        found,
        tokens(TOLD, "told", "a hat", speech=(hum(), 100), negative_prompt="coat", guides=[alone]),
    )


def test_results_do_not_depend_on_company() -> None:
    config = replace(CONFIG, guidance_ramp=IntervalGuidance(start=0.2, stop=0.9))
    options: dict[str, Any] = {
        "negative_prompt": "a coat",
        "guides": (Guide(prompt="bb", scale=1.0), Guide(prompt="a long prompt", scale=-0.5)),
        "config": config,
    }
    prompts = ["a hat", "a very long coat", "b"]
    together = GENERATOR.generate_many("text_to_image", prompts, num_samples=2, **options)
    small = GENERATOR.generate_many("text_to_image", prompts, num_samples=2, batch_size=2, **options)
    backwards = GENERATOR.generate_many("text_to_image", prompts[::-1], num_samples=2, **options)
    for place, one in enumerate(together):
        assert np.array_equal(one.tokens, small[place].tokens)
        assert np.array_equal(one.tokens, backwards[2 * (2 - place // 2) + place % 2].tokens)


def test_prompts_of_guides_are_respelled() -> None:
    texts = SeenTexts(
        words=("hat", "coat"),
        is_whole=True,
        is_lower=True,
        closing="",
        has_articles=False,
        openings=(),
        longest=2,
    )
    generator = tiny_generator(seen=Seen(captions=texts))
    options: dict[str, Any] = {"seed": 1, "config": CONFIG}
    spelled = generator.generate_many(
        "text_to_image", "hat", negative_prompt="coat", guides=[Guide(prompt="hat", scale=1.0)], **options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loose = generator.generate_many(
            "text_to_image",
            "A Hat",
            negative_prompt="a COAT.",
            guides=[Guide(prompt="The hat", scale=1.0)],
            **options,
        )
    assert np.array_equal(spelled[0].tokens, loose[0].tokens)
    with pytest.warns(UserWarning, match="boat"):
        generator.generate("text_to_image", "hat", negative_prompt="boat", **options)


def test_filmstrip_has_the_guides() -> None:
    options: dict[str, Any] = {
        "negative_prompt": "a coat",
        "guides": [Guide(prompt="b", scale=2.0)],
        "guidance_scale": 4.0,
        "num_steps": 3,
        "seed": 2,
    }
    strip = GENERATOR.filmstrip("a hat", num_frames=2, **options)
    assert np.array_equal(
        np.array(strip[-1]), np.array(GENERATOR.generate("text_to_image", "a hat", **options))
    )


@pytest.mark.parametrize(
    ("task", "given", "match"),
    [
        (
            "text_to_image",
            {"prompt": "a", "negative_prompt": "b", "guidance_scale": 1.0},
            "negative_prompt does nothing at guidance_scale 1, which task text_to_image has: give a larger",
        ),
        ("text_to_image", {"prompt": "a", "negative_prompt": " "}, "negative_prompt ' ' is empty"),
        ("text_to_image", {"prompt": "a", "negative_prompt": 3}, "negative_prompt is 3: give text"),
        (
            "image_to_text",
            {"image": picture(), "negative_prompt": "b"},
            "image_to_text has no text condition",
        ),
        ("text", {"negative_prompt": "b"}, "task text has no text condition"),
        (
            "text",
            {"guides": [Guide(prompt="b", scale=1.0)]},
            "condition prompt, and task text has no such.*none",
        ),
        ("text_to_image", {"prompt": "a", "guides": "b"}, "guides is 'b': give a list of"),
        ("text_to_image", {"prompt": "a", "guides": ["b"]}, r"guides is \['b'\]: give a list of"),
        ("text_to_image", {"prompt": "a", "guides": 3}, "guides is 3: give a list of"),
        (
            "text_to_image",
            {"prompt": "a", "guides": [Guide(image=picture(), scale=2.0)]},
            r"changes the condition image, and task text_to_image has no such condition \(it has text\)",
        ),
        (
            "text_to_image",
            {"prompt": "a", "guides": [Guide(without=("text",), scale=2.0)]},
            "without any condition is the base of guidance itself",
        ),
        ("text_to_image", {"prompt": "a", "guides": [Guide(prompt="", scale=2.0)]}, "prompt '' is empty"),
        (
            "text_to_image",
            {"prompt": "a", "guides": [Guide(prompt="a" * 300, scale=2.0)]},
            "takes 300 tokens",
        ),
    ],
)
def test_bad_guides_are_named(task: str, given: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        GENERATOR.generate_many(task, **given)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"scale": 0, "prompt": "a"}, "scale of a guide is 0, which does nothing"),
        ({"scale": 1e6, "prompt": "a"}, "has the weight 1000000.0: give a number between"),
        ({"scale": float("nan"), "prompt": "a"}, "scale of a guide is nan: give a number"),
        ({"scale": "2", "prompt": "a"}, "scale of a guide is '2': give a number"),
        ({"scale": 1}, "no condition of its own: give a prompt"),
        ({"scale": 1, "prompt": 3}, "prompt is 3: give text"),
        ({"scale": 1, "without": "text"}, "without is 'text': give names"),
        ({"scale": 1, "without": None}, "without is None: give names"),
        ({"scale": 1, "codes": [3]}, r"codes are \[3\]: give arrays by modality"),
        ({"scale": 1, "prompt": "a", "without": ("text",)}, "has text and is without it"),
    ],
)
def test_guides_are_checked(given: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        Guide(**given)
