"""Measure the span lengths of prepared data, from which generation sizes its spans."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trimask import io
from trimask.config import from_dict, to_dict
from trimask.data.choice import choose
from trimask.data.source import ExampleSource
from trimask.data.source_names import IMAGES, SPEECH
from trimask.data.stream import SpanSlack
from trimask.errors import UserError
from trimask.generation.length import LengthPolicy
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.layout import CodeSpace
from trimask.vocabulary.transcript import parse_transcript

LENGTHS = "lengths.json"
_FIX = "resume the run, which measures it again"
_CLIPS = 4000  # clips to measure rates on, at most
_MOST = 0.95  # share of the captions that fit a caption's span
_TAG_MARKS = 3  # ": " after the voice tag, and an end token


def fit_lengths(
    sources: Mapping[str, ExampleSource],
    tokenizers: Tokenizers,
    *,
    slack: SpanSlack,
    text_window: int,
    seed: int,
    spaces: Sequence[CodeSpace] = (),
) -> LengthPolicy:
    """Fit the length policy of a run to `sources`, its training split; modalities they lack keep the defaults
    [D].

    Speech: least squares of frames on characters, over at most 4,000 clips; silence is not below 0. Captions:
        95 % of them fit, and at least the length filled in training. Passages: the window they were cut to.
        Modalities in `spaces`, which have no tokenizer: 95 % of the spans fit.
    """
    policy = replace(LengthPolicy().at(tokenizers.speech.frame_rate), text_length=text_window)
    if IMAGES in sources:
        captions = sources[IMAGES].num_codes["text"]
        policy = replace(
            policy,
            caption_length=max(slack.filled.get("image_to_text", 0), int(np.quantile(captions, _MOST)) + 1),
            joint_caption_length=int(np.median(captions)) + 2,
            max_prompt=max(policy.max_prompt, int(captions.max())),
        )
    others: dict[str, int] = {}
    for space in spaces:
        counts = [s.num_codes[space.name] for s in sources.values() if space.name in s.num_codes]
        if counts:
            frames = np.concatenate(counts) // space.num_codebooks
            others[space.name] = int(np.quantile(frames, _MOST)) + int(space.has_end)
    policy = replace(policy, others=others)
    if SPEECH in sources:
        policy = _with_speech(policy, sources[SPEECH], tokenizers, seed)
    return policy


def _with_speech(
    policy: LengthPolicy, source: ExampleSource, tokenizers: Tokenizers, seed: int
) -> LengthPolicy:
    characters, frames, tags = [], [], [0]
    for number in choose(source, _CLIPS, seed):
        example = source.example(number)
        voice, words = parse_transcript(tokenizers.text.decode(example["text"][:, 0].tolist()))
        characters.append(len(words.encode()))
        frames.append(len(example["speech"]))
        tags.append(len((voice or "").encode()))
    rate, silence = _line(np.array(characters), np.array(frames))
    typical = max(int(np.median(characters)), 1)
    return replace(
        policy,
        frames_per_character=rate,
        silence_frames=round(silence),
        extra_characters=max(policy.extra_characters, max(tags) + _TAG_MARKS),
        spoken_characters=typical,
        caption_characters=typical,
        max_prompt=max(policy.max_prompt, int(source.num_codes["text"].max())),
    )


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Fit slope and intercept by least squares; through the origin if the intercept is negative or the slope
    not positive.
    """
    spread = x - x.mean()
    slope = float((spread * y).sum() / max((spread**2).sum(), 1e-9))
    intercept = float(y.mean() - slope * x.mean())
    if slope > 0 and intercept >= 0:
        return slope, intercept
    return float(y.sum() / max(x.sum(), 1)), 0.0


def save_lengths(run: Path, policy: LengthPolicy) -> None:
    io.write_sealed(run / LENGTHS, to_dict(policy))


def load_lengths(run: Path) -> LengthPolicy | None:
    """Load the policy that `save_lengths` wrote; None for a run on the embedded data, on which the defaults
    were measured.
    """
    path = run / LENGTHS
    if not os.path.lexists(path):
        return None
    stored = io.read_sealed(path, fix=_FIX)
    try:
        return from_dict(LengthPolicy, stored)
    except ValueError as error:
        raise UserError(f"{path}: {error}; {_FIX}") from error
