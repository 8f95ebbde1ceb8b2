"""Orders: which masked slots a step reveals. Each decides per sequence and per modality, independently of the
rest of the batch.

Each step calls an order twice. `propose`, before the prediction, selects the slots whose logits are needed: a
random order can choose them already, and saves the rest. `reveal`, after codes are drawn there, selects the
slots that keep their code.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from trimask import rng
from trimask.diffusion.reverse import unmask_probability
from trimask.diffusion.schedule import Schedule
from trimask.errors import UserError
from trimask.sampling.grid import TimeGrid


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Canvas:
    """The slots to fill, one sequence per row, and what an order may know about them.

    Attributes:
        maskable: target slots.
        num_modalities: of the vocabulary.
        modality, codebook: of each slot, -1 for special tokens and padding.
        sample_index: global index of each row's sequence; identifies its random streams.
    """

    maskable: Bool[Tensor, "rows slots"]
    num_modalities: int
    modality: Int[Tensor, "rows slots"]
    codebook: Int[Tensor, "rows slots"]
    sample_index: Int[Tensor, "rows"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Step `index` of `num_steps`: each row goes from time t to s < t."""

    index: int
    num_steps: int
    t: Float64[Tensor, "rows"]
    s: Float64[Tensor, "rows"]
    grid: TimeGrid
    schedule: Schedule
    seed: int

    def uniforms(self, name: str, canvas: Canvas) -> Float64[Tensor, "rows slots"]:
        """Draw the uniforms of the stream `name` in this step: a function of (seed, sample, step, slot)
        alone."""
        keys = rng.fold(rng.key(self.seed, "sample", name, self.index), canvas.sample_index)
        return rng.uniform(keys, canvas.maskable.shape[1])


class Order(ABC):
    """Chooses the masked slots that a step reveals; a step to s = 0 reveals all that remain."""

    __slots__ = ()

    @abstractmethod
    def propose(
        self, masked: Bool[Tensor, "rows slots"], canvas: Canvas, step: Step
    ) -> Bool[Tensor, "rows slots"]:
        """Return the masked slots at which this step draws codes."""

    @abstractmethod
    def reveal(
        self,
        proposed: Bool[Tensor, "rows slots"],
        log_confidence: Float64[Tensor, "rows slots"],
        canvas: Canvas,
        step: Step,
    ) -> Bool[Tensor, "rows slots"]:
        """Return the proposed slots to reveal, given log p of the code drawn at each (arbitrary
        elsewhere)."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Ancestral(Order):
    """Reveal each masked slot independently with P = (alpha(s) - alpha(t)) / (1 - alpha(t)) (MDLM) [L]: the
    exact reverse process."""

    def propose(
        self, masked: Bool[Tensor, "rows slots"], canvas: Canvas, step: Step
    ) -> Bool[Tensor, "rows slots"]:
        probability = unmask_probability(step.schedule, s=step.s, t=step.t)
        return masked & (step.uniforms("order", canvas) < probability[:, None])

    def reveal(
        self,
        proposed: Bool[Tensor, "rows slots"],
        log_confidence: Float64[Tensor, "rows slots"],
        canvas: Canvas,
        step: Step,
    ) -> Bool[Tensor, "rows slots"]:
        return proposed


_QUANTUM = 1e-3


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Confidence(Order):
    """Reveal the slots with the largest log p(drawn code) + noise_temperature · s · Gumbel - codebook_penalty
    · codebook (MaskGIT) [L].

    After the step, round(n · mask_ratio(s)) of a modality's n slots stay masked. The noise fades with the
    remaining time s; a `codebook_penalty` of a few nats fills coarse codebooks first. log p is taken after
    guidance and before filters.

    log p is rounded to a thousandth of a nat, and the sample's own noise breaks ties: smaller differences are
    the network's rounding errors, which depend on the batch size and would decide the order where the model
    is certain [D].

    Raises: UserError when a parameter is negative or not finite.
    """

    noise_temperature: float = 0.0
    codebook_penalty: float = 0.0

    def __post_init__(self) -> None:
        for name in ("noise_temperature", "codebook_penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(
                    f"Confidence.{name} is {getattr(self, name)}: give a finite number of at least 0"
                )

    def propose(
        self, masked: Bool[Tensor, "rows slots"], canvas: Canvas, step: Step
    ) -> Bool[Tensor, "rows slots"]:
        proposed = torch.zeros_like(masked)
        for modality in range(canvas.num_modalities):
            here = masked & (canvas.modality == modality)
            proposed |= here & (self._count(here, modality, canvas, step) > 0)[:, None]
        return proposed

    def reveal(
        self,
        proposed: Bool[Tensor, "rows slots"],
        log_confidence: Float64[Tensor, "rows slots"],
        canvas: Canvas,
        step: Step,
    ) -> Bool[Tensor, "rows slots"]:
        uniforms = step.uniforms("order", canvas).clamp(min=2.0**-54)
        score = ((log_confidence / _QUANTUM).round() + uniforms) * _QUANTUM
        score = score - self.noise_temperature * step.s[:, None] * torch.log(-torch.log(uniforms))
        score = score - self.codebook_penalty * canvas.codebook
        revealed = torch.zeros_like(proposed)
        for modality in range(canvas.num_modalities):
            here = proposed & (canvas.modality == modality)
            best_first = score.masked_fill(~here, -math.inf).argsort(dim=1, descending=True, stable=True)
            place = torch.arange(here.shape[1], device=here.device).expand_as(best_first)
            rank = torch.zeros_like(best_first).scatter(1, best_first, place)
            revealed |= here & (rank < self._count(here, modality, canvas, step)[:, None])
        return revealed

    @staticmethod
    def _count(
        masked: Bool[Tensor, "rows slots"], modality: int, canvas: Canvas, step: Step
    ) -> Int[Tensor, "rows"]:
        """Return how many of a modality's `masked` slots to reveal in each row."""
        num_slots = (canvas.maskable & (canvas.modality == modality)).sum(1)
        stay = (num_slots * step.schedule.mask_ratio(step.s)).round().long()
        return (masked.sum(1) - stay).clamp(min=0)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LeftToRightBlocks(Order):
    """Fill blocks of `block_length` target slots from left to right, each by the order `inner` (LLaDA,
    BD3-LM) [L].

    The steps are divided evenly among a sequence's blocks, and time runs from 1 to 0 in each. With fewer
    steps than blocks, a step fills several blocks.

    Raises: UserError when `block_length` is below 1.
    """

    block_length: int
    inner: Order

    def __post_init__(self) -> None:
        if self.block_length < 1:
            raise UserError(f"LeftToRightBlocks.block_length is {self.block_length}: give at least 1 slot")

    def propose(
        self, masked: Bool[Tensor, "rows slots"], canvas: Canvas, step: Step
    ) -> Bool[Tensor, "rows slots"]:
        block, block_step = self._narrow(canvas, step)
        return self.inner.propose(masked & block.maskable, block, block_step)

    def reveal(
        self,
        proposed: Bool[Tensor, "rows slots"],
        log_confidence: Float64[Tensor, "rows slots"],
        canvas: Canvas,
        step: Step,
    ) -> Bool[Tensor, "rows slots"]:
        return self.inner.reveal(proposed, log_confidence, *self._narrow(canvas, step))

    def _narrow(self, canvas: Canvas, step: Step) -> tuple[Canvas, Step]:
        """Restrict the canvas to this step's blocks, and convert the step to their time."""
        k, num_steps = step.index, step.num_steps
        block = (canvas.maskable.long().cumsum(1) - 1) // self.block_length
        num_blocks = -(-canvas.maskable.sum(1) // self.block_length).clamp(max=-1)
        first = k * num_blocks // num_steps
        last = torch.maximum(first, (k + 1) * num_blocks // num_steps - 1)
        start = -(-first * num_steps // num_blocks)
        stop = -(-(first + 1) * num_steps // num_blocks)
        t, s = torch.empty_like(step.t), torch.empty_like(step.s)
        for row, (at, length) in enumerate(zip((k - start).tolist(), (stop - start).tolist(), strict=True)):
            t[row], s[row] = step.grid.times(length)[at : at + 2]
        is_active = (block >= first[:, None]) & (block <= last[:, None])
        return replace(canvas, maskable=canvas.maskable & is_active), replace(step, t=t, s=s)
