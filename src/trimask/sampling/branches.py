"""The branches of a batch: other inputs of the network for the same targets, mixed into one prediction."""

from collections.abc import Sequence as Rows
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from trimask.devices import send
from trimask.sampling.predictor import Prediction
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.sequence import Sequence


@final
class Branches:
    """The branches of all documents of a batch, as a batch of their own: the base of each guided document
    (term 0), and its further branches (terms 1, 2, …).

    A target's slots correspond one to one, by modality and place. Conditions may have other lengths, so the
    slots and positions of a branch are its own.

    Attributes:
        batch: one row per branch, in order of the documents.
        row, term: of each branch, the document in its batch, and which of its branches it is.
        numbers: of the branches, by both.
    """

    def __init__(
        self,
        documents: Rows[Sequence],
        branches: Rows[tuple[Sequence, ...]],
        width: int,
        device: torch.device,
    ):
        """`branches` has those of each document, none for documents that are not guided; some has. `width` is
        the slots of a row of the documents' batch.
        """
        listed = [
            (row, term, each) for row, several in enumerate(branches) for term, each in enumerate(several)
        ]
        self.batch = make_batch([document for _, _, document in listed], range(len(listed)))
        self.row = np.array([row for row, _, _ in listed])
        self.term = np.array([term for _, term, _ in listed])
        self.numbers = {(row, term): number for number, (row, term, _) in enumerate(listed)}
        self._shape = tuple(self.batch.tokens.shape)
        targets = [document.maskable.nonzero()[0] for document in documents]
        slots = [document.maskable.nonzero()[0] for _, _, document in listed]
        there = np.concatenate([number * self._shape[1] + each for number, each in enumerate(slots)])
        here = np.concatenate([row * width + targets[row] for row in self.row])
        at = np.full((self.term.max() + 1, len(documents) * width), -1)
        at[np.concatenate([np.full(len(s), t) for s, t in zip(slots, self.term, strict=True)]), here] = there
        self._here, self._there = here, there
        self._tokens = send(self.batch.tokens, device)
        self._from = send(torch.from_numpy(here), device)
        self._to = send(torch.from_numpy(there), device)
        self._at = send(torch.from_numpy(at), device)

    def fill(self, z: Int[Tensor, "rows slots"]) -> Int[Tensor, "branches branch_slots"]:
        """Return the branches with the targets of `z`."""
        return self._tokens.flatten().index_copy(0, self._to, z.flatten()[self._from]).view(self._shape)

    def carry(self, flags: Bool[np.ndarray, "rows slots"]) -> Bool[np.ndarray, "branches branch_slots"]:
        """Return flags of targets as those of the corresponding slots of each branch."""
        carried = np.zeros(self._shape, dtype=bool)
        carried.reshape(-1)[self._there] = flags.reshape(-1)[self._here]
        return carried

    def find_needed(
        self, weights: Float64[np.ndarray, "terms rows slots"], reads: Bool[np.ndarray, "rows"]
    ) -> Bool[np.ndarray, "branches"]:
        """Return the branches that a pass needs: those with a weight, and the bases of their documents.

        Args:
            weights: of the documents' own predictions, and of the terms 1, 2, …
            reads: the documents whose prediction is read.
        """
        has_weight = (weights != _neutral(len(weights))).any(2) & reads
        has_weight[0] = has_weight.any(0)  # of a document's own prediction, or of any: its base is needed
        return has_weight[self.term, self.row]

    def mix(
        self,
        own: Prediction,
        of_branches: Prediction,
        weights: Float64[np.ndarray, "terms rows slots"],
        read: Bool[np.ndarray, "rows slots"],
        batch: Batch,
        device: torch.device,
    ) -> Prediction:
        """Return base + Σ w_i · (p_i − base) on log-probabilities, normalized again, where a weight acts; the
        documents' own prediction elsewhere. Filters such as temperature and top-p act after it.

        Args:
            read: slots that may be read. No others are read from `of_branches`.
            batch: the documents, on the host.
        """
        acts = (weights != _neutral(len(weights))) & read
        acts[0] = acts.any(0)  # the base, wherever any weight acts
        index = batch.range_index.numpy()
        # The host would wait for a GPU to pick the slots where a weight acts out of those that are asked for.
        # So it reads as many of a branch, in place of the others the first of them.
        first = [
            {int(r): int((term & (index == r)).reshape(-1).argmax()) for r in np.unique(index[term])}
            for term in acts
        ]
        acts_at = send(torch.from_numpy(acts.reshape(len(acts), -1)), device)
        w = send(torch.from_numpy(weights.reshape(len(weights), -1)), device)

        def log_probabilities(slots: Int[Tensor, "n"], range_index: int) -> Float[Tensor, "n codes"]:
            log_p = own(slots, range_index)
            if range_index not in first[0]:
                return log_p

            def read_branch(term: int) -> Float[Tensor, "n codes"]:
                stand_in = first[term][range_index]
                some = slots.masked_fill(~acts_at[term, slots], stand_in)
                return of_branches(self._at[term, some], range_index)

            base = read_branch(0)
            mixed = base + w[0, slots, None].to(base.dtype) * (log_p - base)
            for term in range(1, len(w)):
                if range_index in first[term]:
                    change = w[term, slots, None].to(base.dtype) * (read_branch(term) - base)
                    mixed = torch.where(acts_at[term, slots, None], mixed + change, mixed)
            return torch.where(acts_at[0, slots, None], torch.log_softmax(mixed, dim=-1), log_p)

        return log_probabilities


def _neutral(num_terms: int) -> Float64[np.ndarray, "terms 1 1"]:
    """Return the weights of no guidance: 1 of the own prediction, 0 of others."""
    return (np.arange(num_terms) == 0).astype(np.float64)[:, None, None]
