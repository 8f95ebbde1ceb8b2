"""Targets that are given in part keep what is given; chains pass on what they make."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from generation.fakes import FakeText, hum, picture, tiny_generator
from trimask.errors import UserError
from trimask.generation.infill import read_gaps
from trimask.vocabulary.task import MODALITIES


def half_mask() -> PIL.Image.Image:
    """White at the right."""
    mask = PIL.Image.new("L", (8, 8), 0)
    mask.paste(255, (4, 0, 8, 8))
    return mask


def codes_of(modality: str, value: Any) -> np.ndarray:
    """The codes of a value, as a condition."""
    generator = tiny_generator()
    task = {"image": "image_to_text", "speech": "speech_to_text"}[modality]
    document = generator.codecs.document(task, {modality: value})
    start, stop = document.spans[modality]
    codebooks = generator.vocabulary.space(modality).num_codebooks
    return generator.vocabulary.codes(modality, document.tokens[start:stop].reshape(-1, codebooks))[0]


def test_a_picture_is_painted_where_the_mask_is_white(tmp_path: Path) -> None:
    generator, codes = tiny_generator(), codes_of("image", picture())
    half_mask().save(tmp_path / "mask.png")
    cells = np.array([[False, True], [False, True]])
    found = []
    for mask in (half_mask(), tmp_path / "mask.png", str(tmp_path / "mask.png"), cells):
        (made,) = generator.generate_many("text_to_image", "red", image=picture(), mask=mask, seed=2)
        assert np.array_equal(made.codes["image"][::2], codes[::2])
        found.append(made.codes["image"])
    assert all(np.array_equal(each, found[0]) for each in found) and not np.array_equal(found[0], codes)
    partly = codes.copy()
    partly[1::2] = -1
    (made,) = generator.generate_many("text_to_image", "red", image=partly, seed=2)
    assert np.array_equal(made.codes["image"], found[0])


def test_one_codebook_can_be_generated_alone() -> None:
    codes = codes_of("image", picture())
    codes[:, 1] = -1
    (made,) = tiny_generator().generate_many("text_to_image", "red", image=codes)
    assert np.array_equal(made.codes["image"][:, 0], codes[:, 0])


def test_a_recording_is_spoken_anew_between_seconds() -> None:
    generator, codes = tiny_generator(), codes_of("speech", hum(10))
    (made,) = generator.generate_many("text_to_speech", "red", speech=hum(10), seconds=(0.08, 0.2), seed=1)
    kept = np.r_[0:2, 5:10]  # frames of 0.04 s
    assert made.is_complete and np.array_equal(made.codes["speech"][kept], codes[kept])
    for seed in range(6):  # no end code cuts off what follows
        (made,) = generator.generate_many(
            "text_to_speech", "r", speech=hum(10), seconds=(0.0, 0.3), seed=seed
        )
        assert len(made.codes["speech"]) == 10
    (value, rate) = generator.generate("text_to_speech", "red", speech=hum(10), seconds=(0.08, 0.2), seed=1)
    assert len(value) == 40 and rate == 100


def test_gaps_of_a_text_are_filled() -> None:
    text = tiny_generator().generate("text", "a [___] of [__] kings")
    assert re.fullmatch(r"a.{3} of.{2} kings", text)
    caption = tiny_generator().generate("image_to_text", "red [____]", image=picture())
    assert re.fullmatch(r"red.{4}", caption) or caption.startswith("red")


def test_gaps_take_the_blanks_before_them() -> None:
    part = read_gaps("ab [__] cd", FakeText().encode)
    assert part.codes[:, 0].tolist() == [*FakeText().encode("ab"), 0, 0, *FakeText().encode(" cd")]
    assert part.fill[:, 0].tolist() == [False, False, True, True, False, False, False]


def test_a_given_transcript_is_spelled_after_its_voice() -> None:
    """As the data has it; each underscore is a letter, and blanks stay."""
    generator = tiny_generator()
    for text in ("Go [__] on", "Go on"):
        document = generator.codecs.document("joint", {"text": text}, pair="speech", voice="slt")
        start, stop = document.spans["text"]
        codes = generator.vocabulary.codes("text", document.tokens[start:stop, None])[0][:, 0].tolist()
        spelled = FakeText().encode("slt: go ", is_spelled=True)
        assert codes[: len(spelled)] == spelled
        assert document.maskable[start:stop].nonzero()[0].tolist() == ([8, 9] if "_" in text else [])
    short, long = (
        generator.codecs.document("joint", {"text": text}, pair="speech").spans["speech"]
        for text in ("go", "go on and on and on and on and on and on and on and on")
    )
    assert long[1] - long[0] > short[1] - short[0]  # the speech is as long as its text needs


@pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning")
def test_of_several_targets_some_may_be_given_whole() -> None:
    (made,) = tiny_generator().generate_many("joint", "red")
    assert made.text == "red" and made.image is not None
    codes = codes_of("image", picture())
    (made,) = tiny_generator().generate_many("joint", image=picture())
    assert np.array_equal(made.codes["image"], codes)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("text_to_image", {"image": picture()}, "generates image, and all of it is given: .* give a mask"),
        ("text_to_speech", {"speech": hum()}, "generates speech, and all of it is given: .* give seconds"),
        ("image_to_text", {"image": picture()}, r"generates prompt, .* \[____\] with one underscore"),
        ("text_to_image", {"mask": half_mask()}, "mask says which part of a given image"),
        (
            "text_to_image",
            {"image": picture(), "seconds": (0.0, 1.0)},
            "seconds says which part of a given spe",
        ),
        ("text_to_image", {"image": picture(), "mask": 3}, "mask is 3: give a picture or a file"),
        ("text_to_image", {"image": picture(), "mask": np.zeros((3, 3), bool)}, r"bool of shape \(3, 3\)"),
        ("text_to_image", {"image": picture(), "mask": np.zeros((2, 2), bool)}, "mask is white nowhere"),
        (
            "text_to_image",
            {"image": picture(), "mask": PIL.Image.new("L", (9, 8))},
            "9 x 8 pixels and the pic",
        ),
        (
            "text_to_speech",
            {"speech": hum(), "seconds": (1.0, 0.5)},
            "seconds are 1 to 0.5, and the recording",
        ),
        ("text_to_speech", {"speech": hum(), "seconds": (9.0, 10.0)}, "lasts 0.24 s"),
        ("text_to_speech", {"speech": hum(), "seconds": (1.0,)}, "give a pair"),
        ("joint", {"image": picture()}, "generates prompt and image, and all of it is given"),
        ("text_to_image", {"speech": hum()}, "has no use for speech"),
        (
            "text_to_speech",
            {"speech": hum(), "seconds": (0.0, 0.1), "span_length": 9},
            "span_length 9 has nothing to act on: speech is given in part",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_parts_of_nothing_are_errors(task: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny_generator().generate(task, "red", **options)


@pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning")
@pytest.mark.filterwarnings("ignore::trimask.generation.length.EmptySpanWarning")
def test_a_chain_passes_on_what_it_makes() -> None:
    generator = tiny_generator()
    tasks = ("text_to_image", "image_to_text", "text_to_speech")
    image, text, speech = generator.chain(tasks, "red", seed=3)
    assert image.image is not None and text.text and speech.waveform is not None
    by_hand = generator.generate("image_to_text", image=image.codes["image"], seed=3)
    assert text.text == by_hand
    again = generator.generate("text_to_speech", text.text, seed=3)
    assert np.array_equal(again[0], speech.waveform)


@pytest.mark.parametrize(
    ("tasks", "prompt", "message"),
    [
        ((), "red", "give a list of at least one task"),
        ("text", "red", "give a list of at least one task"),
        (3, "red", "give a list of at least one task"),
        (iter(["text"]), "red", "give a list of at least one task"),
        (("text_to_image",), ["red", "so"], "give one; call `chain` for each"),
        (("text_to_image", "speech_to_text"), "red", "speech_to_text needs speech, which no task before it"),
        (("image_to_text",), "red", "needs image, which no task before"),
        (("text_to_image", "sing"), "red", "unknown task 'sing'"),
    ],
)
def test_chains_that_cannot_be(tasks: Any, prompt: Any, message: str, unchecked_shapes: None) -> None:
    with pytest.raises(UserError, match=message):
        tiny_generator().chain(tasks, prompt)


@pytest.mark.parametrize(
    ("tasks", "given", "message"),
    [
        (("text_to_image", "image_to_text"), {"prompt": "red", "image": picture()}, "uses the image that is"),
        (("text_to_image",), {"prompt": "red", "speech": hum()}, "uses the speech that is given"),
        (("image_to_text", "text_to_speech"), {"prompt": "red", "image": picture()}, "uses the prompt that"),
        (("text", "text_to_image"), {"prompt": "red"}, "uses the prompt that is given"),
    ],
)
def test_chains_use_all_that_is_given(tasks: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny_generator().chain(tasks, **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 2}, "num_samples is 2: a chain gives one result of each task; call it for each"),
        ({"codes": 3}, "codes are 3: give arrays by modality"),
        ({"callback": 3}, "callback is 3: give a function"),
    ],
)
def test_a_chain_has_one_result_of_each_task(
    options: dict[str, Any], message: str, unchecked_shapes: None
) -> None:
    with pytest.raises(UserError, match=message):
        tiny_generator().chain(("text_to_image",), "red", **options)


def test_texts_with_gaps_are_bounded() -> None:
    generator = tiny_generator()
    with pytest.raises(UserError, match="given in part has 65,540 frames or tokens: give at most 65,536"):
        generator.generate("text", f"ab[{'_' * 65_536}]cd")
    with pytest.raises(UserError, match="span_length 9 has nothing to act on: text is given in part"):
        generator.generate("text", "ab[__]cd", span_length=9)


def test_modalities_are_those_with_tokenizers() -> None:
    assert MODALITIES == ("text", "image", "speech")  # what the remedies above name


def test_a_text_is_given_as_its_codes() -> None:
    """As what was generated before is: some of its tokens are generated anew."""
    codec, generator = FakeText(), tiny_generator()
    codes = np.array(codec.encode("the hat."))[:, None]
    part = codes.copy()
    part[[1, 5]] = -1
    (made,) = generator.generate_many("text", codes={"text": part}, seed=3)
    found = made.codes["text"]
    assert made.is_complete and len(found) == len(codes)
    assert np.array_equal(np.delete(found, [1, 5]), np.delete(codes, [1, 5]))
    (by_prompt,) = generator.generate_many("text", "t[_]e h[_]t.", seed=3)
    assert np.array_equal(by_prompt.tokens, made.tokens)


def test_a_condition_is_given_as_its_codes() -> None:
    generator, codes = tiny_generator(), np.array(FakeText().encode("a hat"))[:, None]
    by_codes = generator.generate_many("text_to_image", codes={"text": codes}, seed=3)[0]
    by_prompt = generator.generate_many("text_to_image", "a hat", seed=3)[0]
    assert np.array_equal(by_codes.tokens, by_prompt.tokens)
    spoken = np.array(FakeText().encode("slt: hello", is_spelled=True))[:, None]
    by_codes = generator.generate_many("text_to_speech", codes={"text": spoken}, span_length=5)[0]
    by_prompt = generator.generate_many("text_to_speech", "hello", span_length=5)[0]
    assert np.array_equal(by_codes.tokens, by_prompt.tokens)
    with pytest.raises(UserError, match="codes has text, which prompt gives"):
        generator.generate("text_to_image", "a hat", codes={"text": codes})
