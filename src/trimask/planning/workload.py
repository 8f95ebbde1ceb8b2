"""What a run's sequences are, on average, and the work that each takes: from the lengths of its data, which
is not tokenized for it, or of data that is only stated.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from trimask.data.mixture import Component, count_draws, mean_as_drawn, sequence_shares
from trimask.data.selection import DataConfig, PreparedData, QuickstartData, StatedData
from trimask.data.source_names import EMOJI, SPEECHES, SPOKEN, TRIPLES
from trimask.data.stream import target_ends
from trimask.datasets.quickstart import Utterance, load_images, load_text
from trimask.errors import UserError
from trimask.model.flops import forward_flops
from trimask.prepare.manifest import load_split
from trimask.prepare.passages import windows
from trimask.runs.embedded import readings, select_concepts, select_speech, spoken_prompt
from trimask.runs.vocabulary import build_vocabulary
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary import sequence as templates
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.task import Task
from trimask.vocabulary.tokenizer import SpeechCodec

_BACKWARD = 2  # a backward pass takes two products where the forward pass takes one
_MASKED = 0.5  # of the targets, on average over t


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSize:
    """How much a source has.

    Attributes:
        drawn_per_epoch: examples that the mixture draws of it until each group has had its turns; None where
            it is not known.
        codes: of all examples, per modality (frames × codebooks); None likewise.
        mean_codes: of one example, as the mixture draws it.
    """

    drawn_per_epoch: int | None
    codes: Mapping[str, int] | None
    mean_codes: Mapping[str, float]

    @classmethod
    def of(
        cls,
        groups: Sequence[Hashable] | np.ndarray,
        codes: Mapping[str, Sequence[int] | np.ndarray],
        group_exponent: float,
    ) -> "SourceSize":
        """From the group of each example and its codes per modality."""
        numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
        return cls(
            drawn_per_epoch=int(count_draws(np.bincount(numbers), group_exponent).sum()),
            codes={modality: int(np.sum(counts)) for modality, counts in codes.items()},
            mean_codes={m: mean_as_drawn(counts, numbers, group_exponent) for m, counts in codes.items()},
        )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A component of the mixture: its share of the sequences, and a sequence of mean length.

    Attributes:
        positions: of the transformer, with the tokens that open and close spans, and the end frames.
        slots: of a row.
        targets: slots that the loss is on, per modality; half of them are masked on average.
        flops: of the forward and backward passes on a sequence (on a view, with anti-masking) that its update
            needs: products of matrices and attention, nothing computed twice.
    """

    component: Component
    task: Task
    size: SourceSize
    share: float
    positions: int
    slots: int
    targets: Mapping[str, int]
    flops: float


def workload(config: RunConfig, tokenizers: Tokenizers | None) -> tuple[Work, ...]:
    """The work of each component of the mixture, in its order.

    Raises:
        UserError: the data has no source of a component's name.
    """
    vocabulary = build_vocabulary(config, tokenizers)
    sizes = source_sizes(config.data, tokenizers, config.mixture.group_exponent)
    components = config.mixture.components
    for component in components:
        if component.source not in sizes:
            raise UserError(f"the chosen data has no {component.source} for task {component.task}")
    shares = sequence_shares(
        components, {name: size.mean_codes for name, size in sizes.items()}, config.tasks
    )
    return tuple(
        _work(config, vocabulary, component, sizes[component.source], share)
        for component, share in zip(components, shares.tolist(), strict=True)
    )


def _work(
    config: RunConfig, vocabulary: Vocabulary, component: Component, size: SourceSize, share: float
) -> Work:
    """From a sequence of mean length, with as many end frames as are drawn on average."""
    codes = {}
    for modality, count in size.mean_codes.items():
        books = vocabulary.space(modality).num_codebooks
        codes[modality] = np.zeros((max(round(count / books), 1), books), dtype=np.int64)
    ends = target_ends(
        config.slack,
        vocabulary,
        component.task,
        codes,
        np.full(len(vocabulary.spaces), 0.5),
        text_window=config.data.text_window,
    )
    sequence = templates.build_sequence(vocabulary, component.task, codes, num_end=ends)
    counts = np.bincount(sequence.range_index[sequence.maskable], minlength=len(vocabulary.ranges))
    targets = {m: int(counts[[r.index for r in vocabulary.ranges_of(m)]].sum()) for m in codes}
    positions = sequence.num_positions
    flops = float(
        forward_flops(
            config.model,
            num_positions=positions,
            document_length=positions,
            num_predicted=0,
            range_size=0,
            num_read=_num_read(sequence),
        )
    )
    for modality, count in targets.items():
        flops += _MASKED * forward_flops(
            config.model,
            num_positions=0,
            document_length=0,
            num_predicted=count,
            range_size=vocabulary.space(modality).range_size,
        )
    return Work(
        component=component,
        task=vocabulary.task(component.task),
        size=size,
        share=share,
        positions=positions,
        slots=sequence.num_slots,
        targets={modality: count for modality, count in targets.items() if count},
        flops=(1 + _BACKWARD) * flops,
    )


def _num_read(sequence: templates.Sequence) -> float:
    """Positions that hold a masked slot: of one with k targets, at a mask ratio drawn evenly, k / (k + 1)."""
    counts = np.bincount(sequence.position[sequence.maskable], minlength=sequence.num_positions)
    return float((counts / (counts + 1)).sum())


def source_sizes(
    data: DataConfig, tokenizers: Tokenizers | None, group_exponent: float
) -> dict[str, SourceSize]:
    """The sources of the training split, as a mixture of `group_exponent` draws from them."""
    if isinstance(data, StatedData):
        return _stated_sizes(data)
    if isinstance(data, PreparedData):
        found = load_split(data.folders, "train")
        return {
            name: SourceSize.of(source.groups, source.num_codes, group_exponent)
            for name, source in found.items()
        }
    assert tokenizers is not None, "the embedded data is tokenized by someone"
    return _quickstart_sizes(data, tokenizers, group_exponent)


def _stated_sizes(data: StatedData) -> dict[str, SourceSize]:
    return {
        source.name: SourceSize(
            drawn_per_epoch=None,
            codes=None,
            mean_codes={m: float(n) for m, n in source.num_codes(data.spaces).items()},
        )
        for source in data.sources
    }


def _quickstart_sizes(
    data: QuickstartData, tokenizers: Tokenizers, group_exponent: float
) -> dict[str, SourceSize]:
    """As `recipes.tokens.tokenize` makes them, but pictures and audio are not encoded."""
    images = select_concepts(load_images("train"), data)
    speech = select_speech(readings("train", data), data, {row.base for row in images})
    captions = {row.hexcode: len(tokenizers.text.encode(row.caption)) for row in images}
    cells = math.prod(tokenizers.image.grid) * tokenizers.image.num_codebooks
    frames = [_num_codes(row, tokenizers.speech) for row in speech]
    sizes: dict[str, SourceSize] = {}
    if images:
        codes = {"text": list(captions.values()), "image": [cells] * len(images)}
        sizes[EMOJI] = SourceSize.of([row.base for row in images], codes, group_exponent)
    if speech:
        prompts = [spoken_prompt(row.text, row.voice) for row in speech]
        spelled = [len(tokenizers.text.encode(prompt, is_spelled=True)) for prompt in prompts]
        sizes[SPOKEN] = SourceSize.of(
            [row.id for row in speech], {"text": spelled, "speech": frames}, group_exponent
        )
    said = {row.hexcode: codes for row, codes in zip(speech, frames, strict=True) if row.kind == "caption"}
    both = [row for row in images if row.hexcode in said]
    if both:
        codes = {"text": [captions[row.hexcode] for row in both], "image": [cells] * len(both)}
        codes["speech"] = [said[row.hexcode] for row in both]
        sizes[TRIPLES] = SourceSize.of([row.base for row in both], codes, group_exponent)
    lengths = [
        len(window)
        for row in load_text("train")
        for window in windows(row.text, tokenizers.text, data.text_window)
    ]
    if lengths:
        sizes[SPEECHES] = SourceSize.of(range(len(lengths)), {"text": lengths}, group_exponent)
    return sizes


def _num_codes(row: Utterance, codec: SpeechCodec) -> int:
    """Codes of a recording: a frame for each started 1 / frame_rate seconds."""
    frames = row.num_samples * codec.frame_rate / row.sample_rate
    return math.ceil(frames - 1e-6) * codec.num_codebooks
