"""Which slots guided passes read, and that those without guidance are as without it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from generation.fakes import random_denoiser
from sampling.test_sampler_loop import DOCUMENTS
from trimask.sampling import DenoiserPredictor
from trimask.sampling.guidance import drop_condition, guide, mix
from trimask.sampling.predictor import Prediction
from trimask.vocabulary.batch import make_batch

PREDICTOR = DenoiserPredictor(random_denoiser())
BATCH = make_batch([DOCUMENTS[0], DOCUMENTS[1], DOCUMENTS[0], DOCUMENTS[3]], range(4))
MASKS = torch.from_numpy(PREDICTOR.vocabulary.mask_of_range)[BATCH.range_index]
Z = torch.where(BATCH.maskable, MASKS, BATCH.tokens)


def read_all(prediction: Prediction, is_read: Tensor) -> Tensor:
    """Σ code · log p(code) at the slots that are read, NaN elsewhere."""
    found = torch.full((Z.numel(),), torch.nan)
    for token_range in PREDICTOR.vocabulary.ranges:
        slots = ((BATCH.range_index == token_range.index) & is_read).flatten().nonzero()[:, 0]
        if len(slots):
            log_p = prediction(slots, token_range.index)
            found[slots] = log_p @ torch.arange(1.0, log_p.shape[1] + 1)
    return found.view(Z.shape)


@pytest.mark.parametrize("seed", range(5))
def test_slots_of_one_range_with_and_without_guidance(seed: int) -> None:
    """In rows with a condition and without, at scales of 1 and others, slot by slot."""
    draw = np.random.default_rng(seed)
    scale = np.where(BATCH.maskable.numpy(), draw.choice([1.0, 0.0, 2.5], size=tuple(Z.shape)), 1.0)
    is_read = BATCH.maskable & torch.from_numpy(draw.random(tuple(Z.shape)) < 0.7)
    w = torch.from_numpy(scale)
    is_guided = (w != 1) & BATCH.is_condition.any(1, keepdim=True)
    cond = PREDICTOR(Z, BATCH)
    uncond = PREDICTOR(drop_condition(Z, BATCH, PREDICTOR.vocabulary), BATCH)

    def slow(slots: Tensor, range_index: int) -> Tensor:
        c, u = cond(slots, range_index), uncond(slots, range_index)
        return torch.log_softmax(u + w.flatten()[slots, None].float() * (c - u), 1)

    found = read_all(guide(PREDICTOR, Z, BATCH, scale, is_read.numpy()), is_read)
    for chosen, right in ((is_read & is_guided, slow), (is_read & ~is_guided, cond)):
        assert chosen.any()
        torch.testing.assert_close(found[chosen], read_all(right, is_read)[chosen], rtol=1e-5, atol=1e-3)


def test_the_second_prediction_is_read_where_it_may_be() -> None:
    """And not at all in ranges without guided slots; what is not guided is the first one to the bit."""
    asked: list[tuple[Tensor, int]] = []

    def unconditional(slots: Tensor, range_index: int) -> Any:
        asked.append((slots, range_index))
        return torch.zeros(len(slots), PREDICTOR.vocabulary.ranges[range_index].size)

    image = [token_range.index for token_range in PREDICTOR.vocabulary.ranges_of("image")]
    is_guided = torch.isin(BATCH.range_index, torch.tensor(image)) & BATCH.maskable
    is_guided[[0, 1, 3]] = False
    scale = np.where(is_guided.numpy(), 2.0, 1.0)
    cond = PREDICTOR(Z, BATCH)
    mixed = read_all(mix(cond, unconditional, scale, is_guided.numpy(), BATCH, Z.device), BATCH.maskable)
    plain = read_all(cond, BATCH.maskable)
    assert torch.equal(mixed[BATCH.maskable & ~is_guided], plain[BATCH.maskable & ~is_guided])
    assert not torch.isclose(mixed[is_guided], plain[is_guided]).any()
    assert {range_index for _, range_index in asked} == set(image)
    for slots, range_index in asked:
        assert is_guided.flatten()[slots].all()
        assert (BATCH.range_index.flatten()[slots] == range_index).all()
