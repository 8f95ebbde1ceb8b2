"""`SamplerConfig`: how to sample, as a value."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, final

from trimask.errors import UserError
from trimask.sampling.corrector import Corrector, Editing, Remasking
from trimask.sampling.count import AdaptiveCount, Count, PlannedCount, Scheduled
from trimask.sampling.filters import Filter, Temperature, TopP
from trimask.sampling.grid import TimeGrid, Uniform
from trimask.sampling.guidance import ConstantGuidance, GuidanceRamp, check_guidance_scale
from trimask.sampling.length import Given, LengthRule
from trimask.sampling.order import DrawnOrder, FixedOrder, Order, Random, ScoredOrder
from trimask.sampling.recompute import Everything, Recompute
from trimask.vocabulary.task import Task

_MOST_STEPS = 100_000  # more than any sequence has slots
_LONGEST_BLOCK = 2**31 - 1  # as many slots fit into no memory
_WORDS = {
    int: "a whole number, or None",
    bool: "True or False",
    tuple: "a tuple of filters",
    dict: "settings by modality",
}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerConfig:
    """How to sample: order × count × corrector × filters × guidance × recompute × length.

    Attributes:
        num_steps: steps of a count that has steps; None for others.
        grid: the times between these steps, as fractions of masked slots.
        order: which masked slots come first.
        count: how many are revealed at once.
        block_length: if set, the target slots of a modality are revealed in blocks of so many, from left to
            right; the order holds within a block. A count that depends on the prediction looks at one block
            at a time (LLaDA, Fast-dLLM) [L].
        ends_last: hold back slots where the end code is drawn (or the most probable, in an order that does
            not draw) until the frame before them is revealed: in orders by confidence, end codes come first
            otherwise and empty the text [D].
        corrector: which revealed slots are hidden again, or replaced.
        filters: applied in order to the guided distribution before a code is drawn.
        guidance_scale, guidance_ramp: classifier-free guidance; 1 is none.
        recompute: which positions a pass computes, and which keep their keys and values.
        length: how many frames spans of variable length have.
        targets: by modality, settings of targets that differ, for a task that generates several together.

    Raises: UserError for values out of range, and for parts that do not go together.
    """

    num_steps: int | None = None
    grid: TimeGrid = Uniform()
    order: Order = Random()
    count: Count = Scheduled()
    block_length: int | None = None
    ends_last: bool = False
    corrector: Corrector | None = None
    filters: tuple[Filter, ...] = ()
    guidance_scale: float = 1.0
    guidance_ramp: GuidanceRamp = ConstantGuidance()
    recompute: Recompute = Everything()
    length: LengthRule = Given()
    targets: "dict[str, SamplerConfig]" = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        self._check_types()
        if self.num_steps is not None and not 1 <= self.num_steps <= _MOST_STEPS:
            raise UserError(f"num_steps is {self.num_steps}: give at least 1, at most {_MOST_STEPS:,}")
        if self.block_length is not None and not 1 <= self.block_length <= _LONGEST_BLOCK:
            raise UserError(
                f"block_length is {self.block_length}: give at least 1 slot, at most {_LONGEST_BLOCK:,}"
            )
        check_guidance_scale(self.guidance_scale)
        self._check_count()
        self._check_order()
        self._check_corrector()
        self._check_recompute()
        for modality, other in self.targets.items():
            if other.targets:
                raise UserError(
                    f"the settings of target {modality} have targets of their own: leave them out"
                )
            if other.recompute != self.recompute:
                raise UserError(
                    f"the settings of target {modality} have recompute {other.recompute!r}, and those of the "
                    f"task {self.recompute!r}: give both the same, since a pass computes all targets"
                )
            if other.length != self.length:
                raise UserError(
                    f"the settings of target {modality} have length {other.length!r}, and those of the task "
                    f"{self.length!r}: give both the same, since the targets share a sequence"
                )

    def _check_types(self) -> None:
        """Raise UserError for a value of a wrong type: code of the user's own makes such settings, too."""
        wholes = {"num_steps": self.num_steps, "block_length": self.block_length}
        parts: dict[str, tuple[object, type]] = {
            **{name: (value, int) for name, value in wholes.items() if value is not None},
            "grid": (self.grid, TimeGrid),
            "ends_last": (self.ends_last, bool),
            "filters": (self.filters, tuple),
            **{f"filters[{i}]": (each, Filter) for i, each in enumerate(_items(self.filters))},
            "guidance_ramp": (self.guidance_ramp, GuidanceRamp),
            "recompute": (self.recompute, Recompute),
            "length": (self.length, LengthRule),
            "targets": (self.targets, dict),
            **{f"targets[{m!r}]": (self.targets[m], SamplerConfig) for m in _items(self.targets)},
        }
        for name, (value, wanted) in parts.items():
            if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
                raise UserError(f"{name} is {value!r}: give {_WORDS.get(wanted, f'a {wanted.__name__}')}")

    def _check_count(self) -> None:
        name = type(self.count).__name__
        if not isinstance(self.count, PlannedCount | AdaptiveCount):
            raise UserError(f"the count {name} must be a subclass of PlannedCount or AdaptiveCount")
        if self.count.has_steps and self.num_steps is None:
            raise UserError(f"the count {name} needs num_steps: give the number of steps")
        if not self.count.has_steps and self.num_steps is not None:
            raise UserError(
                f"num_steps is {self.num_steps}, and the count {name} sets the number of steps itself: set "
                "num_steps to none, or choose a count with steps, such as Scheduled"
            )
        if not self.count.has_steps and self.grid != Uniform():
            raise UserError(
                f"the count {name} has no use for the grid {self.grid!r}: set grid to Uniform, its default"
            )

    def _check_order(self) -> None:
        name = type(self.order).__name__
        if not isinstance(self.order, FixedOrder | ScoredOrder):
            raise UserError(f"the order {name} must be a subclass of FixedOrder, EvidenceOrder or DrawnOrder")
        if self.ends_last and isinstance(self.order, FixedOrder):
            raise UserError(
                f"ends_last needs an order that looks at the prediction, and {name} is fixed: leave it out"
            )

    def _check_corrector(self) -> None:
        name = type(self.corrector).__name__
        if self.corrector is None or isinstance(self.corrector, Editing):
            return
        if not isinstance(self.corrector, Remasking):
            raise UserError(f"the corrector {name} must be a subclass of Remasking or Editing")
        if not self.count.has_steps:
            raise UserError(
                f"the corrector {name} hides slots from step to step, and the count "
                f"{type(self.count).__name__} has no steps: choose Scheduled or Ancestral"
            )
        if self.corrector.needs_scores and not isinstance(self.order, ScoredOrder):
            raise UserError(
                f"the corrector {name} compares scores, and the order {type(self.order).__name__} has none: "
                "choose one that looks at the prediction, such as Confidence"
            )

    def _check_recompute(self) -> None:
        every: Any = getattr(self.recompute, "renew_every", "missing")
        is_whole = isinstance(every, int) and not isinstance(every, bool)
        if every is not None and not (is_whole and every >= 1):
            raise UserError(
                f"`renew_every` of the policy {type(self.recompute).__name__} is {every}: give it as a field "
                "or a class variable, a whole number of at least 1, or none for never"
            )

    def of_target(self, modality: str) -> "SamplerConfig":
        """Return the settings of a target."""
        return self.targets.get(modality, self)

    @property
    def laws(self) -> "tuple[SamplerConfig, ...]":
        """Return these settings and those of targets that differ."""
        return (self, *self.targets.values())

    @property
    def reads_evidence(self) -> bool:
        """Whether a step reads the prediction to choose slots."""
        return (
            isinstance(self.order, ScoredOrder)
            or isinstance(self.count, AdaptiveCount)
            or (self.corrector is not None and self.corrector.rereads)
        )

    @property
    def is_guided(self) -> bool:
        """Whether there is guidance, of any target."""
        return any(law.guidance_scale != 1 for law in self.laws)

    @property
    def may_flood(self) -> bool:
        """Whether end codes may come before the content and empty a span: where the surest slots come first,
        over the whole span, and nothing holds end codes back [D: experiments/2026-11-29-floods].
        """
        is_by_evidence = isinstance(self.order, ScoredOrder) or isinstance(self.count, AdaptiveCount)
        return is_by_evidence and self.block_length is None and not self.ends_last

    @property
    def has_likelihood(self) -> bool:
        """Whether the law of the samples has an exact likelihood: what is revealed next depends only on what
        is already revealed, not on the codes drawn in the same step, nothing is corrected, and spans have the
        lengths of the documents.
        """
        if not isinstance(self.length, Given):
            return False
        return all(not isinstance(law.order, DrawnOrder) and law.corrector is None for law in self.laws)

    def adjust(
        self,
        *,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
    ) -> "SamplerConfig":
        """Replace the settings that are not None, of all targets; the temperature becomes the first filter,
        top-p the last.
        """
        targets = {
            modality: other.adjust(
                num_steps=num_steps, guidance_scale=guidance_scale, temperature=temperature, top_p=top_p
            )
            for modality, other in self.targets.items()
        }
        config = replace(self, targets=targets) if targets else self
        if num_steps is not None:
            config = replace(config, num_steps=num_steps)
        if guidance_scale is not None:
            config = replace(config, guidance_scale=guidance_scale)
        if temperature is not None:
            rest = tuple(each for each in config.filters if not isinstance(each, Temperature))
            config = replace(config, filters=(Temperature(value=temperature), *rest))
        if top_p is not None:
            rest = tuple(each for each in config.filters if not isinstance(each, TopP))
            config = replace(config, filters=(*rest, TopP(value=top_p)))
        return config

    def check_task(self, task: Task) -> None:
        """Raise UserError if there are settings of something that a task does not generate beside others."""
        for modality in self.targets:
            if len(task.targets) == 1:
                raise UserError(
                    f"the settings of task {task.name} have some for target {modality}, and it has a single "
                    "target: set those of the task"
                )
            if modality not in task.targets:
                raise UserError(
                    f"the settings of task {task.name} have some for {modality}, which it does not generate: "
                    f"choose one of {', '.join(sorted(task.targets))}"
                )


def _items(value: object) -> Iterable[Any]:
    """Return the items of a tuple, or the keys of a dict; none of anything else."""
    return value if isinstance(value, tuple | dict) else ()
