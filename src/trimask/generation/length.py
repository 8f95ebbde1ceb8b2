"""The length policy: the number of frames of each span of unknown length.

A masked model fills a span of fixed size. Text and speech spans are somewhat longer than the expected
content, which the end token closes; whatever follows it is discarded. The model may be asked for a shorter
span, and a full one continued (`trimask.sampling.length`). If no end token is generated, the span may have
been too short: `SpanTooShortWarning` reports it, and the result is marked incomplete. Nothing is cut
silently.

    speech:      ceil((silence + frames_per_character · characters) · (1 + margin))
    transcript:  ceil((frames - silence) / frames_per_character · (1 + margin)) + extra characters
    caption, text passage, and unconditional targets: a constant
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import final

from trimask.errors import UserError
from trimask.generation.doubts import doubt
from trimask.sampling.config import SamplerConfig
from trimask.sampling.length import Given, Grown
from trimask.sampling.order import FixedOrder
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence
from trimask.vocabulary.task import Task
from trimask.vocabulary.transcript import is_transcript

_MEASURED_AT = 25.0


class SpanTooShortWarning(UserWarning):
    """No end token was generated: the content may continue beyond its span."""


class EmptySpanWarning(UserWarning):
    """The end token came first: the content is empty."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LengthPolicy:
    """Sizes of spans. Rates are measured on the training data and hold for one voice and frame rate. A
    character is a UTF-8 byte, as in spelled text.

    Attributes:
        frames_per_character: speech frames per character of the spoken sentence (without the voice tag).
        silence_frames: speech frames before and after the words.
        margin: slack beyond the expected length, as a fraction of it; training has up to 30 % (`SpanSlack`).
        extra_characters: additional slack in transcripts, for the voice tag and the end token.
        caption_length: tokens of an image's caption, its end included.
        text_length: tokens of a text passage.
        joint_caption_length: tokens of a caption that is generated together with its image. Shorter than
            `caption_length`: only captions conditioned on an image are filled to that length in training.
        spoken_characters: characters of a sentence that is generated together with its speech.
        caption_characters: characters of a caption that is spoken, for the speech of `triple`.
        max_prompt: the most tokens that a prompt may have.
        others: frames of a span of any other modality, by name.
    """

    # Least squares over the 2,590 training clips of slt, captions and sentences apart: 1.33-1.40 and 13-14
    # frames (410 of rms: 1.57 and 11).
    frames_per_character: float = 1.4
    silence_frames: int = 13
    margin: float = 0.2
    extra_characters: int = 8
    caption_length: int = 24
    text_length: int = 128
    joint_caption_length: int = 8
    spoken_characters: int = 40
    caption_characters: int = 14
    max_prompt: int = 256
    others: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.frames_per_character < math.inf:
            raise UserError(
                f"LengthPolicy.frames_per_character is {self.frames_per_character}: give a positive number"
            )
        if not 0 <= self.margin < math.inf:
            raise UserError(f"LengthPolicy.margin is {self.margin}: give a number of at least 0")
        for name in (
            "caption_length",
            "text_length",
            "joint_caption_length",
            "spoken_characters",
            "caption_characters",
            "max_prompt",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"LengthPolicy.{name} is {getattr(self, name)}: give at least 1")
        for name, frames in self.others.items():
            if frames < 1:
                raise UserError(f"LengthPolicy.others.{name} is {frames}: give at least 1")
        for name in ("silence_frames", "extra_characters"):
            if getattr(self, name) < 0:
                raise UserError(f"LengthPolicy.{name} is {getattr(self, name)}: give at least 0")

    def at(self, frame_rate: float | int) -> "LengthPolicy":
        """Convert these lengths from 25 frames/s to a speech tokenizer of `frame_rate` (frames/s)."""
        ratio = frame_rate / _MEASURED_AT
        return replace(
            self,
            frames_per_character=self.frames_per_character * ratio,
            silence_frames=math.ceil(self.silence_frames * ratio),
        )

    def estimate_speech_frames(self, num_characters: int) -> int:
        """Return the span length in frames for a sentence of `num_characters`."""
        expected = self.silence_frames + self.frames_per_character * num_characters
        return math.ceil(expected * (1 + self.margin))

    def estimate_transcript_length(self, num_frames: int) -> int:
        """Return the span length in characters for `num_frames` of speech."""
        expected = max(num_frames - self.silence_frames, 0) / self.frames_per_character
        return math.ceil(expected * (1 + self.margin)) + self.extra_characters

    def frames_of(self, modality: str, spans: Collection[str], known: Mapping[str, int]) -> int:
        """Return the frames of a variable-length span of `modality` in a sequence of `spans`.

        Args:
            known: lengths of the condition spans: characters of text, frames of other modalities.

        Raises:
            UserError: the policy has no length for the modality.
        """
        is_spoken = is_transcript(spans)
        if modality == "text":
            if "speech" in known:
                return self.estimate_transcript_length(known["speech"])
            if len(spans) == 1:
                return self.text_length
            if is_spoken:
                return self.spoken_length
            return self.caption_length if known else self.joint_caption_length
        if modality == "speech":
            expected = self.spoken_characters if is_spoken else self.caption_characters
            return self.estimate_speech_frames(known.get("text", expected))
        if modality not in self.others:
            raise UserError(
                f"the length of {modality} is not known: give span_length, or set LengthPolicy.others"
            )
        return self.others[modality]

    @property
    def spoken_length(self) -> int:
        """Span length in characters of a sentence generated together with its speech."""
        return math.ceil(self.spoken_characters * (1 + self.margin)) + self.extra_characters


def check_length_rule(
    vocabulary: Vocabulary, task: Task, spans: Collection[str], config: SamplerConfig
) -> None:
    """Raise UserError if a length rule was chosen and no target's length is for it to say."""
    targets = task.targets_of(spans)
    if isinstance(config.length, Given) or any(vocabulary.space(m).has_end for m in targets):
        return
    raise UserError(
        f"the length rule {config.length!r} has nothing to act on: the size of {targets[0]} is fixed; set "
        f"sampler.{task.name}.length to Given"
    )


def warn_of_length(
    what: str,
    *,
    span_length: int,
    is_complete: bool,
    is_empty: bool,
    too_short: str,
    empty: str,
    stacklevel: int,
) -> None:
    """Warn if a span has no end token, or nothing before it.

    Args:
        what: its modality.
        too_short: how to give it more room.
        empty: why it may be empty, and what helps.
    """
    if not is_complete:
        span = f"its span of {span_length} {'tokens' if what == 'text' else 'frames'}"
        message = f"the {what} did not end within {span} and may be cut short: {too_short}"
        doubt(message, SpanTooShortWarning, stacklevel=stacklevel + 1)
    elif is_empty:
        message = f"the {what} is empty: its end token came first; {empty}"
        doubt(message, EmptySpanWarning, stacklevel=stacklevel + 1)


def say_how_to_lengthen(document: Sequence, modality: str, config: SamplerConfig) -> str:
    """Say how to give a span more room."""
    if isinstance(config.length, Grown):
        return f"try another seed, or raise Grown.most (now {config.length.most:g})"
    grow = f"set sampler.{document.task.name}.length to Grown"
    if not isinstance(config.length, Given):
        return f"{grow}, with {config.length!r} as its first"
    if len(document.task.targets_of(list(document.spans))) == 1:
        return f"raise span_length, or {grow}"
    if is_transcript(document.spans):
        return f"{grow}, try another seed, or raise LengthPolicy.spoken_characters"
    names = {"text": "joint_caption_length", "speech": "caption_characters"}
    name = names.get(modality, "others")
    return f"{grow}, try another seed, or raise LengthPolicy.{name}"


def say_why_empty(task: str, config: SamplerConfig) -> str:
    """Say why a span of `task` may be empty, and what helps."""
    if not config.may_flood:
        return "try another seed or more training"
    path = f"sampler.{task}"
    by = "count" if isinstance(config.order, FixedOrder) else "order"
    held_back = "" if by == "count" else f"{path}.ends_last to true, "
    return (
        f"the {by} {type(getattr(config, by)).__name__} takes the surest tokens first, and ends may be surer "
        f"than words: set {held_back}{path}.block_length to a few tokens, or {path}.{by} to "
        f"{'Scheduled' if by == 'count' else 'Random'}"
    )
