"""On a GPU, the host waits for nothing within a step whose slots are known before its prediction."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import varlen

from design_space import COUNTS, ORDERS, RECOMPUTES
from generation.fakes import random_denoiser
from pretended_gpu import OnDevice, PretendedGPU, WaitError
from sampling.recorder import Recorder
from sampling.slow_varlen import slow_varlen_attn
from sampling.test_sampler_loop import DOCUMENTS, describe
from trimask.model.attention import AttentionBackend
from trimask.model.denoiser import Denoiser
from trimask.sampling import (
    AdaptiveCount,
    Ancestral,
    CalibratedConfidence,
    Checkerboard,
    CoarseFirst,
    CompiledPredictor,
    Confidence,
    Cosine,
    FirstHitting,
    Halton,
    IntervalGuidance,
    LeftToRight,
    LinearGuidance,
    LowestEntropy,
    MinP,
    SamplerConfig,
    Temperature,
    TopK,
    TopP,
    filters,
    sample,
)
from trimask.sampling.guidance import NO_GUIDANCE, Branch, Guidance
from trimask.sampling.order import ScoredOrder
from trimask.sampling.predictor import DenoiserPredictor, Predictor
from trimask.sampling.row import Row
from trimask.sampling.sampler import Fill, Unmasker, draw_codes

pytestmark = pytest.mark.usefixtures("unchecked_shapes")
PLAIN = DenoiserPredictor(random_denoiser())
CONFIGS = [
    SamplerConfig(num_steps=4, grid=Cosine(), order=CoarseFirst()),
    SamplerConfig(num_steps=4, count=Ancestral(), order=Halton(), block_length=3),
    SamplerConfig(count=FirstHitting(), order=LeftToRight()),
    SamplerConfig(num_steps=4, order=Checkerboard(), filters=(Temperature(value=1.0, last=0.0),)),
    SamplerConfig(num_steps=4, filters=(TopK(value=3), TopP(value=0.7), MinP(value=0.1))),
    SamplerConfig(num_steps=5, guidance_scale=3.0, guidance_ramp=LinearGuidance()),
    SamplerConfig(num_steps=5, guidance_scale=3.0, guidance_ramp=IntervalGuidance(start=0.2, stop=0.7)),
    *(SamplerConfig(num_steps=5, guidance_scale=2.0, recompute=each) for each in RECOMPUTES),
]


def guides(is_branched: bool) -> list[Guidance]:
    """For each document, none or a further branch."""
    if not is_branched:
        return [NO_GUIDANCE] * len(DOCUMENTS)
    return [Guidance(branches=(Branch(document=each, weight=0.7),)) for each in DOCUMENTS]


def sample_there(
    config: SamplerConfig,
    *,
    fill: Fill = draw_codes,
    attention: AttentionBackend | None = None,
    make_predictor: Callable[[Denoiser], Predictor] = DenoiserPredictor,
    is_branched: bool = False,
) -> tuple[list[np.ndarray], PretendedGPU]:
    """Sample on the pretended GPU, where no pass may wait; or if the law reads what is predicted, once for
    each modality. Sequences may come and go between passes.
    """
    gpu, denoiser = PretendedGPU(), random_denoiser()
    denoiser.attention_backend = attention
    gpu.place(denoiser)
    with gpu:
        unmasker = Unmasker(make_predictor(denoiser), fill=fill)
        rows = [
            Row(document, denoiser.vocabulary, config, seed=1, key=key, place=key, guidance=each)
            for key, (document, each) in enumerate(zip(DOCUMENTS, guides(is_branched), strict=True))
        ]
        found: dict[int, np.ndarray] = {}
        while rows or unmasker.rows:
            joining = 4 - len(unmasker.rows)
            unmasker.admit(rows[:joining])
            rows = rows[joining:]
            tracks = [track for row in unmasker.rows for track in row.tracks if not track.is_full]
            modalities = {track.canvas.modality for track in tracks}
            with gpu.waiting(len(modalities) if config.reads_evidence else 0):
                unmasker.run_pass()
            found |= {row.place: tokens for row, tokens in unmasker.release()}
    return [found[place] for place in range(len(DOCUMENTS))], gpu


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_no_wait_in_a_pass_of_a_fixed_order(config: SamplerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    here = sample(PLAIN, DOCUMENTS, config, seed=1)
    monkeypatch.setattr(filters, "_PARTITION", 2)  # fewer codes than any range has
    there, gpu = sample_there(config)
    assert all(np.array_equal(*pair) for pair in zip(there, here, strict=True))
    assert gpu.waits  # of sequences that come and go: it is watched at all


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[5], CONFIGS[-1]], ids=repr)
def test_nor_with_further_branches(config: SamplerConfig) -> None:
    there, _ = sample_there(config, is_branched=True)
    here = sample(PLAIN, DOCUMENTS, config, seed=1, guidance=guides(True))
    assert all(np.array_equal(*pair) for pair in zip(there, here, strict=True))


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[5], CONFIGS[-1]], ids=repr)
def test_nor_where_passes_are_recorded(config: SamplerConfig) -> None:
    there, _ = sample_there(
        config, make_predictor=partial(CompiledPredictor, compiles=False, record=Recorder())
    )
    here = sample(PLAIN, DOCUMENTS, config, seed=1)
    assert all(np.array_equal(*pair) for pair in zip(there, here, strict=True))


@pytest.mark.parametrize("config", CONFIGS[-5:], ids=repr)
def test_nor_with_the_kernel_for_variable_lengths(
    config: SamplerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kernel(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, key_ends: Tensor, *most: int) -> Tensor:
        with torch._C.DisableTorchFunction():  # as a kernel, which sees what is on the device
            q, k, v, ends, key_ends = (x.as_subclass(Tensor) for x in (q, k, v, ends, key_ends))
            return slow_varlen_attn(q, k, v, ends, key_ends, *most).as_subclass(OnDevice)

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    there, _ = sample_there(config, attention=AttentionBackend.VARLEN)
    here = sample(PLAIN, DOCUMENTS, config, seed=1)
    assert all(np.array_equal(*pair) for pair in zip(there, here, strict=True))


READING = [
    # But for one, which counts the slots of each sequence on the device.
    *(
        SamplerConfig(num_steps=3, order=order)
        for order in ORDERS
        if isinstance(order, ScoredOrder) and not isinstance(order, CalibratedConfidence)
    ),
    *(SamplerConfig(order=LowestEntropy(), count=each) for each in COUNTS if isinstance(each, AdaptiveCount)),
    SamplerConfig(num_steps=3, order=Confidence(), guidance_scale=2.0, ends_last=True, block_length=3),
]


@pytest.mark.parametrize("config", READING, ids=describe)
def test_other_orders_wait_once_a_pass_and_modality(config: SamplerConfig) -> None:
    """For all that they read at once, of all codebooks."""
    here = sample(PLAIN, DOCUMENTS, config, seed=1)
    there, _ = sample_there(config)
    assert all(np.array_equal(*pair) for pair in zip(there, here, strict=True))


WAITS: list[Callable[[Tensor], object]] = [
    lambda x: x.max().item(),
    lambda x: x.tolist(),
    lambda x: x.cpu(),
    lambda x: x.to("cpu", torch.float32),
    lambda x: x.numpy(),
    lambda x: bool((x > 1).any()),
    lambda x: [0, 1, 2][x[0]],  # pyright: ignore[reportArgumentType, reportCallIssue]
    lambda x: x.nonzero(),
    lambda x: torch.where(x > 1),
    lambda x: x[x > 1],
    lambda x: x[[0]],
    lambda x: x[torch.tensor([0])],
    lambda x: x.index_put_((x > 1,), x[0]),
    lambda x: x.masked_select(x > 1),
    lambda x: x.unique(),
    lambda x: torch.equal(x, x),
    lambda x: x.bincount(),
    lambda x: torch.arange(len(x), device=x.device).repeat_interleave(x),
    lambda x: F.one_hot(x),
    lambda x: x.tensor_split(x),
    lambda x: torch.tensor([1], device=x.device),
    lambda x: torch.ones(2).to(x.device),
    lambda x: torch.ones(2).to(x.device, non_blocking=True),  # not from pinned memory
    lambda x: torch.ones(2).pin_memory().to(x.device),
]


@pytest.mark.parametrize("wait", WAITS)
def test_a_wait_is_seen(wait: Callable[[Tensor], object]) -> None:
    """Wherever it is: here where codes are drawn."""

    def fill(log_probabilities: Tensor, **given: Any) -> Tensor:
        code = draw_codes(log_probabilities, **given)
        wait(code + 1)
        return code

    with pytest.raises(WaitError):
        sample_there(CONFIGS[0], fill=fill)


def test_tensors_of_both_sides_do_not_mix() -> None:
    gpu = PretendedGPU()
    with gpu, pytest.raises(RuntimeError, match="on the host and on the device"):
        torch.zeros(2, device="cuda").add(torch.zeros(2))
