"""What one sequence has masked in one modality, and what its next step does there.

All of this is decided on the host, for each sequence alone: so a sample cannot depend on the others in its
batch, and on a GPU the slots of a step are known before its prediction, unless order or count ask for it.
"""

from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from trimask.errors import UserError
from trimask.sampling.canvas import Canvas
from trimask.sampling.config import SamplerConfig
from trimask.sampling.corrector import Remasking, Revealed
from trimask.sampling.count import AdaptiveCount, PlannedCount
from trimask.sampling.guidance import weigh
from trimask.sampling.order import FixedOrder, Order, ScoredOrder, Step

_QUANTUM = 1e-3
_HELD_BACK = 1e9  # nats: more than any score


@final
@dataclass(kw_only=True, eq=False)
class Evidence:
    """What the prediction says of the slots of a canvas; NaN, −1 or False where it was not read.

    Attributes:
        score: of the order.
        measures: what the count measures.
        code: drawn, for orders that look at the drawn code.
        log_probability: log p of the drawn code before filters.
        is_end: whether the drawn, or else the most probable code is the end code.
        now: log p of the code of a revealed slot.
        edited: the code that the corrector puts at a revealed slot.
        edited_log_probability: log p of that code.
    """

    score: Float64[np.ndarray, "slots"]
    measures: Float64[np.ndarray, "slots features"]
    code: Int[np.ndarray, "slots"]
    log_probability: Float64[np.ndarray, "slots"]
    is_end: Bool[np.ndarray, "slots"]
    now: Float64[np.ndarray, "slots"]
    edited: Int[np.ndarray, "slots"]
    edited_log_probability: Float64[np.ndarray, "slots"]

    @classmethod
    def unread(cls, num_slots: int) -> "Evidence":
        """Make evidence of which nothing is read yet."""
        nan = np.full(num_slots, np.nan)
        none = np.full(num_slots, -1)
        return cls(
            score=nan,
            measures=np.full((num_slots, 0), np.nan),
            code=none,
            log_probability=nan.copy(),
            is_end=np.zeros(num_slots, dtype=bool),
            now=nan.copy(),
            edited=none.copy(),
            edited_log_probability=nan.copy(),
        )


@final
@dataclass(kw_only=True, eq=False)
class Track:
    """The slots of a canvas while they are filled by the law `law`.

    Attributes:
        masked: which slots are masked.
        log_probability: log p of each code when it was drawn, before filters; kept for correctors alone.
        step: the step that `begin` chose.
        hidden: revealed slots that the step hides.
        chosen: masked slots that the step reveals, in its order.
        reading: slots whose prediction the step reads to choose; none if it has chosen without.
        previous: log p at all slots in the previous pass, for counts that compare.
    """

    canvas: Canvas
    law: SamplerConfig
    masked: Bool[np.ndarray, "slots"] = field(init=False)
    log_probability: Float64[np.ndarray, "slots"] = field(init=False)
    hidden: Bool[np.ndarray, "slots"] = field(init=False)
    chosen: Int[np.ndarray, "chosen"] = field(init=False)
    reading: Int[np.ndarray, "read"] = field(init=False)
    step: Step = field(init=False)
    previous: Tensor | None = None

    def __post_init__(self) -> None:
        num_slots = self.canvas.num_slots
        self.masked = np.ones(num_slots, dtype=bool)
        self.log_probability = np.full(num_slots, np.nan)
        self._history: list[Float64[np.ndarray, "slots features"]] = []
        self._index = 0
        self._number: int | None = None
        self._times = None
        if isinstance(self.law.count, PlannedCount):
            grid = None
            if self.law.num_steps is not None:
                grid = self.law.grid.times(self.law.num_steps).numpy()
            self._times = _check_times(self.law.count, self.law.count.times(self.canvas, grid))

    @property
    def is_full(self) -> bool:
        return not self.masked.any() and (self._times is None or not self._is_correcting)

    @property
    def _is_correcting(self) -> bool:
        """Whether steps are left in which the corrector may hide something."""
        assert self._times is not None
        return isinstance(self.law.corrector, Remasking) and self._index < len(self._times) - 1

    def weigh(self, weights: tuple[float, ...]) -> Float64[np.ndarray, "terms"]:
        """Return the guidance scale of the next pass, and the weights of further branches."""
        revealed = 1 - float(self.masked.mean())
        return weigh(self.law.guidance_ramp, self.law.guidance_scale, weights, revealed)

    def begin(self, number: int) -> None:
        """Go on to the next step that does anything; choose the slots that it hides and reveals, or those
        that it must read for that. A count without a plan takes its step as pass `number` of the sequence.
        """
        self.hidden = np.zeros_like(self.masked)
        self.chosen = self.reading = np.zeros(0, dtype=np.int64)
        if self.is_full:
            return
        self._number = None
        if self._times is None:
            share = float(self.masked.mean())
            self.step = Step(number=number, t=share, s=share)
        else:
            while not self._take_step():
                pass
        candidates = self._candidates()
        if self.law.reads_evidence:
            self.reading = candidates
            if self.law.corrector is not None and self.law.corrector.rereads:
                self.reading = np.sort(np.concatenate([candidates, (~self.masked).nonzero()[0]]))
        else:
            assert self._number is not None
            self.chosen = self._sort(candidates, None)[: self._number]

    def _take_step(self) -> bool:
        """Take the next step of the plan; return whether it does anything."""
        assert self._times is not None and isinstance(self.law.count, PlannedCount)
        t, s = float(self._times[self._index]), float(self._times[self._index + 1])
        # A step that is skipped has used its random numbers: the next one must not see them again.
        number = self._index
        self._index += 1
        is_last = self._index == len(self._times) - 1
        corrector = self.law.corrector if isinstance(self.law.corrector, Remasking) else None
        sigma = 0.0
        if corrector is not None:
            t, s = corrector.shift(t, s)
            sigma = 0.0 if is_last else corrector.sigma(t, s)
        self.step = Step(number=number, t=t, s=s, sigma=sigma)
        if is_last:
            self._number = int(self.masked.sum())
        elif corrector is not None and corrector.rereads:
            self._number = self._count(0)
            return True
        else:
            if corrector is not None:
                self.hidden = self._remask(corrector, None)
            self._number = self._count(int(self.hidden.sum()))
        return is_last or self._number > 0 or bool(self.hidden.any())

    def _count(self, num_remasked: int) -> int:
        assert isinstance(self.law.count, PlannedCount)
        num_masked = int(self.masked.sum())
        number = self.law.count.number(self.canvas, num_masked, num_remasked, self.step)
        if not isinstance(number, int | np.integer):
            raise UserError(
                f"`number` of the count {self.law.count!r} returned {describe(number)}: return a whole number"
            )
        return min(max(int(number), 0), num_masked)

    def _candidates(self) -> Int[np.ndarray, "candidates"]:
        """Return the masked slots among which the step may choose: those of the first blocks."""
        masked = self.masked.nonzero()[0]
        if self.law.block_length is None or not len(masked):
            return masked
        block = masked // self.law.block_length
        number = 1 if self._number is None else max(self._number, 1)
        return masked[block <= block[number - 1]]

    def _sort(
        self, slots: Int[np.ndarray, "some"], score: Float64[np.ndarray, "slots"] | None
    ) -> Int[np.ndarray, "some"]:
        """Sort slots by block, then by score (the largest first) or the fixed order."""
        key = rank(self.law.order, self.canvas, self.step.number) if score is None else -score
        return sort_slots(slots, key, self.law.block_length)

    def choose(self, evidence: Evidence) -> None:
        """Choose the slots that the step reveals and hides from what it has read, unless it has chosen."""
        if not self.law.reads_evidence:
            return
        candidates = self.reading[self.masked[self.reading]]
        score = self._adjust(evidence, candidates) if isinstance(self.law.order, ScoredOrder) else None
        ordered = self._sort(candidates, score)
        if isinstance(self.law.count, AdaptiveCount):
            self.chosen = ordered[self._accept(self.law.count, evidence, ordered)]
        else:
            corrector = self.law.corrector
            if isinstance(corrector, Remasking) and corrector.rereads and self.step.s > 0:
                self.hidden = self._remask(corrector, evidence, score)
                self._number = self._count(int(self.hidden.sum()))
            self.chosen = ordered[: self._number]

    def finish(self) -> None:
        """Note that the chosen slots are revealed, and the hidden ones masked."""
        self.masked[self.chosen] = False
        self.masked |= self.hidden
        self.log_probability[self.hidden] = np.nan

    def _adjust(
        self, evidence: Evidence, candidates: Int[np.ndarray, "candidates"]
    ) -> Float64[np.ndarray, "slots"]:
        """Return the scores, rounded, with ties broken by the sample's own noise, and end codes held back.
        UserError if those of masked slots are no numbers.
        """
        order, num_slots = self.law.order, self.canvas.num_slots
        assert isinstance(order, ScoredOrder)
        if np.isnan(evidence.score[candidates]).any():
            raise UserError(
                f"`score` of the order {order!r} returned NaN for masked slots: return numbers; if the "
                "order is one of trimask's, the model's prediction is NaN, and its weights may be damaged"
            )
        uniforms = self.canvas.uniforms("order", self.step.number)
        score = (np.rint(evidence.score / _QUANTUM) + uniforms) * _QUANTUM
        score = order.adjust(score, self.canvas, self.step)
        if not is_numbers(score, num_slots) or np.isnan(score[candidates]).any():
            raise UserError(
                f"`adjust` of the order {order!r} returned {describe(score)}: return an array of {num_slots} "
                "numbers, one per slot of the canvas, none of them NaN where a slot is masked"
            )
        if self.law.ends_last:
            left = self.canvas.left
            waits = evidence.is_end & (left >= 0) & self.masked[left]
            score = score - _HELD_BACK * waits
        return score

    def _accept(
        self, count: AdaptiveCount, evidence: Evidence, ordered: Int[np.ndarray, "candidates"]
    ) -> Bool[np.ndarray, "candidates"]:
        unknown = np.full_like(evidence.measures, np.nan)
        self._history = [evidence.measures, *self._history][: count.num_passes]
        missing = count.num_passes - len(self._history)
        history = [measures[ordered] for measures in [*self._history, *[unknown] * missing]]
        accepted = count.accept(history)
        if not isinstance(accepted, np.ndarray) or accepted.dtype != bool or accepted.shape != ordered.shape:
            raise UserError(
                f"`accept` of the count {count!r} returned {describe(accepted)}: return an array of "
                f"{len(ordered)} booleans, one per masked slot"
            )
        if not accepted.any():
            accepted = np.arange(len(ordered)) == 0
        return accepted

    def _remask(
        self,
        corrector: Remasking,
        evidence: Evidence | None,
        score: Float64[np.ndarray, "slots"] | None = None,
    ) -> Bool[np.ndarray, "slots"]:
        unknown = np.full(len(self.masked), np.nan)
        revealed = Revealed(
            canvas=self.canvas,
            step=self.step,
            visible=~self.masked,
            log_probability=self.log_probability,
            score=unknown if score is None else score,
            num_masked_after=int(self.masked.sum()) - self._count(0),
            now=lambda: unknown if evidence is None else evidence.now,
        )
        hidden = corrector.choose(revealed)
        if not isinstance(hidden, np.ndarray) or hidden.dtype != bool or hidden.shape != self.masked.shape:
            raise UserError(
                f"`choose` of the corrector {corrector!r} returned {describe(hidden)}: return an array of "
                f"{len(self.masked)} booleans, one per slot of the canvas"
            )
        return hidden & ~self.masked


def rank(order: Order, canvas: Canvas, step: int) -> Float64[np.ndarray, "slots"]:
    """Return the ranks of a fixed order. Raise UserError if a user's order returns something else."""
    assert isinstance(order, FixedOrder)
    ranks = order.rank(canvas, step)
    if not is_numbers(ranks, canvas.num_slots) or np.isnan(ranks).any():
        raise UserError(
            f"`rank` of the order {order!r} returned {describe(ranks)}: return an array of "
            f"{canvas.num_slots} numbers, one per slot of the canvas, and none of them NaN"
        )
    return ranks


def is_numbers(value: object, number: int) -> bool:
    """Return whether a user's code returned an array of so many real numbers."""
    return isinstance(value, np.ndarray) and value.shape == (number,) and value.dtype.kind in "iufb"


def _check_times(count: PlannedCount, times: Any) -> Float64[np.ndarray, "times"]:
    """Return the times of a count. Raise UserError if a user's count returned something else."""
    is_line = isinstance(times, np.ndarray) and times.ndim == 1 and len(times) > 1
    if is_line and times[0] == 1 and times[-1] >= 0 and (np.diff(times) <= 0).all():
        return times
    raise UserError(
        f"`times` of the count {count!r} returned {describe(times)}: return an array of at least two times "
        "that falls from 1"
    )


def sort_slots(
    slots: Int[np.ndarray, "some"], key: Float64[np.ndarray, "slots"], block_length: int | None
) -> Int[np.ndarray, "some"]:
    """Sort slots by block, then by key, the smallest first."""
    return slots[np.lexsort((slots, key[slots], slots // (block_length or len(key))))]


def describe(value: object) -> str:
    """Describe what a user's code returned, for messages."""
    if isinstance(value, np.ndarray | Tensor):
        return f"{type(value).__name__} of {value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__
