"""The information profile of a model in an order, and the best times that follow from it.

A step that goes from t to s (fractions of masked slots) costs the cross-entropy of the slots it reveals,
given what is revealed at t. Teacher-forced passes at the levels of a lattice measure this cost for all pairs
of levels t > s, so the best K times are found exactly, by dynamic programming over pairs.

In random order all masked slots are alike: the cost is (t − s) · Z(t), where Z(t) is the cross-entropy per
token at mask ratio t, and the excess of a grid over infinitely many steps is its Riemann sum
Σ (t_k − t_{k+1}) · Z(t_k) − ∫ Z (Lavenant & Zanella, arXiv 2510.25544) [L].
"""

from collections.abc import Sequence as Rows
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from trimask.devices import send
from trimask.errors import UserError
from trimask.sampling.canvas import Canvas
from trimask.sampling.config import SamplerConfig
from trimask.sampling.filters import apply_filters
from trimask.sampling.grid import Tabulated, TimeGrid
from trimask.sampling.guidance import Guidance, weigh
from trimask.sampling.order import FixedOrder
from trimask.sampling.passes import Passes
from trimask.sampling.predictor import Prediction, Predictor
from trimask.sampling.recompute import Everything
from trimask.sampling.row import make_rows
from trimask.sampling.track import rank, sort_slots
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence
from trimask.vocabulary.slots import SlotTables


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class InformationProfile:
    """What each step costs.

    Attributes:
        levels: fractions of masked slots, from 1 down to 0.
        cost: `cost[i, j]` is the cross-entropy, in nats per target token of the documents, of the slots
            between levels i and j > i, given what is revealed at level i. 0 where j <= i.
    """

    levels: Float64[np.ndarray, "levels"]
    cost: Float64[np.ndarray, "levels levels"]

    def cross_entropy(self) -> Float64[np.ndarray, "levels_but_last"]:
        """Return Z at each level but the last, in nats per token: the mean over all masked slots."""
        return self.cost[:-1, -1] / self.levels[:-1]

    def evaluate(self, times: Rows[float]) -> float:
        """Return the nats per token of a sampler with these times, each moved to the nearest level."""
        places = [int(np.abs(self.levels - time).argmin()) for time in times]
        return float(sum(self.cost[i, j] for i, j in pairwise(places)))

    def find_best_times(self, num_steps: int) -> tuple[float, ...]:
        """Return the `num_steps` + 1 levels, from 1 to 0, with the smallest total cost.

        Raises:
            UserError: there are fewer levels than steps.
        """
        num_levels = len(self.levels)
        if not 1 <= num_steps < num_levels:
            raise UserError(
                f"num_steps is {num_steps}: a profile of {num_levels} levels gives 1 to {num_levels - 1}"
            )
        best = np.full((num_steps + 1, num_levels), np.inf)
        come_from = np.zeros((num_steps + 1, num_levels), dtype=np.int64)
        best[0, 0] = 0.0
        for step in range(1, num_steps + 1):
            for j in range(step, num_levels):
                total = best[step - 1, :j] + self.cost[:j, j]
                come_from[step, j] = total.argmin()
                best[step, j] = total.min()
        places = [num_levels - 1]
        for step in range(num_steps, 0, -1):
            places.append(int(come_from[step, places[-1]]))
        return tuple(float(self.levels[place]) for place in reversed(places))

    def make_grid(self, numbers_of_steps: Rows[int] = (2, 3, 4, 6, 8, 12, 16, 24, 32)) -> TimeGrid:
        """Return a grid of the best times for each of these numbers of steps that the levels allow."""
        numbers = [number for number in numbers_of_steps if number < len(self.levels)]
        return Tabulated(times_of_steps=tuple(self.find_best_times(number) for number in numbers))


def measure_profile(
    predictor: Predictor,
    documents: Rows[Sequence],
    config: SamplerConfig,
    *,
    num_levels: int = 33,
    seed: int = 0,
    guidance: Rows[Guidance] | None = None,
    batch_size: int = 16,
) -> InformationProfile:
    """Measure the profile of the order of `config` on documents, with its guidance and filters.

    Takes `num_levels` − 1 passes per document. Of a task with several targets, all are masked alike.

    Raises:
        UserError: the order is not fixed, or fewer than 2 levels.
    """
    for law in config.laws:
        if not isinstance(law.order, FixedOrder) or law.corrector is not None:
            raise UserError(
                f"a profile needs a fixed order and no corrector, not {law.order!r} and {law.corrector!r}"
            )
    if num_levels < 2:
        raise UserError(f"num_levels is {num_levels}: give at least 2, all masked and none masked")
    levels = np.linspace(1, 0, num_levels)
    cost = np.zeros((num_levels, num_levels))
    for start in range(0, len(documents), batch_size):
        some = documents[start : start + batch_size]
        guided_by = None if guidance is None else guidance[start : start + batch_size]
        cost += _measure(predictor, some, config, levels, seed=seed, first_key=start, guidance=guided_by)
    num_tokens = sum(int(document.maskable.sum()) for document in documents)
    return InformationProfile(levels=levels, cost=cost / num_tokens)


@torch.inference_mode()
def _measure(
    predictor: Predictor,
    documents: Rows[Sequence],
    config: SamplerConfig,
    levels: Float64[np.ndarray, "levels"],
    *,
    seed: int,
    first_key: int,
    guidance: Rows[Guidance] | None,
) -> Float64[np.ndarray, "levels levels"]:
    """Return the cost of each pair of levels, in nats summed over documents."""
    vocabulary = predictor.vocabulary
    keys = range(first_key, first_key + len(documents))
    rows = make_rows(vocabulary, documents, config, seed=seed, keys=keys, guidance=guidance)
    batch = make_batch(documents, range(len(documents)))
    for row in rows:
        row.recompute = Everything()  # levels are far apart: nothing is kept from one to the next
    passes = Passes(predictor)
    passes.arrange(rows, batch, [None for _ in rows])
    batch = batch.to(predictor.device)
    mask_id = SlotTables(vocabulary, predictor.device).mask_id(batch.range_index)
    canvases = [(number, track.law, track.canvas) for number, row in enumerate(rows) for track in row.tracks]
    ordered = [
        sort_slots(np.arange(canvas.num_slots), rank(law.order, canvas, 0), law.block_length)
        for _, law, canvas in canvases
    ]
    cost = np.zeros((len(levels), len(levels)))
    for number, level in enumerate(levels[:-1]):
        hidden = np.zeros(tuple(batch.tokens.shape), dtype=bool)
        weights = np.zeros((1 + max(len(row.weights) for row in rows), *hidden.shape))
        weights[0] = 1
        for (row, law, canvas), order in zip(canvases, ordered, strict=True):
            hidden[row, canvas.slot[order[_visible(canvas, level) :]]] = True
            if rows[row].branches:
                found = weigh(law.guidance_ramp, law.guidance_scale, rows[row].weights, 1 - float(level))
                weights[: len(found), row, canvas.slot] = found[:, None]
        masked = send(torch.from_numpy(hidden), predictor.device)
        z = torch.where(masked, mask_id, batch.tokens)
        prediction = passes.predict(z, weights, hidden, hidden)
        nats = _cross_entropy(prediction, batch, masked, vocabulary, config, level)
        for (row, _, canvas), order in zip(canvases, ordered, strict=True):
            total = np.concatenate([[0.0], nats[row, canvas.slot[order]].cumsum()])
            ends = [_visible(canvas, later) for later in levels[number + 1 :]]
            cost[number, number + 1 :] += total[ends] - total[_visible(canvas, level)]
    return cost


def _visible(canvas: Canvas, level: float) -> int:
    """Return how many slots are revealed at a level, as the count `Scheduled` has it."""
    return canvas.num_slots - int(np.rint(canvas.num_slots * level))


def _cross_entropy(
    prediction: Prediction,
    batch: Batch,
    masked: Bool[Tensor, "rows slots"],
    vocabulary: Vocabulary,
    config: SamplerConfig,
    level: float,
) -> Float64[np.ndarray, "rows slots"]:
    """Return −log p of the clean token at each masked slot, after filters; 0 elsewhere."""
    nats = torch.zeros(batch.tokens.numel(), dtype=torch.float64, device=masked.device)
    for token_range in vocabulary.ranges:
        slots = (masked & (batch.range_index == token_range.index)).flatten().nonzero()[:, 0]
        if len(slots):
            log_p = prediction(slots, token_range.index)
            share = torch.full((len(slots),), level, dtype=torch.float64, device=masked.device)
            filtered = apply_filters(config.of_target(token_range.modality).filters, log_p, share)
            clean = batch.tokens.flatten()[slots] - token_range.start
            nats[slots] = -torch.log_softmax(filtered.double(), 1).gather(1, clean[:, None])[:, 0]
    return nats.view_as(batch.tokens).cpu().numpy()
