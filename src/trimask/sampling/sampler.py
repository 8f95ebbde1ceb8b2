"""The reverse process in one loop: predict, draw, reveal."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from trimask.diffusion.forward import is_masked
from trimask.diffusion.schedule import Linear, Schedule
from trimask.errors import UserError
from trimask.sampling.categorical import draw
from trimask.sampling.filters import Filter, Temperature, TopP, apply_filters
from trimask.sampling.grid import TimeGrid, Uniform
from trimask.sampling.guidance import ConstantGuidance, GuidanceRamp, Guided, check_guidance_scale
from trimask.sampling.order import Ancestral, Canvas, Order, Step
from trimask.sampling.predictor import Prediction, Predictor
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.slots import SlotTables

_MOST_STEPS = 100_000  # more than any sequence has slots


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerConfig:
    """How to sample: grid × order × filters × guidance.

    Raises: UserError for fewer than one step, or a guidance scale that is negative or not finite.
    """

    num_steps: int
    grid: TimeGrid = Uniform()
    order: Order = Ancestral()
    filters: tuple[Filter, ...] = ()
    guidance_scale: float = 1.0
    guidance_ramp: GuidanceRamp = ConstantGuidance()
    schedule: Schedule = Linear()

    def __post_init__(self) -> None:
        if not 1 <= self.num_steps <= _MOST_STEPS:
            raise UserError(f"num_steps is {self.num_steps}: give at least 1, at most {_MOST_STEPS:,}")
        check_guidance_scale(self.guidance_scale)

    def adjust(
        self,
        *,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
    ) -> "SamplerConfig":
        """Replace the settings that are not None; the temperature becomes the first filter, top-p the
        last."""
        config = self
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


@torch.inference_mode()
def sample(
    predictor: Predictor,
    batch: Batch,
    config: SamplerConfig,
    *,
    seed: int,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Int[Tensor, "rows slots"]:
    """Fill every maskable slot of the batch with a code of its range; return the tokens. Tokens given at
    maskable slots are ignored.

    Sample k is the same at any batch size: its random numbers are a function of (seed, sample_index, step,
    slot).

    Args:
        predictor: gives log-probabilities; called once per step, twice with guidance, never if the step
            reveals nothing.
        batch: one sequence per row.
        callback: called with (steps done, z) before the first step and after each one.

    Raises:
        UserError: the batch packs several sequences into a row, or the order returns something else than
            slots, or leaves masks.
    """
    if not torch.equal(batch.sequence.amax(1), torch.arange(len(batch.tokens), device=batch.tokens.device)):
        raise UserError("sampling needs one sequence per row: make the batch without a row_length")
    vocabulary = predictor.vocabulary
    predict = (
        Guided(predictor, config.guidance_scale, config.guidance_ramp)
        if config.guidance_scale != 1
        else predictor
    )
    canvas = make_canvas(batch, vocabulary)
    mask_id = SlotTables(vocabulary, batch.tokens.device).mask_id(batch.range_index)
    times = config.grid.times(config.num_steps).tolist()

    z = torch.where(batch.maskable, mask_id, batch.tokens)
    if callback:
        callback(0, z)
    for index, (t, s) in enumerate(pairwise(times)):
        step = _make_step(index, t, s, canvas, config, seed)
        masked = is_masked(z, maskable=batch.maskable, mask_id=mask_id)
        proposed = _propose(config.order, masked, canvas, step)
        if proposed.any():
            drawn, log_confidence = _draw_tokens(
                predict(z, batch), proposed, batch, vocabulary, config.filters, step.uniforms("code", canvas)
            )
            z = torch.where(_reveal(config.order, proposed, log_confidence, canvas, step), drawn, z)
        if callback:
            callback(index + 1, z)

    num_masked = int(is_masked(z, maskable=batch.maskable, mask_id=mask_id).sum())
    if num_masked:
        raise UserError(
            f"the order {config.order!r} left {num_masked} slots masked: where step.s is 0, the last step, "
            "let its `propose` return all masked slots and its `reveal` all proposed ones"
        )
    return z


def _propose(
    order: Order, masked: Bool[Tensor, "rows slots"], canvas: Canvas, step: Step
) -> Bool[Tensor, "rows slots"]:
    return _check_slots(order.propose(masked, canvas, step), masked, order, "propose")


def _reveal(
    order: Order,
    proposed: Bool[Tensor, "rows slots"],
    log_confidence: Float64[Tensor, "rows slots"],
    canvas: Canvas,
    step: Step,
) -> Bool[Tensor, "rows slots"]:
    return _check_slots(order.reveal(proposed, log_confidence, canvas, step), proposed, order, "reveal")


def _check_slots(
    slots: object, like: Bool[Tensor, "rows slots"], order: Order, method: str
) -> Bool[Tensor, "rows slots"]:
    """Return the slots that a method of `order` returned. Raise UserError if they are something else."""
    wanted = (torch.bool, like.shape, like.device)
    if isinstance(slots, Tensor) and (slots.dtype, slots.shape, slots.device) == wanted:
        return slots
    found = type(slots).__name__
    if isinstance(slots, Tensor):
        found = f"a tensor of {slots.dtype} of shape {tuple(slots.shape)} on {slots.device}"
    raise UserError(
        f"`{method}` of the order {order!r} returned {found}: return a tensor of torch.bool of shape "
        f"{tuple(like.shape)} (rows, slots) on {like.device}"
    )


def make_canvas(batch: Batch, vocabulary: Vocabulary) -> Canvas:
    """Build the canvas of a batch."""
    ranges, tables = batch.range_index, SlotTables(vocabulary, batch.range_index.device)
    return Canvas(
        maskable=batch.maskable,
        num_modalities=len(vocabulary.spaces),
        modality=tables.modality(ranges),
        codebook=tables.codebook(ranges),
        sample_index=batch.sample_index,
    )


def _make_step(index: int, t: float, s: float, canvas: Canvas, config: SamplerConfig, seed: int) -> Step:
    row = torch.ones(len(canvas.sample_index), dtype=torch.float64, device=canvas.sample_index.device)
    return Step(
        index=index,
        num_steps=config.num_steps,
        t=t * row,
        s=s * row,
        grid=config.grid,
        schedule=config.schedule,
        seed=seed,
    )


def _draw_tokens(
    prediction: Prediction,
    proposed: Bool[Tensor, "rows slots"],
    batch: Batch,
    vocabulary: Vocabulary,
    filters: tuple[Filter, ...],
    uniforms: Float64[Tensor, "rows slots"],
) -> tuple[Int[Tensor, "rows slots"], Float64[Tensor, "rows slots"]]:
    """Draw a token for each proposed slot, one codebook range at a time; return the tokens and their
    log-probabilities before filters."""
    drawn = batch.tokens.flatten().clone()
    log_confidence = torch.full_like(uniforms, -math.inf).flatten()
    is_proposed, range_index = proposed.flatten(), batch.range_index.flatten()
    for token_range in vocabulary.ranges:
        slots = (is_proposed & (range_index == token_range.index)).nonzero().squeeze(1)
        if len(slots):
            log_probabilities = prediction(slots, token_range.index)
            code = draw(apply_filters(filters, log_probabilities), uniforms.flatten()[slots])
            drawn[slots] = code + token_range.start
            log_confidence[slots] = log_probabilities.gather(1, code[:, None]).squeeze(1).double()
    return drawn.view_as(batch.tokens), log_confidence.view_as(uniforms)
