"""The length policy, and the warnings about lengths."""

import warnings

import pytest

from trimask.generation.length import EmptySpanWarning, LengthPolicy, SpanTooShortWarning, warn_of_length


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
    with pytest.warns(SpanTooShortWarning, match="span of 7 tokens.*raise span_length"):
        warn_of_length(
            "text", span_length=7, is_complete=False, is_empty=False, remedy="raise span_length", stacklevel=1
        )
    with pytest.warns(EmptySpanWarning, match="speech is empty"):
        warn_of_length("speech", span_length=7, is_complete=True, is_empty=True, remedy="", stacklevel=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_length("text", span_length=7, is_complete=True, is_empty=False, remedy="", stacklevel=1)
