"""The configuration that fully determines a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

from trimask.data.mixture import MixtureConfig
from trimask.data.selection import Data
from trimask.data.stream import SpanSlack
from trimask.errors import UserError
from trimask.model.denoiser import DenoiserConfig
from trimask.sampling.config import SamplerConfig
from trimask.sampling.defaults import DEFAULTS, OTHER
from trimask.training.average import WeightAverageConfig
from trimask.training.compute import ComputeConfig
from trimask.training.corruption import ObjectiveConfig
from trimask.training.logical_batch import BatchChange, BatchRule, KappaRule, Tuned
from trimask.training.lr_schedule import LearningRateSchedule
from trimask.training.modalities import ModalityConfig, rows_of
from trimask.training.optimizers import AdamWConfig, NonFinite
from trimask.vocabulary.alignment import Even, TextAlignment
from trimask.vocabulary.axes import PictureAxes
from trimask.vocabulary.layout import CodeSpace, MaskTokens, Vocabulary, special_names
from trimask.vocabulary.task import MODALITIES, TASKS, Task

_ROWS = {name: ModalityConfig() for name in MODALITIES}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """A pretraining run of the denoiser.

    The logical batch and the horizon define a run; the physical batch and `compute` say how it is computed.
    Parametrization and batch rule transfer the optimizer values from where they were tuned.

    Attributes:
        optimizer: values at the size of the parametrization's base, and at the batch and horizon of `tuned`.
        tuned: batch and horizon at which the optimizer values were tuned, if not these.
        batch_rule: how they are scaled to this horizon and physical batch.
        lr_schedule: a function of the fraction of the horizon done, independent of the batch.
        logical_batch: sequences (B̃): with the optimizer values, it sets the gradient noise.
        num_steps: updates of the logical batch (S̃): with it, the horizon of `logical_batch` × `num_steps`
            sequences.
        physical_batch: sequences per update, on all devices; None for the logical batch. It determines the
            number of updates. With anti-masking both views of a sequence count, in all batches and in the
            horizon: half of them are distinct.
        row_length: slots per row; None puts each sequence into a row of its own (padding is never computed
            on).
        average: the weight average used for evaluation and export; None for the plain weights.
        non_finite: what to do if a gradient is not finite.
        compute: settings that change only time, memory and rounding.
        tasks: all tasks of the model; those in the mixture are trained.
        spaces: additional modalities, given directly as codes.
        modalities: how each is laid out, masked and weighted.
        sampler: sampler settings by task name; may be changed at any time.
        alignment: position of text relative to speech.
        picture_axes: rotary coordinates of pictures.
        mask_tokens: one for each modality, or one for all.
        log_every, checkpoint_every, evaluate_every: in updates.
    """

    seed: int
    model: DenoiserConfig
    data: Data
    mixture: MixtureConfig
    slack: SpanSlack = SpanSlack()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: AdamWConfig
    tuned: Tuned = Tuned()
    batch_rule: BatchRule = KappaRule()
    lr_schedule: LearningRateSchedule
    tasks: tuple[Task, ...] = TASKS
    spaces: tuple[CodeSpace, ...] = ()
    modalities: dict[str, ModalityConfig] = field(default_factory=lambda: dict(_ROWS))
    sampler: dict[str, SamplerConfig] = field(default_factory=lambda: dict(DEFAULTS))
    alignment: TextAlignment = Even()
    picture_axes: PictureAxes = PictureAxes.GRID
    mask_tokens: MaskTokens = MaskTokens.PER_MODALITY
    logical_batch: int
    num_steps: int
    physical_batch: int | None = None
    row_length: int | None = None
    average: WeightAverageConfig | None = None
    non_finite: NonFinite = NonFinite.STOP
    compute: ComputeConfig = ComputeConfig()
    log_every: int = 20
    checkpoint_every: int = 500
    evaluate_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("logical_batch", "num_steps", "log_every", "checkpoint_every", "evaluate_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}: must be at least 1")
        if self.physical_batch is not None and self.physical_batch < 1:
            raise UserError(f"physical_batch {self.physical_batch}: must be at least 1, or none")
        self.objective.check(self.modalities)
        names = [task.name for task in self.tasks]
        for task in self.sampler:
            if task not in names:
                raise UserError(f"sampler.{task}: there is no such task, only {', '.join(names)}")
        for task in self.tasks:
            if task.name in self.sampler:
                self.sampler[task.name].check_task(task)
        # A run stores the settings of every task, so that each can be overridden by a flag.
        settings = {**self.sampler, **{name: OTHER for name in names if name not in self.sampler}}
        object.__setattr__(self, "sampler", settings)
        for component in self.mixture.components:
            if component.task not in names:
                raise UserError(
                    f"component {component.source}/{component.task}: there is no such task, only "
                    f"{', '.join(names)}"
                )
        for name in ("logical_batch", "physical_batch"):
            value = getattr(self, name)
            if value is not None and value % self.objective.num_views:
                raise UserError(
                    f"{name} {value}: anti_masking takes two views of each sequence, give an even number"
                )

    def with_modality(self, name: str, **changes: Any) -> "RunConfig":
        """Return the run with fields of modality `name` replaced: `run.with_modality("image",
        schedule=Cosine())`.
        """
        row = replace(self.modalities.get(name, ModalityConfig()), **changes)
        return replace(self, modalities={**self.modalities, name: row})

    def vocabulary(self, spaces: Sequence[CodeSpace]) -> Vocabulary:
        """Build the token space from the tokenizers' `spaces` and the run's own.

        Raises:
            UserError: a row names an unknown modality.
        """
        spaces = (*spaces, *self.spaces)
        modalities, tasks = [space.name for space in spaces], [task.name for task in self.tasks]
        vocabulary = Vocabulary(
            spaces=spaces,
            tasks=self.tasks,
            layouts={name: row.layout for name, row in self.modalities.items()},
            alignment=self.alignment,
            picture_axes=self.picture_axes,
            specials=special_names(modalities, tasks, self.mask_tokens),
        )
        rows_of(self.modalities, vocabulary)
        return vocabulary

    @property
    def horizon(self) -> int:
        """Sequences of the whole run."""
        return self.logical_batch * self.num_steps

    @property
    def update_batch(self) -> int:
        """Sequences per update."""
        return self.physical_batch or self.logical_batch

    @property
    def distinct_batch(self) -> int:
        """Distinct sequences per update: several views count once."""
        return self.update_batch // self.objective.num_views

    @property
    def num_updates(self) -> int:
        return self.batch_change.num_updates

    @property
    def batch_change(self) -> BatchChange:
        """The change from where the optimizer values were tuned to this run."""
        batch, steps = self.tuned.logical_batch, self.tuned.num_steps
        return BatchChange(
            base_batch=batch or self.logical_batch,
            base_horizon=self.horizon if batch is None or steps is None else batch * steps,
            logical_batch=self.logical_batch,
            batch=self.update_batch,
            horizon=self.horizon,
        )

    @property
    def scaled_optimizer(self) -> AdamWConfig:
        """The optimizer's values at this batch and horizon, before the factors of each tensor."""
        return self.batch_rule.scale(self.optimizer, self.batch_change)
