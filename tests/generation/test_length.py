"""The length policy, and the warnings about lengths."""

import warnings
from dataclasses import replace
from typing import Any

import pytest

from generation.fakes import tiny_generator
from trimask.generation.length import (
    EmptySpanWarning,
    LengthPolicy,
    SpanTooShortWarning,
    say_how_to_lengthen,
    say_why_empty,
    warn_of_length,
)
from trimask.sampling import (
    Confidence,
    Given,
    Grown,
    LengthRule,
    LowestEntropy,
    Predicted,
    SamplerConfig,
    Threshold,
)
from trimask.sampling.order import ScoredOrder
from trimask.vocabulary.sequence import Sequence


def test_a_bad_length_is_named() -> None:
    with pytest.raises(ValueError, match=r"frames_per_character is 0\.0"):
        LengthPolicy(frames_per_character=0.0)


def test_length_policy() -> None:
    policy = LengthPolicy(frames_per_character=2.0, margin=0.5, silence_frames=4, extra_characters=3)
    assert policy.estimate_speech_frames(10) == 36
    assert policy.estimate_transcript_length(20) == 15
    assert policy.at(25) == policy
    # Twice the frames for the same sentence, and the same sentence for twice the frames.
    assert policy.at(50.0).estimate_speech_frames(10) == 72
    assert policy.at(50.0).estimate_transcript_length(40) == 15


def test_length_warnings() -> None:
    said: dict[str, Any] = {"span_length": 7, "too_short": "raise span_length", "empty": "try"}
    said["stacklevel"] = 1
    with pytest.warns(SpanTooShortWarning, match=r"span of 7 tokens and may be cut short: raise span_length"):
        warn_of_length("text", is_complete=False, is_empty=False, **said)
    with pytest.warns(EmptySpanWarning, match="speech is empty: its end token came first; try"):
        warn_of_length("speech", is_complete=True, is_empty=True, **said)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_length("text", is_complete=True, is_empty=False, **said)


@pytest.mark.parametrize(
    ("config", "is_named"),
    [
        (SamplerConfig(num_steps=16, order=Confidence()), True),
        (SamplerConfig(num_steps=16, order=LowestEntropy()), True),
        (SamplerConfig(count=Threshold(probability=0.5)), True),
        (SamplerConfig(num_steps=16, order=Confidence(), ends_last=True), False),
        (SamplerConfig(num_steps=16, order=Confidence(), block_length=4), False),
        (SamplerConfig(num_steps=16), False),
    ],
    ids=repr,
)
def test_a_sampler_that_floods_is_named(config: SamplerConfig, is_named: bool) -> None:
    assert config.may_flood == is_named
    said = say_why_empty("text", config)
    assert ("block_length to a few tokens" in said) == is_named
    has_ends_last = is_named and isinstance(config.order, ScoredOrder)
    assert ("set sampler.text.ends_last to true" in said) == has_ends_last


def test_what_to_do_about_a_span_that_is_too_short() -> None:
    codecs = tiny_generator().codecs
    text, both = codecs.document("text", {}), codecs.document("joint", {}, pair="speech")
    plain = SamplerConfig(num_steps=4)

    def say(document: Sequence, length: LengthRule) -> str:
        return say_how_to_lengthen(document, "text", replace(plain, length=length))

    assert say(text, Given()) == "raise span_length, or set sampler.text.length to Grown"
    assert say(both, Given()) == (
        "set sampler.joint.length to Grown, try another seed, or raise LengthPolicy.spoken_characters"
    )
    assert say(text, Predicted()) == (
        "set sampler.text.length to Grown, with Predicted(quantile=0.99) as its first"
    )
    assert say(text, Grown(most=3.0)) == "try another seed, or raise Grown.most (now 3)"
