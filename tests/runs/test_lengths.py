"""Lengths of spans, measured on data of known rates."""

from pathlib import Path

import numpy as np
import pytest

from in_memory import InMemory
from trimask.data.stream import SpanSlack
from trimask.generation.length import LengthPolicy
from trimask.runs.lengths import fit_lengths, load_lengths, save_lengths
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.transcript import transcript


@pytest.fixture(scope="module")
def tokenizers() -> Tokenizers:
    return Tokenizers.load()


def make_speech(tokenizers: Tokenizers, words: list[str], frames: list[int], voice: str) -> InMemory:
    spelled = [tokenizers.text.encode(transcript(each, voice), is_spelled=True) for each in words]
    codes = {
        "text": [np.array(ids)[:, None] for ids in spelled],
        "speech": [np.zeros((n, 4), np.int64) for n in frames],
    }
    return InMemory(name="speech", codes=codes, groups=np.arange(len(words)))


def make_pictures(lengths: list[int]) -> InMemory:
    codes = {
        "text": [np.zeros((n, 1), np.int64) for n in lengths],
        "image": [np.zeros((1, 2), np.int64)] * len(lengths),
    }
    return InMemory(name="images", codes=codes, groups=np.arange(len(lengths)))


def test_rates_are_found_again_whatever_the_script(tokenizers: Tokenizers, tmp_path: Path) -> None:
    """Seven frames of silence, three for each byte."""
    words = [
        "good",
        "good morning",
        "\u0434\u043e\u0431\u0440\u043e\u0435 \u0443\u0442\u0440\u043e",
        "a" * 400,
    ]
    frames = [7 + 3 * len(each.encode()) for each in words]
    speech = make_speech(tokenizers, words, frames, voice="annabel_the_third")
    policy = fit_lengths({"speech": speech}, tokenizers, slack=SpanSlack(), text_window=64, seed=0)
    assert policy.frames_per_character == pytest.approx(3) and policy.silence_frames == 7
    assert policy.text_length == 64 and policy.caption_length == LengthPolicy().caption_length
    assert policy.max_prompt == 400 + len("annabel_the_third: ")
    # The whole transcript, tag included, fits the span that its frames give.
    for each, count in zip(words, frames, strict=True):
        assert policy.estimate_transcript_length(count) > len(transcript(each, "annabel_the_third").encode())
    save_lengths(tmp_path, policy)
    assert load_lengths(tmp_path) == policy and load_lengths(tmp_path / "elsewhere") is None


@pytest.mark.parametrize(("words", "frames"), [(["hi", "hi"], [10, 30]), (["hi", "hello"], [30, 10])])
def test_a_line_that_says_nothing_goes_through_the_origin(
    tokenizers: Tokenizers, words: list[str], frames: list[int]
) -> None:
    speech = make_speech(tokenizers, words, frames, voice="x")
    policy = fit_lengths({"speech": speech}, tokenizers, slack=SpanSlack(), text_window=128, seed=0)
    assert policy.silence_frames == 0
    assert policy.frames_per_character == pytest.approx(40 / len("".join(words)))


def test_captions_have_room(tokenizers: Tokenizers) -> None:
    pictures = make_pictures([*range(1, 101), 700])
    policy = fit_lengths({"images": pictures}, tokenizers, slack=SpanSlack(), text_window=128, seed=0)
    assert policy.caption_length == 97 and policy.joint_caption_length == 53 and policy.max_prompt == 700
    short = fit_lengths(
        {"images": make_pictures([3, 4])}, tokenizers, slack=SpanSlack(), text_window=128, seed=0
    )
    assert short.caption_length == SpanSlack().filled["image_to_text"]
    assert short.max_prompt == LengthPolicy().max_prompt
