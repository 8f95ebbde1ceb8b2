"""Every task through `Generator`, with tokenizers that invert exactly and a random denoiser."""

from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from generation.fakes import FakeImage, hum, picture, tiny_generator
from trimask.errors import UserError
from trimask.generation.generate import Generator
from trimask.generation.generated import Generated
from trimask.generation.length import EmptySpanWarning, SpanTooShortWarning
from trimask.sampling import (
    Everything,
    Given,
    Grown,
    LengthRule,
    Needed,
    Predicted,
    Recompute,
    SamplerConfig,
)
from trimask.sampling.defaults import DEFAULTS
from trimask.sampling.predictor import DenoiserPredictor

TASKS: list[tuple[str, dict[str, Any]]] = [
    ("text", {}),
    ("text", {"prompt": "once upon"}),
    ("text_to_image", {"prompt": "a red hat"}),
    ("image_to_text", {"image": picture()}),
    ("text_to_speech", {"prompt": "Good morning."}),
    ("speech_to_text", {"speech": hum()}),
    ("joint", {"pair": "image"}),
    ("joint", {"pair": "speech"}),
    ("triple", {}),
]
# A random model ends its spans anywhere: the warnings themselves are tested below.
pytestmark = [
    pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning"),
    pytest.mark.filterwarnings("ignore::trimask.generation.length.EmptySpanWarning"),
]


def bias_end(generator: Generator, modality: str, amount: float) -> None:
    """Make every prediction of a modality be its end, or never."""
    predictor = generator.predictor
    assert isinstance(predictor, DenoiserPredictor)
    denoiser = predictor.denoiser
    plain = denoiser.logits

    def biased(hidden: torch.Tensor, range_index: int) -> torch.Tensor:
        logits = plain(hidden, range_index).clone()
        if denoiser.vocabulary.ranges[range_index].modality == modality:
            logits[:, -1] += amount
        return logits

    denoiser.logits = biased


@pytest.mark.parametrize(("task", "given"), TASKS, ids=lambda value: str(value)[:30])
def test_every_task(task: str, given: dict[str, Any]) -> None:
    generator = tiny_generator()
    one = generator.generate_many(task, num_steps=4, seed=1, **given)[0]
    assert one.task == task
    has_text = task in ("text", "image_to_text", "speech_to_text", "joint", "triple")
    has_image = task in ("text_to_image", "triple") or given.get("pair") == "image"
    has_audio = task in ("text_to_speech", "triple") or given.get("pair") == "speech"
    assert isinstance(one.text, str) == has_text
    assert isinstance(one.image, PIL.Image.Image) == has_image
    assert isinstance(one.waveform, np.ndarray) == has_audio
    assert one.sample_rate == (100 if has_audio else None)
    if one.image is not None:
        assert one.image.size == (8, 8) and one.image.mode == "RGB"
    if one.waveform is not None:
        assert one.waveform.dtype == np.float32 and one.waveform.ndim == 1
    value = generator.generate(task, num_steps=4, seed=1, **given)
    expected = one.value
    assert type(value) is type(expected)
    if isinstance(value, tuple):
        assert one.waveform is not None
        assert value[1] == 100 and np.array_equal(value[0], one.waveform)
    elif isinstance(value, Generated):
        assert np.array_equal(value.tokens, one.tokens)
    else:
        assert value == expected


def test_results_do_not_depend_on_the_batch() -> None:
    generator = tiny_generator()
    prompts = ["a hat", "two red hats", "b", "a cat"]
    settings: dict[str, Any] = {"num_steps": 4, "num_samples": 2, "seed": 7}
    wide = generator.generate_many("text_to_speech", prompts, **settings)
    narrow = generator.generate_many("text_to_speech", prompts, batch_size=3, **settings)
    assert len(wide) == 8
    for a, b in zip(wide, narrow, strict=True):
        assert np.array_equal(a.tokens, b.tokens)
    assert not np.array_equal(wide[0].tokens, wide[1].tokens)
    first = generator.generate_many("text_to_speech", "a hat", num_steps=4, seed=7)[0]
    assert np.array_equal(first.tokens, wide[0].tokens)


def test_settings_reach_the_sampler() -> None:
    generator = tiny_generator()
    greedy = [generator.generate("text", seed=seed, num_steps=1, temperature=0.0) for seed in range(3)]
    warm = [generator.generate("text", seed=seed, num_steps=1) for seed in range(3)]
    assert len(set(greedy)) == 1 and len(set(warm)) > 1


def test_text_goes_on_from_its_prompt() -> None:
    generator = tiny_generator()
    bias_end(generator, "text", -100.0)
    text = generator.generate("text", "once", span_length=9, num_steps=3)
    assert text.startswith("once") and len(text) == 9


def test_condition_is_encoded_as_in_training() -> None:
    codecs = tiny_generator().codecs
    vocabulary = codecs.vocabulary
    start = vocabulary.ranges[0].start

    def condition(task: str, modality: str, given: object, voice: str | None = None) -> np.ndarray:
        (of,) = vocabulary.task(task).condition
        document = codecs.document(task, {of: given}, voice=voice)
        return document.tokens[slice(*document.spans[modality])]

    spoken = condition("text_to_speech", "text", " Good Day ", voice="rms")
    assert codecs.decode_text(spoken[:, None] - start, is_spoken=False) == "rms: good day"
    assert spoken.max() < start + 31  # spelled: the fake gives merged text larger ids
    caption = condition("text_to_image", "text", "a hat")
    assert caption.min() >= start + 31
    image = condition("image_to_text", "image", picture()).reshape(4, 2)
    codes, _ = vocabulary.codes("image", image)
    assert codes.tolist() == [[4, 4], [4, 4], [0, 0], [0, 0]]
    assert np.array_equal(np.array(codecs.decode_image(codes)), np.array(picture()))
    transparent = PIL.Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    white, _ = vocabulary.codes("image", condition("image_to_text", "image", transparent).reshape(4, 2))
    assert (white == 4).all()
    assert codecs.document("text_to_speech", {"text": "abcd"}).spans["speech"][1] > 0


def test_span_lengths_follow_the_policy() -> None:
    codecs = tiny_generator().codecs
    policy = codecs.lengths
    sizes = {m: stop - start for m, (start, stop) in codecs.document("triple", {}).spans.items()}
    frames = policy.estimate_speech_frames(policy.caption_characters)
    assert sizes == {
        "text": policy.joint_caption_length,
        "image": 8,
        "speech": 2 * frames,
    }
    start, stop = codecs.document("text_to_speech", {"text": "abcd"}).spans["speech"]
    assert stop - start == 2 * policy.estimate_speech_frames(4)
    start, stop = codecs.document("speech_to_text", {"speech": hum(6)}).spans["text"]
    assert stop - start == policy.estimate_transcript_length(6)


def test_voice_tag_is_split_off() -> None:
    codecs = tiny_generator().codecs
    codes = np.array(codecs._need_text().encode("slt: note: hello", is_spelled=True)).reshape(-1, 1)
    assert codecs.decode_text(codes, is_spoken=True) == "note: hello"
    assert codecs.decode_text(codes, is_spoken=False) == "slt: note: hello"


@pytest.mark.parametrize(
    ("task", "modality", "given"),
    [
        ("text", "text", {}),
        ("image_to_text", "text", {"image": picture()}),
        ("text_to_speech", "speech", {"prompt": "hello"}),
        ("speech_to_text", "text", {"speech": hum()}),
    ],
)
def test_span_without_an_end_warns(task: str, modality: str, given: dict[str, Any]) -> None:
    generator = tiny_generator()
    bias_end(generator, modality, -100.0)
    unit = "frames" if modality == "speech" else "tokens"
    with pytest.warns(SpanTooShortWarning, match=f"span of 5 {unit}.*raise span_length"):
        result = generator.generate_many(task, span_length=5, num_steps=2, **given)[0]
    assert not result.is_complete
    bias_end(generator, modality, 200.0)
    with pytest.warns(EmptySpanWarning, match="its end token came first"):
        result = generator.generate_many(task, span_length=5, num_steps=2, **given)[0]
    assert result.is_complete
    assert result.text == "" or (result.waveform is not None and len(result.waveform) == 0)


GROWN = SamplerConfig(num_steps=2, length=Grown(share=0.5, most=2.5))


@pytest.mark.parametrize(
    ("task", "modality", "given"),
    [
        ("text", "text", {"prompt": "once"}),
        ("image_to_text", "text", {"image": picture()}),
        ("text_to_speech", "speech", {"prompt": "hello"}),
        ("speech_to_text", "text", {"speech": hum()}),
    ],
)
def test_a_full_span_grows_up_to_its_most(task: str, modality: str, given: dict[str, Any]) -> None:
    generator = tiny_generator()
    bias_end(generator, modality, -100.0)
    with pytest.warns(SpanTooShortWarning, match="cut short: raise span_length"):
        (plain,) = generator.generate_many(task, config=SamplerConfig(num_steps=2), **given)
    with pytest.warns(SpanTooShortWarning, match=r"try another seed, or raise Grown.most \(now 2.5\)"):
        (grown,) = generator.generate_many(task, config=GROWN, **given)
    planned = len(plain.codes[modality])
    assert len(grown.codes[modality]) == int(2.5 * planned) and not grown.is_complete
    assert np.array_equal(grown.codes[modality][:planned], plain.codes[modality])
    assert grown.text is None or grown.text.startswith(given.get("prompt", ""))
    with pytest.warns(SpanTooShortWarning, match="span of 9 .*raise span_length"):
        (given_length,) = generator.generate_many(task, config=GROWN, span_length=9, **given)
    assert len(given_length.codes[modality]) == 9


@pytest.mark.parametrize(
    "length", [Predicted(quantile=0.02), Grown(first=Predicted(quantile=0.05), share=0.3)], ids=repr
)
@pytest.mark.parametrize("recompute", [Everything(), Needed(renew_every=1)], ids=repr)
def test_lengths_of_a_network_do_not_depend_on_the_batch(length: LengthRule, recompute: Recompute) -> None:
    """Rows that shrink, grow and stay, with keys and values kept or not; in all orders of arrival."""
    generator = tiny_generator()
    config = SamplerConfig(num_steps=3, guidance_scale=2.0, length=length, recompute=recompute)
    prompts = ["a hat", "two red hats", "b", "a cat on a mat, and a dog"]
    plain = generator.generate_many("text_to_speech", prompts, config=replace(config, length=Given()))
    alone = [
        generator.generate_many("text_to_speech", prompt, config=config, num_samples=2) for prompt in prompts
    ]
    for batch_size in (1, 3, 8):
        wide = generator.generate_many(
            "text_to_speech", prompts, config=config, num_samples=2, batch_size=batch_size
        )
        for a, b in zip([each for pair in alone for each in pair], wide, strict=True):
            assert np.array_equal(a.tokens, b.tokens)
    assert any(len(a.tokens) != len(b.tokens) for (a, _), b in zip(alone, plain, strict=True))
    everything = replace(config, recompute=Everything())
    for (a, _), b in zip(
        alone, generator.generate_many("text_to_speech", prompts, config=everything), strict=True
    ):
        assert np.array_equal(a.tokens, b.tokens)


def test_several_targets_have_lengths_of_their_own() -> None:
    generator = tiny_generator()
    bias_end(generator, "text", -100.0)
    with pytest.warns(SpanTooShortWarning, match="the text did not end"):
        (made,) = generator.generate_many("joint", pair="speech", config=GROWN, seed=3)
    (plain,) = generator.generate_many("joint", pair="speech", config=SamplerConfig(num_steps=2), seed=3)
    assert len(made.codes["text"]) == int(2.5 * len(plain.codes["text"]))
    assert np.array_equal(made.codes["speech"], plain.codes["speech"])


def test_a_length_rule_that_nothing_asks_is_refused() -> None:
    generator = tiny_generator()
    with pytest.raises(UserError, match=r"Predicted.* the size of image is fixed; set sampler.text_to_image"):
        generator.generate("text_to_image", "a hat", config=SamplerConfig(num_steps=2, length=Predicted()))
    generator.override({"sampler.text.length": "Predicted", "sampler.text.length.quantile": "0.5"})
    assert generator.settings("text").length == Predicted(quantile=0.5)


def test_filmstrip_ends_with_the_image() -> None:
    generator = tiny_generator()
    strip = generator.filmstrip("a hat", num_frames=4, seed=2, num_steps=6)
    image = generator.generate("text_to_image", "a hat", seed=2, num_steps=6)
    assert len(strip) == 4 and np.array_equal(np.array(strip[-1]), np.array(image))
    assert (np.array(strip[0]) == 128).all()
    grey = [int((np.array(frame) == 128).all(-1).sum()) for frame in strip]
    assert grey == sorted(grey, reverse=True)


@pytest.mark.parametrize(
    ("task", "given", "match"),
    [
        ("text_to_music", {"prompt": "a"}, "unknown task 'text_to_music': choose one of text, text_to_image"),
        ("text_to_image", {}, "needs prompt"),
        ("text_to_image", {"prompt": "  "}, "prompt '  ' is empty"),
        ("text", {"prompt": ""}, "prompt '' is empty"),
        ("text_to_image", {"prompt": "a" * 300}, "takes 300 tokens, but the limit is 256"),
        ("text", {"prompt": "a" * 12}, "12 of the span's 12 tokens"),
        ("image_to_text", {}, "needs image"),
        ("speech_to_text", {}, "needs speech"),
        ("image_to_text", {"image": picture(), "prompt": "a"}, "generates prompt, and all of it is given"),
        ("text", {"speech": hum()}, "no use for speech"),
        ("speech_to_text", {"speech": np.zeros((2, 8))}, "shape \\(2, 8\\)"),
        ("speech_to_text", {"speech": np.full(8, np.nan)}, "not finite"),
        ("text_to_image", {"prompt": "a", "span_length": 3}, "the size of image is fixed"),
        ("triple", {"span_length": 3}, "ambiguous"),
        ("text", {"span_length": 0}, "span_length is 0"),
        ("joint", {"pair": "smell"}, "pair is 'smell'"),
        ("triple", {"pair": "speech"}, "no use for pair"),
        ("text", {"voice": "rms"}, "voice 'rms' has no effect"),
        ("text_to_speech", {"prompt": "a", "voice": ": ;"}, "voice ': ;' has no effect"),
        ("text", {"guidance_scale": 2.0}, "guidance_scale 2.0 has nothing to act on"),
        ("text", {"num_steps": 0}, "num_steps is 0"),
        ("text", {"temperature": -1.0}, "temperature is -1.0"),
        ("text", {"num_samples": 0}, "num_samples is 0"),
        ("text_to_image", {"prompt": []}, "empty list"),
    ],
)
def test_bad_input_is_named(task: str, given: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        tiny_generator().generate_many(task, **given)


def test_missing_and_foreign_tokenizers() -> None:
    with pytest.raises(ValueError, match="needs the image tokenizer"):
        tiny_generator(image=None).generate("text_to_image", "a")
    assert isinstance(tiny_generator(image=None, speech=None).generate("text", num_steps=1), str)
    foreign = FakeImage()
    foreign.codebook_size = 7
    with pytest.raises(ValueError, match="2 codebooks of 7 codes"):
        tiny_generator(image=foreign)


def test_defaults_cover_every_task() -> None:
    assert set(DEFAULTS) == {task.name for task in tiny_generator().vocabulary.tasks}
