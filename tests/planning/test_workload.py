"""Whether the work that a run is said to need is what its passes do."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trimask.config import override
from trimask.data.random_codes import random_sources
from trimask.data.selection import StatedData
from trimask.data.stream import SpanSlack
from trimask.model.denoiser import Denoiser
from trimask.model.head import Normalization
from trimask.model.segments import ConditionAttention
from trimask.planning.workload import workload
from trimask.recipes import catalog
from trimask.runs.build import build_step, build_stream, build_vocabulary
from trimask.training.run import RunConfig
from trimask.vocabulary.batch import make_batch

# The head adds up its weights' gradient in place, which the counter does not know; shapes are passed.
IN_PLACE = {torch.ops.aten.addmm_: lambda total, a, b, **rest: 2 * a[0] * a[1] * b[1]}
SMALL = {
    "model.width": "32",
    "model.num_heads": "2",
    "model.depth": "2",
    "model.parametrization.base_width": "64",
    "model.parametrization.base_num_heads": "4",
    "data.spaces.text.codebook_size": "300",
    "data.spaces.image.grid": "4,5",
    "data.spaces.image.codebook_size": "64",
    "data.spaces.speech.codebook_size": "32",
    "data.sources.0.lengths.text": "60",
    "data.text_window": "60",
    "data.sources.1.lengths.text": "11",
    "data.sources.2.lengths.text": "21",
    "data.sources.2.lengths.speech": "0.4",
}


def small() -> RunConfig:
    config = catalog.resolve("trimodal_3b")
    assert isinstance(config, RunConfig)
    # As many end frames in each sequence as on average: one.
    return replace(override(config, SMALL), slack=SpanSlack(minimum=0, fraction=0.0, filled={}))


@pytest.mark.parametrize(
    ("attention", "normalization"),
    [
        *((each, Normalization.CODEBOOK) for each in ConditionAttention),
        (ConditionAttention.FULL, Normalization.ALL),
    ],
)
def test_the_flops_of_a_sequence_are_those_of_its_passes(
    attention: ConditionAttention, normalization: Normalization
) -> None:
    chosen = {"model.condition_attention": attention.value, "model.normalization": normalization.value}
    config = override(small(), chosen)
    assert isinstance(config.data, StatedData)
    denoiser = Denoiser(config.model, build_vocabulary(config, None))
    denoiser.initialize(0)
    stream = build_stream(config, random_sources(config.data), denoiser.vocabulary)
    works = {(w.component.source, w.component.task): w for w in workload(config, None)}
    seen = set()
    for index in range(100):
        component, _ = stream.mixture.example(index)
        if component in seen:
            continue
        seen.add(component)
        batch = make_batch([stream.sequence(index)], [index], row_length=config.row_length)
        work = works[component.source, component.task]
        assert (batch.num_positions, int((batch.sequence >= 0).sum())) == (work.positions, work.slots)
        # A mask and its complement: each target is predicted once in two passes, half of them in one.
        half = batch.maskable & (torch.rand(batch.tokens.shape) < 0.5)
        with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter, sdpa_kernel(SDPBackend.MATH):
            for masked in (half, batch.maskable & ~half):
                loss, _ = denoiser.weighted_loss(batch.tokens, batch, masked, torch.ones(int(masked.sum())))
                loss.backward()
        assert counter.get_total_flops() == pytest.approx(2 * work.flops, rel=1e-12)
    assert len(seen) == len(works) == 5


def test_anti_masking_costs_as_much() -> None:
    """Half as many distinct sequences, each in two views: a batch, a horizon and κ count views."""
    config = replace(small(), physical_batch=64)
    both = replace(config, objective=replace(config.objective, anti_masking=True))
    assert [w.flops for w in workload(both, None)] == [w.flops for w in workload(config, None)]
    assert (both.distinct_batch, both.update_batch) == (32, 64)
    for name in ("update_batch", "num_updates", "horizon", "batch_change", "scaled_optimizer"):
        assert getattr(both, name) == getattr(config, name), name
    assert isinstance(config.data, StatedData)
    vocabulary, tokens = build_vocabulary(config, None), {}
    for each in (config, both):
        stream = build_stream(each, random_sources(config.data), vocabulary)
        denoiser = Denoiser(config.model, vocabulary)
        denoiser.initialize(0)
        step = build_step(each, denoiser, stream)
        assert step.passes.corruption.logical_batch == each.logical_batch // each.objective.num_views
        batch = stream.batch(0)
        assert batch.num_sequences == each.distinct_batch
        tokens[each.objective.num_views] = float(step(batch)["tokens"])
    expected = 64 * sum(stream.target_tokens())
    assert tokens[1] == pytest.approx(expected, rel=0.3) and tokens[2] == pytest.approx(expected, rel=0.3)
    with pytest.raises(ValueError, match="physical_batch 63: anti_masking"):
        replace(both, physical_batch=63)
