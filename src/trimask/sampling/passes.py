"""The passes of the network that one step of the sampler takes: over the sequences, and over the branches
that guide them; all positions are computed, or some on kept keys and values.
"""

from collections.abc import Sequence as Rows
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from trimask.devices import send
from trimask.sampling.branches import Branches
from trimask.sampling.kept import KeptPasses, require_partial
from trimask.sampling.predictor import Prediction, Predictor, predict_at, read_nothing
from trimask.sampling.recompute import Everything, Recompute
from trimask.sampling.row import Row
from trimask.vocabulary.batch import Batch


@final
class Passes:
    """Predicts for the sequences of a batch, with guidance."""

    def __init__(self, predictor: Predictor):
        self.predictor = predictor
        self._rows: list[Row] = []
        self._batch: Batch | None = None
        self._branches: Branches | None = None
        self._kept: KeptPasses | None = None
        self._kept_branches: KeptPasses | None = None

    def arrange(self, rows: Rows[Row], batch: Batch, origins: Rows[int | None]) -> None:
        """Go over to `rows`, which `batch` has; `origins` says which row of the last batch each was, None for
        a new one. Rows that stay come first, in their order.
        """
        before = {} if self._branches is None else self._branches.numbers
        self._rows, self._batch, self._branches = list(rows), batch, None
        if any(row.branches for row in rows):
            self._branches = Branches(
                [row.document for row in rows],
                [row.branches for row in rows],
                batch.tokens.shape[1],
                self.predictor.device,
            )
        if all(isinstance(row.recompute, Everything) for row in rows):
            self._kept = self._kept_branches = None
            return
        self._kept = _arrange(self._kept, self.predictor, batch, origins)
        if self._branches is None:
            self._kept_branches = None
            return
        places = [(origins[row], term) for row, term in self._branches.numbers]
        of_branches = [None if row is None else before.get((row, term)) for row, term in places]
        self._kept_branches = _arrange(self._kept_branches, self.predictor, self._branches.batch, of_branches)

    def note_changes(self, changed: Bool[np.ndarray, "rows slots"]) -> None:
        """Note which tokens a step has changed."""
        if self._kept is not None:
            self._kept.note_changes(changed)
        if self._kept_branches is not None and self._branches is not None:
            self._kept_branches.note_changes(self._branches.carry(changed))

    def predict(
        self,
        z: Int[Tensor, "rows slots"],
        weights: Float64[np.ndarray, "terms rows slots"],
        masked: Bool[np.ndarray, "rows slots"],
        read: Bool[np.ndarray, "rows slots"],
    ) -> Prediction:
        """Predict at the slots `read`: a pass over the rows that read, and one over the branches that they
        need. A row is exactly unguided, and costs no second pass, where its weights are 1, 0, 0, …

        Args:
            weights: of each row's own prediction, and of its further branches.
            masked: masked targets.
        """
        assert self._batch is not None
        reads = np.asarray(read.any(axis=1))
        if not reads.any():
            return read_nothing
        if self._kept is None:
            own = predict_at(self.predictor, z, self._batch, read)
        else:
            own = self._kept.predict(z, self._policies(np.arange(len(reads)), reads), masked, read)
        if self._branches is None:
            return own
        needed = self._branches.find_needed(weights, reads)
        if not needed.any():
            return own
        of_branches = self._predict_branches(z, needed, masked, read)
        return self._branches.mix(own, of_branches, weights, read, self._batch, z.device)

    def _predict_branches(
        self,
        z: Int[Tensor, "rows slots"],
        needed: Bool[np.ndarray, "branches"],
        masked: Bool[np.ndarray, "rows slots"],
        read: Bool[np.ndarray, "rows slots"],
    ) -> Prediction:
        """Predict with some of the branches, by their own slots."""
        assert self._branches is not None
        filled = self._branches.fill(z)
        carried = self._branches.carry(read) & needed[:, None]
        if self._kept_branches is not None:
            policies = self._policies(self._branches.row, needed)
            return self._kept_branches.predict(filled, policies, self._branches.carry(masked), carried)
        rows = torch.from_numpy(needed.nonzero()[0])
        some = self._branches.batch.rows(rows)
        prediction = predict_at(self.predictor, filled[send(rows, z.device)], some, carried[needed])
        place = torch.full((len(needed),), -1)
        place[rows] = torch.arange(len(rows))
        place, num_slots = send(place, z.device), filled.shape[1]

        def of_all_branches(slots: Int[Tensor, "n"], range_index: int) -> Float[Tensor, "n codes"]:
            return prediction(place[slots // num_slots] * num_slots + slots % num_slots, range_index)

        return of_all_branches

    def _policies(
        self, rows: Int[np.ndarray, "inputs"], computed: Bool[np.ndarray, "inputs"]
    ) -> list[Recompute | None]:
        """Return the policy of each input that is computed."""
        return [self._rows[row].recompute if yes else None for row, yes in zip(rows, computed, strict=True)]


def _arrange(
    kept: KeptPasses | None, predictor: Predictor, batch: Batch, origins: Rows[int | None]
) -> KeptPasses:
    """Arrange keys and values of earlier passes for `batch`, or begin anew."""
    if kept is None:
        kept, origins = KeptPasses(require_partial(predictor)), [None for _ in origins]
    kept.arrange(batch, origins)
    return kept
