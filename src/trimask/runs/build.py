"""Build the parts of a run from its configuration: vocabulary, denoiser, batches, update step."""

from collections.abc import Mapping

from trimask.data.mixture import Mixture
from trimask.data.source import ExampleSource
from trimask.data.stream import TrainingStream
from trimask.model.denoiser import Denoiser
from trimask.runs.kinds import kind_of
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.distributed import ALONE, World
from trimask.training.placement import place
from trimask.training.run import RunConfig
from trimask.training.step import DenoiserStep
from trimask.vocabulary.layout import Vocabulary


def build_vocabulary(config: RunConfig, tokenizers: Tokenizers | None) -> Vocabulary:
    """Build the token space of a run, over the code spaces of `tokenizers` or, for stated data, those stated.

    Raises:
        UserError: a row of `config.modalities` names an unknown modality.
    """
    return config.vocabulary(kind_of(config.data).spaces(tokenizers))


def build_denoiser(config: RunConfig, vocabulary: Vocabulary, world: World = ALONE) -> Denoiser:
    """Build the untrained denoiser of a run, on the devices of `world` (one CPU process by default)."""
    return place(config.model, vocabulary, seed=config.seed, compute=config.compute, world=world)


def build_stream(
    config: RunConfig, sources: Mapping[str, ExampleSource], vocabulary: Vocabulary
) -> TrainingStream:
    """Build the batches of a run from its sources."""
    return TrainingStream(
        Mixture(config.mixture, sources, config.seed, tasks=config.tasks),
        vocabulary,
        slack=config.slack,
        text_window=config.data.text_window,
        physical_batch=config.distinct_batch,
        row_length=config.row_length,
    )


def build_step(
    config: RunConfig, denoiser: Denoiser, stream: TrainingStream, world: World = ALONE
) -> DenoiserStep:
    """Build the update step of a run on the batches of `stream`."""
    return DenoiserStep(
        denoiser,
        objective=config.objective,
        optimizer=config.scaled_optimizer,
        lr_schedule=config.lr_schedule,
        num_steps=config.num_updates,
        seed=config.seed,
        targets=stream.target_tokens(),
        tasks=stream.tasks,
        modalities=config.modalities,
        logical_batch=config.logical_batch // config.objective.num_views,
        micro_batch=config.compute.micro_batch,
        non_finite=config.non_finite,
        average=config.average,
        batch=config.update_batch,
        world=world,
    )
