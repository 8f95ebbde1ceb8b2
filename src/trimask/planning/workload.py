"""What a run's sequences are, on average, and the work that each takes: from the lengths of its data, which
is not tokenized for it, or of data that is only stated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from trimask.data.mixture import Component, sequence_shares
from trimask.data.stream import target_ends
from trimask.errors import UserError
from trimask.model.flops import forward_flops
from trimask.runs.build import build_vocabulary
from trimask.runs.kinds import kind_of
from trimask.runs.sizes import SourceSize
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary import sequence as templates
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.task import Task

_BACKWARD = 2  # a backward pass takes two products where the forward pass takes one
_MASKED = 0.5  # of the targets, on average over t


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
    kind = kind_of(config.data)
    kind.check_run(config, vocabulary)
    sizes = kind.sizes(tokenizers, config.mixture.group_exponent)
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
            prefix_length=sequence.prefix_length,
        )
    )
    for modality, count in targets.items():
        flops += _MASKED * forward_flops(
            config.model,
            num_positions=0,
            document_length=0,
            num_predicted=count,
            range_size=_num_logits(config, vocabulary, modality),
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


def _num_logits(config: RunConfig, vocabulary: Vocabulary, modality: str) -> int:
    """Return the logits of a slot of `modality`."""
    widened = config.model.normalization.widen(vocabulary.ranges)
    return widened[vocabulary.ranges_of(modality)[0].index].size


def _num_read(sequence: templates.Sequence) -> float:
    """Positions that hold a masked slot: of one with k targets, at a mask ratio drawn evenly, k / (k + 1)."""
    counts = np.bincount(sequence.position[sequence.maskable], minlength=sequence.num_positions)
    return float((counts / (counts + 1)).sum())
