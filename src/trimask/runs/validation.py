"""Validate a run while it trains, on held-out sequences of every task."""

from collections.abc import Callable
from pathlib import Path

from trimask.data.mixture import Component, Mixture, MixtureConfig
from trimask.data.stream import TrainingStream
from trimask.evaluation.likelihood import bound
from trimask.runs.kinds import kind_of
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.training.step import DenoiserStep

NUM_SEQUENCES = 128
NUM_MASKS = 4


def build_validation(
    config: RunConfig,
    tokenizers: Tokenizers,
    step: DenoiserStep,
    folder: Path,
    report: Callable[[str], None] = lambda message: None,
) -> Callable[[int], dict[str, float]] | None:
    """Build a function of the step that returns the NELBO of held-out sequences:
    `{task}_{modality}_bits_per_token`, and `{task}_bits_per_token` for a task with several targets.

    Sequences and masks are always the same, so that only models differ between steps; a run with a weight
    average evaluates the average. Each task has equally many sequences, from its sources in the shares of the
    training mixture. Held out: other base emoji, sentences and years than in training; for prepared data, its
    validation split. Returns None if that is empty.
    """
    denoiser = step.denoiser
    sources = kind_of(config.data).sources(tokenizers, "validation", folder, report)
    by_task: dict[str, list[Component]] = {}
    for component in config.mixture.components:
        if component.source in sources:
            by_task.setdefault(component.task, []).append(component)
    if not by_task:
        return None
    size = max(NUM_SEQUENCES // len(by_task), 1)
    sequences = []
    for components in by_task.values():
        mixture = Mixture(
            MixtureConfig(components=tuple(components), block_length=size),
            sources,
            config.seed,
            tasks=config.tasks,
        )
        stream = TrainingStream(
            mixture,
            denoiser.vocabulary,
            slack=config.slack,
            text_window=config.data.text_window,
            physical_batch=size,
            row_length=None,
        )
        sequences += [stream.sequence(index) for index in range(size)]

    def figures() -> dict[str, float]:
        found: dict[str, float] = {}
        for task in denoiser.vocabulary.tasks:
            chosen = [s for s in sequences if s.task == task]
            if chosen:
                name = task.name if task.target is None else f"{task.name}_{task.target}"
                value = bound(denoiser, chosen, seed=config.seed, num_masks=NUM_MASKS)
                found[f"{name}_bits_per_token"] = value.bits_per_token
        return found

    def evaluate(number: int) -> dict[str, float]:
        with step.use_average():
            return figures()

    return evaluate
