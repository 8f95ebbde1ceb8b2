"""What a run is: everything that fixes its numbers, in one frozen value."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

from trimask.data.mixture import MixtureConfig
from trimask.data.selection import Data
from trimask.data.stream import SpanSlack
from trimask.errors import UserError
from trimask.model.denoiser import DenoiserConfig
from trimask.sampling.defaults import DEFAULTS
from trimask.sampling.sampler import SamplerConfig
from trimask.training.average import WeightAverageConfig
from trimask.training.compute import ComputeConfig
from trimask.training.corruption import ObjectiveConfig
from trimask.training.logical_batch import BatchChange, BatchRule, KappaRule, Tuned
from trimask.training.lr_schedule import LearningRateSchedule
from trimask.training.modalities import ModalityConfig, rows_of
from trimask.training.optimizers import AdamWConfig, NonFinite
from trimask.vocabulary.alignment import Even, TextAlignment
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.task import MODALITIES, TASKS, Task

_ROWS = {name: ModalityConfig() for name in MODALITIES}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """A pretraining run of the denoiser.

    The logical batch and the horizon are what a run is; the physical batch and `compute` are how it is
    computed. Parametrization and batch rule carry the optimizer's values from where they were tuned.

    Attributes:
        optimizer: values at the size of the parametrization's base, and at the batch and horizon of `tuned`.
        tuned: where the optimizer's values come from, if not from this batch and horizon.
        batch_rule: how they are carried to this horizon and physical batch.
        lr_schedule: over the fraction of the horizon's tokens that are done, so that any batch sees the same.
        logical_batch: sequences (B̃): with the optimizer's values, it fixes the gradient noise.
        num_steps: updates of the logical batch (S̃): with it, the horizon of `logical_batch` × `num_steps`
            sequences.
        physical_batch: sequences per update, on all devices; None for the logical batch. The number of
            updates follows. With anti-masking each of a sequence's two views counts, in all batches and in
            the horizon: what is distinct is half of it.
        row_length: slots of a row; None lays each sequence in a row of its own (CPU: padding is never
            computed on).
        average: of the weights: what the run is then evaluated and exported by; None for the weights as they
            are.
        non_finite: what an update does whose gradient is not finite.
        compute: all that changes time, memory and rounding alone.
        tasks: what can be asked for; those that the mixture has are trained.
        spaces: further modalities, whose data are codes and need no tokenizer of ours.
        modalities: how each is laid out, masked and weighed.
        sampler: how each task is sampled, by its name; it can be changed at any time.
        alignment: where text stands beside speech.
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
        """The run with fields of the row of modality `name` changed: `run.with_modality("image",
        schedule=Cosine())`.
        """
        row = replace(self.modalities.get(name, ModalityConfig()), **changes)
        return replace(self, modalities={**self.modalities, name: row})

    def vocabulary(self, spaces: Sequence[CodeSpace]) -> Vocabulary:
        """The token space over the `spaces` of its tokenizers and its own.

        Raises:
            UserError: a row is of no modality that there is.
        """
        vocabulary = Vocabulary(
            spaces=(*spaces, *self.spaces),
            tasks=self.tasks,
            layouts={name: row.layout for name, row in self.modalities.items()},
            alignment=self.alignment,
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
        """Distinct sequences per update: of several views, one counts."""
        return self.update_batch // self.objective.num_views

    @property
    def num_updates(self) -> int:
        return self.batch_change.num_updates

    @property
    def batch_change(self) -> BatchChange:
        """From where the optimizer's values were tuned to this run."""
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
        return self.batch_rule.scaled(self.optimizer, self.batch_change)
