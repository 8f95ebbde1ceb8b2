"""Which slots of the branches guided passes read, and that those without guidance are as without it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from generation.fakes import random_denoiser
from sampling.test_sampler_loop import DOCUMENTS
from trimask.sampling import DenoiserPredictor
from trimask.sampling.branches import Branches
from trimask.vocabulary.batch import make_batch

PREDICTOR = DenoiserPredictor(random_denoiser())
SEQUENCES = [DOCUMENTS[0], DOCUMENTS[1], DOCUMENTS[0], DOCUMENTS[3]]
BATCH = make_batch(SEQUENCES, range(4))
SHAPE = tuple(BATCH.tokens.shape)


def value(term: int, slot: int, size: int) -> Tensor:
    """log p of a slot in a branch, or −1 for the sequence itself: no network."""
    return torch.log_softmax(torch.cos(torch.arange(size) * (slot + 1.7) + term), 0)


def own(slots: Tensor, range_index: int) -> Any:
    size = PREDICTOR.vocabulary.ranges[range_index].size
    return torch.stack([value(-1, slot, size) for slot in slots.tolist()])


@pytest.mark.parametrize("seed", range(6))
def test_branches_are_read_where_they_may_be(seed: int) -> None:
    """And not at all in ranges without guided slots; against the formula, slot by slot, with weights of every
    pattern. What is not guided is the sequence's own prediction to the bit.
    """
    draw, neutral = np.random.default_rng(seed), np.array([1.0, 0.0, 0.0])[:, None, None]
    guides = [(each,) * number for each, number in zip(SEQUENCES, (2, 0, 1, 3), strict=True)]
    branches = Branches(SEQUENCES, guides, SHAPE[1], torch.device("cpu"))
    has_term = np.array([[(row, term) in branches.numbers for row in range(4)] for term in range(3)])
    is_read = BATCH.maskable.numpy() & (draw.random(SHAPE) < 0.7)
    own_weight = draw.choice([0.0, 1.0, 2.5], size=(1, *SHAPE), p=[0.2, 0.6, 0.2])
    others = draw.choice([0.0, -1.0], size=(2, *SHAPE), p=[0.7, 0.3])
    weights = np.where(has_term[:, :, None] & is_read, np.concatenate([own_weight, others]), neutral)
    acts = weights != neutral
    acts[0] = acts.any(0)
    where: dict[int, tuple[int, int]] = {}  # of a branch's slot: its term, and the sequence's slot
    for (row, term), number in branches.numbers.items():
        for slot in SEQUENCES[row].maskable.nonzero()[0].tolist():
            where[number * branches.batch.tokens.shape[1] + slot] = (term, row * SHAPE[1] + slot)
    asked: set[int] = set()

    def of_branches(slots: Tensor, range_index: int) -> Any:
        asked.add(range_index)
        found = [where[slot] for slot in slots.tolist()]
        assert all(acts[term].reshape(-1)[slot] for term, slot in found)
        assert all(BATCH.range_index.flatten()[slot] == range_index for _, slot in found)
        size = PREDICTOR.vocabulary.ranges[range_index].size
        return torch.stack([value(term, slot, size) for term, slot in found])

    mixed = branches.mix(own, of_branches, weights, is_read, BATCH, torch.device("cpu"))
    for token_range in PREDICTOR.vocabulary.ranges:
        index, size = token_range.index, token_range.size
        here = is_read & (BATCH.range_index.numpy() == index)
        slots = here.reshape(-1).nonzero()[0].tolist()
        found = mixed(torch.tensor(slots), index) if slots else []
        assert (index in asked) == bool((acts[0] & here).any())
        for slot, one in zip(slots, found, strict=True):
            if not acts[0].reshape(-1)[slot]:
                assert torch.equal(one, value(-1, slot, size))
                continue
            base, w = value(0, slot, size), weights.reshape(3, -1)[:, slot]
            terms = [w[0] * (value(-1, slot, size) - base)]
            terms += [w[term] * (value(term, slot, size) - base) for term in (1, 2)]
            right = torch.log_softmax(base + sum(terms), 0).float()
            torch.testing.assert_close(one, right, rtol=1e-4, atol=1e-4)
