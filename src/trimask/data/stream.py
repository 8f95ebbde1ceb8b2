"""The stream of training batches: from mixture indices to packed sequences."""

import itertools
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from typing import final

import numpy as np

from trimask import rng
from trimask.data.mixture import Component, Mixture, mean_as_drawn
from trimask.errors import UserError
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence
from trimask.vocabulary.task import Task

_MOST_ENDS, _MOST_SLACK = 1 << 16, 100.0  # sequences of more than that fit no machine
_LAST = np.nextafter(1.0, 0.0)  # the largest uniform


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SpanSlack:
    """The number of end frames that close a target span of variable length.

    A model trained only on spans of exactly the right length could not find the end of the content in the
    longer spans that generation must use. So a span has 1 + U{0 … slack} end frames, where slack is the
    larger of `minimum` and `fraction` of the content. A text passage that fills the data's window was cut, or
    leaves no room, and has no end.

    Attributes:
        filled: tasks whose targets are filled up to a random length within so many frames instead.
    """

    minimum: int = 4
    fraction: float = 0.3
    filled: dict[str, int] = field(default_factory=lambda: {"image_to_text": 24})

    def __post_init__(self) -> None:
        lengths = {f"filled.{task}": length for task, length in self.filled.items()}
        for name, value in {"minimum": self.minimum, **lengths}.items():
            if not 0 <= value <= _MOST_ENDS:
                raise UserError(f"SpanSlack.{name} is {value}: give at least 0 and at most {_MOST_ENDS:,}")
        if not 0 <= self.fraction <= _MOST_SLACK:
            raise UserError(
                f"SpanSlack.fraction is {self.fraction}: give at least 0 and at most {_MOST_SLACK}"
            )

    def num_end(self, task: Task, space: CodeSpace, length: int, uniform: float, *, text_window: int) -> int:
        """Return the end frames of a span of `length` content frames, given a uniform in [0, 1); passages are
        cut to `text_window` ids.
        """
        if not space.has_end or (task.is_alone and length >= text_window):
            return 0
        slack = max(self.minimum, int(self.fraction * length))
        if task.name in self.filled:
            slack = max(self.filled[task.name] - length - 1, 0)
        return 1 + int(uniform * (slack + 1))

    def most_end(self, task: Task, space: CodeSpace, length: int, *, text_window: int) -> int:
        """Return the maximum of `num_end`."""
        return self.num_end(task, space, length, _LAST, text_window=text_window)

    def mean_end(self, task: Task, space: CodeSpace, length: int, *, text_window: int) -> float:
        """Return the mean of `num_end` over the uniform; its values are equally likely."""
        least = self.num_end(task, space, length, 0.0, text_window=text_window)
        return (least + self.most_end(task, space, length, text_window=text_window)) / 2


@final
class TrainingStream:
    """Update n of the run takes sequences [n × batch, (n + 1) × batch) of the mixture."""

    def __init__(
        self,
        mixture: Mixture,
        vocabulary: Vocabulary,
        *,
        slack: SpanSlack,
        text_window: int,
        physical_batch: int,
        row_length: int | None,
    ):
        if physical_batch < 1:
            raise UserError(f"physical_batch {physical_batch}: a step needs at least one sequence")
        self.mixture = mixture
        self.vocabulary = vocabulary
        self.slack = slack
        self.text_window = text_window
        self.physical_batch = physical_batch
        self.row_length = row_length

    @property
    def tasks(self) -> frozenset[str]:
        """Names of the tasks of the mixture."""
        return frozenset(component.task for component in self.mixture.config.components)

    def target_tokens(self) -> tuple[float, ...]:
        """Return the expected target tokens of a sequence per modality, in the vocabulary's order: codes
        (frames × codebooks) and end frames.
        """
        totals = dict.fromkeys(self.vocabulary.modalities, 0.0)
        for component, share in zip(self.mixture.config.components, self.mixture.shares, strict=True):
            source = self.mixture.sources[component.source]
            task, counts = self.vocabulary.task(component.task), source.num_codes
            for modality in task.targets_of(list(counts)):
                codes, space = counts[modality], self.vocabulary.space(modality)
                books = space.num_codebooks
                frames, place = np.unique(codes // books, return_inverse=True)
                ends = [
                    self.slack.mean_end(task, space, n, text_window=self.text_window) for n in frames.tolist()
                ]
                mean = mean_as_drawn(
                    (frames + ends)[place], source.groups, self.mixture.config.group_exponent
                )
                totals[modality] += float(share) * books * mean
        return tuple(totals.values())

    def sequence(self, index: int) -> Sequence:
        """Build sequence `index` of the run."""
        return self._sequence(index, *self.mixture.example(index))

    def batch(self, step: int, *, rank: int = 0, num_parts: int = 1) -> Batch:
        """Build part `rank` of the batch of `step`, longest sequences first, so that documents of equal
        length are adjacent and attend in one call.

        UserError: there are fewer sequences than parts.
        """
        if self.physical_batch < num_parts:
            raise UserError(
                f"physical_batch {self.physical_batch}: each of {num_parts} processes needs a sequence"
            )
        members = {
            index: self.mixture.example(index)
            for index in range(step * self.physical_batch, (step + 1) * self.physical_batch)
        }
        indices = list(members)
        if num_parts > 1:
            sizes = [self._size(*member) for member in members.values()]
            indices = [indices[place] for place in deal(sizes, rank=rank, num_parts=num_parts)]
        sequences = [self._sequence(index, *members[index]) for index in indices]
        order = sorted(range(len(sequences)), key=lambda i: -sequences[i].num_positions)
        return make_batch(
            [sequences[i] for i in order],
            [indices[i] for i in order],
            row_length=self.row_length,
            update=[
                (index, self.vocabulary.task_number(component.task))
                for index, (component, _) in members.items()
            ],
        )

    def batches(self, start: int, *, rank: int = 0, num_parts: int = 1) -> Iterator[Batch]:
        """Yield part `rank` of the batches from step `start` on, endlessly."""
        for step in itertools.count(start):
            yield self.batch(step, rank=rank, num_parts=num_parts)

    def _sequence(self, index: int, component: Component, example: int) -> Sequence:
        codes = self.mixture.sources[component.source].example(example)
        draw = rng.generator(self.mixture.seed, "slack", index).random(len(self.vocabulary.spaces))
        return build_sequence(
            self.vocabulary,
            component.task,
            codes,
            num_end=target_ends(
                self.slack, self.vocabulary, component.task, codes, draw, text_window=self.text_window
            ),
        )

    def _size(self, component: Component, example: int) -> int:
        """Return the positions of an example without end frames, without reading its codes."""
        positions = 0
        for modality, counts in self.mixture.sources[component.source].num_codes.items():
            num_codebooks = self.vocabulary.space(modality).num_codebooks
            frames = int(counts[example]) // num_codebooks
            positions += self.vocabulary.layout(modality).num_positions(frames, num_codebooks)
        return positions


def deal(sizes: Rows[int], *, rank: int, num_parts: int) -> list[int]:
    """Return the indices of the items of part `rank`: dealt from largest to smallest, back and forth, so that
    parts have similar total sizes, and item counts that differ by at most one.
    """
    order = sorted(range(len(sizes)), key=lambda place: (-sizes[place], place))
    rounds = [order[start : start + num_parts] for start in range(0, len(order), num_parts)]
    places = [rank if number % 2 == 0 else num_parts - 1 - rank for number in range(len(rounds))]
    return [row[place] for row, place in zip(rounds, places, strict=True) if place < len(row)]


def target_ends(
    slack: SpanSlack,
    vocabulary: Vocabulary,
    task: str,
    codes: Mapping[str, np.ndarray],
    uniforms: np.ndarray,
    *,
    text_window: int,
) -> dict[str, int]:
    """Return the end frames of each target span of an example (`uniforms`: one per modality, in order)."""
    row = vocabulary.task(task)
    return {
        modality: slack.num_end(
            row,
            vocabulary.space(modality),
            len(codes[modality]),
            float(uniforms[vocabulary.modality_number(modality)]),
            text_window=text_window,
        )
        for modality in row.targets_of(list(codes))
    }
