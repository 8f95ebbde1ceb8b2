"""What a run is: everything that fixes its numbers, in one frozen value."""

from dataclasses import dataclass
from typing import final

from trimask.data.mixture import MixtureConfig
from trimask.data.selection import DataConfig
from trimask.data.stream import SpanSlack
from trimask.model.denoiser import DenoiserConfig
from trimask.training.lr_schedule import LearningRateSchedule
from trimask.training.optimizers import AdamWConfig
from trimask.training.step import ObjectiveConfig
from trimask.vocabulary.codebooks import CodebookLayout, Flattened


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """A pretraining run of the denoiser.

    Attributes:
        logical_batch: sequences per update: it fixes the gradient noise.
        num_steps: updates; with `logical_batch`, the horizon.
        row_length: slots of a row; None lays each sequence in a row of its own (CPU: padding is never
            computed on).
        image_layout, audio_layout: how codebooks share transformer positions.
    """

    seed: int
    model: DenoiserConfig
    data: DataConfig
    mixture: MixtureConfig
    slack: SpanSlack = SpanSlack()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: AdamWConfig
    lr_schedule: LearningRateSchedule
    image_layout: CodebookLayout = Flattened()
    audio_layout: CodebookLayout = Flattened()
    logical_batch: int
    num_steps: int
    row_length: int | None = None
    log_every: int = 20
    checkpoint_every: int = 500
    evaluate_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("logical_batch", "num_steps", "log_every", "checkpoint_every", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: must be at least 1")
