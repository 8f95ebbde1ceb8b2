"""Templates: from the codes of an example to one sequence of slots.

A *slot* holds one token. A *position* is one place in the transformer; the codebook layout decides which
slots share one. Every template reads

    task token | for each span: begin boundary, the span's slots, close boundary

with the clean condition (if any) first and the targets after it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int

from trimask.errors import UserError
from trimask.vocabulary.alignment import SPEECH, TEXT, TextAlignment
from trimask.vocabulary.axes import span_coordinates
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.task import Task


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Sequence:
    """One document: tokens, and what the model and the loss need to know about each.

    Attributes:
        task: the task, which names what to generate.
        task_number: its number in the vocabulary.
        tokens: clean token ids.
        range_index: codebook range of each slot (`Vocabulary.ranges`), -1 for special tokens.
        position: transformer position of each slot, from 0.
        maskable: target slots: the ones that are masked in training and filled in sampling.
        is_condition: condition slots, replaced by mask tokens for guidance; never part of the loss.
        coordinates: rotary coordinates of each position on two axes, which may differ on pictures.
        spans: slots [start, stop) of each modality's frames × codebooks, in order.
        prefix_length: positions before the first target span (the task token, and the conditions with their
            boundaries); 0 if no condition comes first.
    """

    task: Task
    task_number: int
    tokens: Int[np.ndarray, "slots"]
    range_index: Int[np.ndarray, "slots"]
    position: Int[np.ndarray, "slots"]
    maskable: Bool[np.ndarray, "slots"]
    is_condition: Bool[np.ndarray, "slots"]
    coordinates: Float[np.ndarray, "positions 2"]
    spans: Mapping[str, tuple[int, int]]
    prefix_length: int

    @property
    def num_slots(self) -> int:
        return len(self.tokens)

    @property
    def num_positions(self) -> int:
        return len(self.coordinates)


def build_sequence(
    vocabulary: Vocabulary,
    task: str,
    codes: Mapping[str, Int[np.ndarray, "frames codebooks"]],
    *,
    num_end: Mapping[str, int] | None = None,
) -> Sequence:
    """Build the sequence of `task` for an example with `codes` per modality.

    Args:
        task: its name.
        codes: (frames, codebooks) per modality that the task has.
        num_end: end frames appended inside a *target* span of variable length; none by default. Conditions
            never have one.

    Raises:
        UserError: an unknown task, modalities that differ from the task's, or codes out of range.
    """
    row = vocabulary.task(task)
    builder = _Builder(vocabulary, row)
    for modality in row.spans_of(codes):
        is_target = modality not in row.condition
        ends = (num_end or {}).get(modality, 0) if is_target else 0
        builder.add_span(modality, vocabulary.tokens(modality, codes[modality], ends), is_target=is_target)
    return builder.finish()


def exchange_conditions(
    sequence: Sequence, vocabulary: Vocabulary, codes: Mapping[str, Int[np.ndarray, "frames codebooks"]]
) -> Sequence:
    """Return the sequence with other codes, of any length, in some of its conditions. Its targets stay: the
    same slots of their spans hold the same tokens, or are to be filled.

    Raises:
        UserError: a modality that is no condition of it, an empty condition, or codes out of range.
    """
    task = sequence.task
    for modality in codes:
        if modality not in task.condition:
            raise UserError(f"{modality} is no condition of task {task.name}: give one of {task.condition}")
    builder = _Builder(vocabulary, task)
    maskable = []
    for modality, (start, stop) in sequence.spans.items():
        is_target = modality not in task.condition
        num_codebooks = vocabulary.space(modality).num_codebooks
        if modality in codes:
            tokens = vocabulary.tokens(modality, codes[modality])
        else:
            tokens = sequence.tokens[start:stop].reshape(-1, num_codebooks)
        builder.add_span(modality, tokens, is_target=is_target)
        if is_target:
            maskable.append(sequence.maskable[start:stop])
    exchanged = builder.finish()
    is_to_fill = exchanged.maskable.copy()
    is_to_fill[exchanged.maskable] = np.concatenate(maskable)
    return replace(exchanged, maskable=is_to_fill)


def drop_conditions(
    sequence: Sequence, vocabulary: Vocabulary, modalities: Collection[str] | None = None
) -> Sequence:
    """Return the sequence with mask tokens in place of its conditions, as in training for guidance; of all of
    them, or of some modalities.
    """
    chosen = sequence.task.condition if modalities is None else modalities
    tokens = sequence.tokens.copy()
    for modality in chosen:
        start, stop = sequence.spans[modality]
        tokens[start:stop] = vocabulary.mask(modality)
    return replace(sequence, tokens=tokens)


def take_targets(sequence: Sequence, other: Sequence) -> Sequence:
    """Return the sequence with the targets of another one of the same task and lengths: their tokens, and
    which of them are to be filled.
    """
    tokens, maskable = sequence.tokens.copy(), sequence.maskable.copy()
    for modality in other.task.targets_of(list(other.spans)):
        here, there = slice(*sequence.spans[modality]), slice(*other.spans[modality])
        tokens[here], maskable[here] = other.tokens[there], other.maskable[there]
    return replace(sequence, tokens=tokens, maskable=maskable)


def resize_spans(vocabulary: Vocabulary, sequence: Sequence, num_frames: Mapping[str, int]) -> Sequence:
    """Rebuild `sequence` with target spans of other lengths.

    The frames that a span keeps hold their tokens, and what is maskable of them stays so; frames that it
    gains are to be generated, and hold codes of 0.

    Args:
        num_frames: of each target span that changes, by modality.
    """
    builder = _Builder(vocabulary, sequence.task)
    kept: list[np.ndarray] = []
    for modality, (start, stop) in sequence.spans.items():
        is_target = modality not in sequence.task.condition
        codebooks = vocabulary.space(modality).num_codebooks
        tokens = sequence.tokens[start:stop].reshape(-1, codebooks)
        maskable = sequence.maskable[start:stop]
        length = num_frames.get(modality, len(tokens))
        assert is_target or modality not in num_frames
        gained = max(length - len(tokens), 0)
        added = vocabulary.tokens(modality, np.zeros((gained, codebooks), dtype=np.int64))
        builder.add_span(modality, np.concatenate([tokens, added])[:length], is_target=is_target)
        kept.append(np.concatenate([maskable, np.full(added.size, True)])[: length * codebooks])
    found = builder.finish()
    maskable = found.maskable.copy()
    for (start, stop), of_span in zip(found.spans.values(), kept, strict=True):
        maskable[start:stop] = of_span
    return replace(found, maskable=maskable)


class _Builder:
    """Appends spans and keeps the running slot, position and coordinate."""

    def __init__(self, vocabulary: Vocabulary, task: Task):
        self.vocabulary = vocabulary
        self.task = task
        self.tokens: list[np.ndarray] = []
        self.ranges: list[np.ndarray] = []
        self.positions: list[np.ndarray] = []
        self.maskable: list[np.ndarray] = []
        self.condition: list[np.ndarray] = []
        self.coordinates: list[np.ndarray] = []
        self.spans: dict[str, tuple[int, int]] = {}
        self.position_spans: dict[str, tuple[int, int]] = {}
        self.num_frames: dict[str, int] = {}
        self.num_slots = self.num_positions = 0
        self.prefix_length: int | None = None  # until the first target
        self.coordinate = 0.0
        self._special(vocabulary.task_token(task.name))

    def _special(self, token: int) -> None:
        one = np.ones(1, dtype=np.int64)
        self._append(one * token, -one, 0 * one, False, False, np.zeros((1, 2)), advance=1.0)

    def _append(
        self,
        tokens: Int[np.ndarray, " slots"],
        ranges: Int[np.ndarray, " slots"],
        positions: Int[np.ndarray, " slots"],
        is_target: bool,
        is_condition: bool,
        coordinates: Float[np.ndarray, "positions 2"],
        advance: float,
    ) -> None:
        self.tokens.append(tokens)
        self.ranges.append(ranges)
        self.positions.append(positions + self.num_positions)
        self.maskable.append(np.full(len(tokens), is_target))
        self.condition.append(np.full(len(tokens), is_condition))
        self.coordinates.append(coordinates + self.coordinate)
        self.num_slots += len(tokens)
        self.num_positions += len(coordinates)
        self.coordinate += advance

    def add_span(self, modality: str, tokens: np.ndarray, *, is_target: bool) -> None:
        space, layout = self.vocabulary.space(modality), self.vocabulary.layout(modality)
        num_frames = len(tokens)
        if num_frames == 0 and not is_target:
            raise UserError(f"the {modality} condition is empty: give at least one code")
        if space.grid is not None and num_frames != space.grid[0] * space.grid[1]:
            raise UserError(
                f"a span of {modality} has {space.grid[0]}×{space.grid[1]} cells, not {num_frames}"
            )
        if is_target and self.prefix_length is None:
            self.prefix_length = self.num_positions if self.spans else 0
        self._special(self.vocabulary.begin(modality))
        self.num_frames[modality] = num_frames
        num_positions = layout.num_positions(num_frames, space.num_codebooks)
        coordinates, advance = span_coordinates(
            space.grid, num_positions, max(num_frames, 1), self.vocabulary.picture_axes
        )
        self.spans[modality] = (self.num_slots, self.num_slots + tokens.size)
        self.position_spans[modality] = (self.num_positions, self.num_positions + num_positions)
        ranges = np.array([r.index for r in self.vocabulary.ranges_of(modality)], dtype=np.int64)
        self._append(
            tokens.reshape(-1),
            np.tile(ranges, num_frames),
            layout.positions(num_frames, space.num_codebooks).reshape(-1).astype(np.int64),
            is_target,
            not is_target,
            coordinates,
            advance,
        )
        self._special(self.vocabulary.close(modality))

    def finish(self) -> Sequence:
        coordinates = np.concatenate(self.coordinates)
        if {TEXT, SPEECH} <= self.position_spans.keys():
            spans = self.position_spans[TEXT], self.position_spans[SPEECH]
            _align_text(coordinates, *spans, self.num_frames[SPEECH], self.vocabulary.alignment)
        return Sequence(
            task=self.task,
            task_number=self.vocabulary.task_number(self.task.name),
            tokens=np.concatenate(self.tokens),
            range_index=np.concatenate(self.ranges),
            position=np.concatenate(self.positions),
            maskable=np.concatenate(self.maskable),
            is_condition=np.concatenate(self.condition),
            coordinates=coordinates.astype(np.float32),
            spans=self.spans,
            prefix_length=self.prefix_length or 0,
        )


def _align_text(
    coordinates: np.ndarray,
    text: tuple[int, int],
    speech: tuple[int, int],
    num_frames: int,
    alignment: TextAlignment,
) -> None:
    """Move the transcript's coordinates to the speech's axis, where a frame may take several positions."""
    (text_start, text_stop), (speech_start, speech_stop) = text, speech
    if text_stop > text_start and num_frames:
        first = coordinates[speech_start, 0]
        per_frame = (speech_stop - speech_start) / num_frames
        frames = alignment.frames(text_stop - text_start, num_frames)
        if frames is None:
            return
        coordinates[text_start:text_stop] = (first - 0.5 + (frames + 0.5) * per_frame)[:, None]
