"""Check updates for non-finite values: stop the run, or report updates that the step skipped."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from trimask.training.checkpoint import Checkpoints
from trimask.training.distributed import World
from trimask.training.sharded_tensors import local
from trimask.training.tracker import SKIPPED, read_scalars

logger = logging.getLogger(__name__)

# A non-finite value of these in a step's metrics stops the run.
_GUARDED = ("loss", "grad_norm")
# This many skipped updates in a row stop it too.
_MAX_SKIPPED = 10


class NonFiniteLoss(RuntimeError):
    """A loss, gradient norm or weight is NaN or infinite. No checkpoint contains it."""


@final
@dataclass(kw_only=True, slots=True)
class FinitenessCheck:
    """Checks the metrics of each update once, with the same result in all processes.

    Attributes:
        checked: updates whose metrics were checked.
        skipped_in_a_row: number of most recent updates that were skipped.
    """

    batches: Callable[[int], Iterable[Any]]
    checkpoints: Checkpoints
    world: World
    checked: int
    skipped_in_a_row: int

    def metrics(self, window: Sequence[Mapping[str, float]], done: int) -> None:
        """Check the metrics of the last of `done` updates. Raise NonFiniteLoss at a non-finite value; if the
        step skipped the update (`skipped` is 1), log it, and raise only after too many in a row.
        """
        for number, metrics in enumerate(window, done - len(window) + 1):
            if number <= self.checked:
                continue
            self.checked = number
            bad = next((name for name in _GUARDED if not math.isfinite(metrics.get(name, 0.0))), None)
            what = "its gradient" if bad is None else f"{bad} = {metrics[bad]}"
            if metrics.get(SKIPPED):
                self._tell_skipped(number, what)
                continue
            self.skipped_in_a_row = 0
            if bad is not None:
                raise self._error(number, what)

    def tensors(self, tensors: Mapping[str, Tensor], done: int) -> None:
        """Raise NonFiniteLoss if a tensor is not finite: the update can overflow even if the loss was
        finite."""
        finite = read_scalars([local(tensor).isfinite().all() for tensor in tensors.values()])
        bad = next((name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite), None)
        if self.world.any(bad is not None):
            names = [name for name in self.world.gather(bad) if name is not None]
            raise self._error(done, f"{names[0]} after the update")

    def _tell_skipped(self, number: int, what: str) -> None:
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= _MAX_SKIPPED:
            raise self._error(number, f"{what}, the {_MAX_SKIPPED}th update in a row that was skipped")
        if self.world.is_main:
            batch = self._describe_batch(number)
            logger.warning("step %d is not finite: %s; the update was skipped. %s", number, what, batch)

    def _error(self, number: int, what: str) -> NonFiniteLoss:
        newest = self.checkpoints.describe_newest()
        return NonFiniteLoss(f"step {number} is not finite: {what}. {self._describe_batch(number)}. {newest}")

    def _describe_batch(self, number: int) -> str:
        index = number - 1
        # Recreate the batch: keeping a window of batches would hold memory.
        batch = next(iter(self.batches(index)), None)
        describe = getattr(batch, "describe", None)
        return f"Batch {index}: {describe() if callable(describe) else 'has no description'}"
