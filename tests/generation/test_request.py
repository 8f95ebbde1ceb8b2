"""Whatever a caller gives `generate`: a result, or one line that names it."""

import decimal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from jaxtyping import config

from generation.fakes import hum, picture, tiny_generator
from trimask.errors import UserError
from trimask.generation.length import EmptySpanWarning, SpanTooShortWarning

WHOLE: dict[str, dict[str, Any]] = {
    "text": {"span_length": 3},
    "text_to_image": {"prompt": "a hat"},
    "image_to_text": {"image": picture(), "span_length": 3},
    "text_to_speech": {"prompt": "a hat", "span_length": 3},
    "speech_to_text": {"speech": (hum(), 100), "span_length": 3},
    "joint": {},
}
GENERATOR = tiny_generator()
OPTIONS = (
    *("prompt", "image", "speech", "pair", "voice", "seed", "num_samples", "numbers", "batch_size"),
    *("num_steps", "guidance_scale", "temperature", "top_p", "span_length", "config", "raw_prompt"),
    *("negative_prompt", "guides"),
)
shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)
anything = st.one_of(
    st.integers(-3, 40) | st.sampled_from([2**31, 2**63, 10**9, 10**30, -(2**63)]),
    st.floats() | st.booleans() | st.none() | st.complex_numbers(),
    st.text(max_size=9) | st.sampled_from(["\udcff", "a\udcffb", "\0", "gone/gone"]),
    st.binary(max_size=9) | st.binary(max_size=9).map(bytearray),
    st.sampled_from([Path("/dev/zero"), Path(), object(), decimal.Decimal(1), len, torch.zeros(9), set()]),
    arrays.arrays(st.sampled_from(["f4", ">f8", "f2", "i1", "u8", "i8", "?", "c8", "M8[s]", "U2"]), shapes),
    st.sampled_from(["1", "L", "P", "I", "F", "I;16", "CMYK", "LAB", "RGBa"]).flatmap(
        lambda mode: st.builds(PIL.Image.new, st.just(mode), st.tuples(*[st.integers(0, 40)] * 2))
    ),
)
several = (
    st.lists(anything, max_size=3) | st.tuples(anything, anything) | st.dictionaries(st.text(), anything)
)
rates = st.integers(-1, 10**6) | st.floats() | st.none() | st.text(max_size=3)
recordings = st.tuples(arrays.arrays(arrays.floating_dtypes() | arrays.integer_dtypes(), shapes), rates)


@pytest.fixture(scope="module", autouse=True)
def as_users_run_it() -> Iterator[None]:
    """Without the checks of types that tests have and users have not."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@settings(max_examples=100)
@given(
    task=st.sampled_from(list(WHOLE)), name=st.sampled_from(OPTIONS), value=anything | several | recordings
)
def test_any_option(task: str, name: str, value: object) -> None:
    asked = {"num_steps": 1, **WHOLE[task], name: value}
    if isinstance(asked["num_steps"], int) and asked["num_steps"] > 40:
        return  # many steps are no fault
    is_told(task, asked)


@settings(max_examples=40)
@given(value=anything | recordings | st.tuples(st.just(hum(40)), rates))
def test_any_recording(value: object) -> None:
    is_told("speech_to_text", {"num_steps": 1, "span_length": 3, "speech": value})


@given(task=anything | several)
def test_any_task(task: object) -> None:
    is_told(task, {"num_steps": 1})


def is_told(task: Any, asked: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpanTooShortWarning)
        warnings.simplefilter("ignore", EmptySpanWarning)
        try:
            assert GENERATOR.generate_many(task, **asked)
        except ValueError as error:
            told = str(error)
            assert told and "\n" not in told and ":" in told and type(error) is UserError, told


@pytest.mark.parametrize(
    ("task", "name", "value", "match"),
    [
        ("text", "num_steps", True, "num_steps is True: give a whole number"),
        ("text", "seed", None, "seed is None: give a whole number"),
        ("text", "seed", "1", "seed is '1': give a whole number"),
        ("text", "numbers", [1.0], r"numbers is \[1.0\]: give a list of whole numbers"),
        ("text", "temperature", "hot", "temperature is 'hot': give a number"),
        ("text", "raw_prompt", 1, "raw_prompt is 1: give True or False"),
        ("text", "config", {}, "config is {}: give a SamplerConfig"),
        ("text_to_image", "prompt", "a\udcffb", "prompt is 'a.*b': give text"),
        ("text", "voice", "a" * 100_000, "voice 'a{3,30}[.]{3}a+' has no effect on task text"),
        ("text", "numbers", np.zeros((1, 1), int), "numbers is an array of shape"),
        ("text", "numbers", np.zeros((), int), "numbers is an array of shape"),
        ("text_to_speech", "voice", "z" * 100_000, "the prompt takes 100007 tokens, but the limit is 256"),
        ("text_to_image", "prompt", ["a", 3], "prompt is 3: give text"),
        (
            "image_to_text",
            "image",
            np.zeros((8, 8, 3), "u1"),
            r"shape \(8, 8, 3\) of uint8: give a PIL image",
        ),
        ("image_to_text", "image", np.zeros((4, 2)), r"shape \(4, 2\) of float64: give a PIL image"),
        ("speech_to_text", "speech", torch.zeros(9), "speech is tensor.*: give .waveform, rate in Hz."),
        ("speech_to_text", "speech", (np.zeros(4000), 1), "speech lasts 4000 s at 1 Hz: give at most 600 s"),
        ("speech_to_text", "speech", np.zeros((0, 2), int), "the speech condition is empty: give at least"),
        ("speech_to_text", "speech", np.ma.masked_all(99), "speech is a masked array of shape"),
        ("speech_to_text", "speech", np.zeros(99, "m8[s]"), r"shape \(99,\) of timedelta64"),
        ("speech_to_text", "speech", "", "speech is '': give"),
        ("speech_to_text", "speech", Path(), ". is a folder, not a file: name the file inside"),
        ("image_to_text", "image", "a\0b", "image is 'a.x00b': give"),
        ("image_to_text", "image", "/dev/zero", "is a pipe or a device, not a file"),
        ("image_to_text", "image", np.ma.masked_all((4, 2), int), "image is a masked array of shape"),
        ("image_to_text", "image", np.zeros((4, 2), "m8[s]"), r"of timedelta64\[s\]: give a PIL image"),
        ("image_to_text", "image", PIL.Image.new("RGB", (0, 5)), "the picture has 0 x 5 pixels"),
        ("speech_to_text", "speech", np.zeros((70_000, 2), int), "70000 frames of codes"),
    ],
)
def test_what_is_told(task: str, name: str, value: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        GENERATOR.generate_many(task, **{**WHOLE[task], name: value})


@pytest.mark.parametrize(
    ("prompt", "num_frames", "match"),
    [
        (None, 6, "a filmstrip needs a prompt"),
        (["a hat"], 6, r"prompt is \['a hat'\]: give text"),
        ("a hat", 1, "num_frames is 1: give at least 2"),
        ("a hat", 10**6, "num_frames is 1000000: give at least 2, .* at most 1,000"),
    ],
)
def test_what_is_told_of_a_filmstrip(prompt: Any, num_frames: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        GENERATOR.filmstrip(prompt, num_frames=num_frames)
