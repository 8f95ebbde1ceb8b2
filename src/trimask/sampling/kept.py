"""Passes over a batch that keep keys and values: the state of one input of the network, guided or not."""

from collections.abc import Sequence as Rows
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from trimask.errors import UserError
from trimask.model.cache import KeyValueCache
from trimask.sampling.predictor import PartialPredictor, Prediction, Predictor
from trimask.sampling.recompute import Pass, Recompute
from trimask.sampling.track import describe
from trimask.vocabulary.batch import Batch


@final
class KeptPasses:
    """Keys and values of a batch, and what has changed since they were computed.

    Attributes:
        num_positions: positions computed so far, over all passes.
    """

    def __init__(self, predictor: PartialPredictor):
        self.predictor, self.num_positions = predictor, 0
        self._cache: KeyValueCache | None = None
        self._batch: Batch | None = None
        self._changed: list[np.ndarray] = []
        self._passes: list[int] = []

    def arrange(self, batch: Batch, origins: Rows[int | None]) -> None:
        """Go over to the rows of `batch`; `origins` says which row of the last batch each was, None for a new
        one. Rows that stay come first, in their order.
        """
        stay = [number for number in origins if number is not None]
        cache = self.predictor.empty_cache(batch)
        if stay and self._cache is not None and self._batch is not None:
            ends = self._batch.cu_positions
            kept = torch.cat([torch.arange(int(ends[row]), int(ends[row + 1])) for row in stay])
            new = cache.select(torch.arange(len(kept), batch.num_positions))
            cache = self._cache.select(kept).followed_by(new)
        self._changed = [
            np.ones(batch.tokens.shape[1], dtype=bool)
            if number is None
            else _resize(self._changed[number], batch.tokens.shape[1])
            for number in origins
        ]
        self._passes = [0 if number is None else self._passes[number] for number in origins]
        self._cache, self._batch = cache, batch

    def note_changes(self, changed: Bool[np.ndarray, "rows slots"]) -> None:
        """Note which tokens a pass has changed."""
        for row, slots in enumerate(changed):
            self._changed[row] |= slots

    def predict(
        self,
        z: Int[Tensor, "rows slots"],
        policies: Rows[Recompute | None],
        masked: Bool[np.ndarray, "rows slots"],
        read: Bool[np.ndarray, "rows slots"],
    ) -> Prediction:
        """Compute what the policy of each row asks for; None leaves a row out. The prediction may be read at
        the slots `read`.
        """
        assert self._batch is not None and self._cache is not None
        active = np.zeros(read.shape, dtype=bool)
        is_slot = (self._batch.position >= 0).numpy()
        prefix = self._prefix_slots()
        for row, policy in enumerate(policies):
            if policy is None:
                continue
            every = policy.renew_every
            is_renewal = self._passes[row] == 0 or (every is not None and self._passes[row] % every == 0)
            if is_renewal:
                active[row] = is_slot[row]
            else:
                needs = Pass(
                    is_prefix=prefix[row],
                    masked=masked[row],
                    read=read[row],
                    changed=self._changed[row] & is_slot[row],
                )
                active[row] = (_choose(policy, needs) | read[row]) & is_slot[row]
            self._passes[row] += 1
        positions = self._batch.position.numpy()
        chosen = torch.from_numpy(np.unique(positions[active]))
        is_computed = np.zeros(self._batch.num_positions, dtype=bool)
        is_computed[chosen.numpy()] = True
        for row in range(len(self._changed)):
            self._changed[row] &= ~(is_slot[row] & is_computed[positions[row]])
        at = torch.from_numpy(np.unique(positions[read & active]))
        self.num_positions += len(chosen)
        return self.predictor.predict_some(z, self._batch, at, cache=self._cache, active=chosen)

    def _prefix_slots(self) -> Bool[np.ndarray, "rows slots"]:
        """Return the slots before the first target of each row."""
        assert self._batch is not None
        batch = self._batch
        first = (batch.cu_positions[:-1] + batch.prefix_length)[batch.sequence.clamp(min=0)]
        return ((batch.position >= 0) & (batch.position < first)).numpy()


def require_partial(predictor: Predictor) -> PartialPredictor:
    """Return the predictor. Raise UserError if it cannot keep keys and values."""
    if not isinstance(predictor, PartialPredictor):
        raise UserError(
            f"the predictor {type(predictor).__name__} keeps no keys and values: sample with "
            "recompute Everything"
        )
    return predictor


def _choose(policy: Recompute, needs: Pass) -> Bool[np.ndarray, "slots"]:
    chosen = policy.choose(needs)
    if not isinstance(chosen, np.ndarray) or chosen.dtype != bool or chosen.shape != needs.read.shape:
        raise UserError(
            f"`choose` of the policy {policy!r} returned {describe(chosen)}: return an array of "
            f"{len(needs.read)} booleans, one per slot"
        )
    return chosen


def _resize(flags: Bool[np.ndarray, "before"], width: int) -> Bool[np.ndarray, "after"]:
    return np.pad(flags[:width], (0, max(0, width - len(flags))))
