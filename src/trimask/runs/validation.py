"""Validate a run while it trains, on held-out sequences of every task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from trimask.data.mixture import Component, MixtureConfig
from trimask.data.source import ExampleSource
from trimask.evaluation.likelihood import bound
from trimask.runs.build import build_stream
from trimask.training.run import RunConfig
from trimask.training.step import DenoiserStep
from trimask.vocabulary import sequence
from trimask.vocabulary.layout import Vocabulary

NUM_SEQUENCES = 128
NUM_MASKS = 4


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """The NELBO of held-out sequences. Sequences and masks are always the same, so that only models differ
    between steps; a run with a weight average evaluates the average.
    """

    step: DenoiserStep
    sequences: Sequence[sequence.Sequence]
    seed: int

    def __call__(self, number: int) -> dict[str, float]:
        """Return `{task}_{modality}_bits_per_token`, and `{task}_bits_per_token` for a task with several
        targets, of the current weights; `number`, the update, changes nothing.
        """
        denoiser = self.step.denoiser
        found: dict[str, float] = {}
        with self.step.use_average():
            for task in denoiser.vocabulary.tasks:
                chosen = [s for s in self.sequences if s.task == task]
                if chosen:
                    name = task.name if task.target is None else f"{task.name}_{task.target}"
                    value = bound(denoiser, chosen, seed=self.seed, num_masks=NUM_MASKS)
                    found[f"{name}_bits_per_token"] = value.bits_per_token
        return found


def build_validation(
    config: RunConfig, sources: Mapping[str, ExampleSource], step: DenoiserStep
) -> Validation | None:
    """Build the validation of a run on `sources`, its validation split; None if no task has a source there.

    Each task has equally many sequences, from its sources in the shares of the training mixture.
    """
    by_task: dict[str, list[Component]] = {}
    for component in config.mixture.components:
        if component.source in sources:
            by_task.setdefault(component.task, []).append(component)
    if not by_task:
        return None
    size = max(NUM_SEQUENCES // len(by_task), 1)
    drawn = [
        draw_sequences(
            config,
            MixtureConfig(components=tuple(components), block_length=size),
            sources,
            step.denoiser.vocabulary,
            number=size,
        )
        for components in by_task.values()
    ]
    return Validation(step=step, sequences=[s for each in drawn for s in each], seed=config.seed)


def draw_sequences(
    config: RunConfig,
    mixture: MixtureConfig,
    sources: Mapping[str, ExampleSource],
    vocabulary: Vocabulary,
    *,
    number: int,
) -> list[sequence.Sequence]:
    """Draw the first `number` sequences of `mixture`, laid out as in the run."""
    stream = build_stream(replace(config, mixture=mixture), sources, vocabulary)
    return [stream.sequence(index) for index in range(number)]
