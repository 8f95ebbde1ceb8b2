"""Passes on kept keys and values, on the device against the CPU in float64, and whether the host waits."""

from dataclasses import replace
from typing import Any

import torch
from kernels import relative
from torch import Tensor

from trimask.model.attention import AttentionBackend
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.segments import ConditionAttention
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary

CPU = torch.device("cpu")


@torch.inference_mode()
def cached_passes(
    config: DenoiserConfig,
    vocabulary: Vocabulary,
    batch: Batch,
    device: torch.device,
    backend: AttentionBackend,
    dtype: torch.dtype,
    tolerance: float,
) -> dict[str, Any]:
    """Three passes over other tokens each: all positions, those after the prefix, and a third of all."""
    if device.type == "cpu" and backend is AttentionBackend.VARLEN:
        return {"impossible": "the variable-length kernel has no CPU form"}
    off, found = {}, {}
    for attention in ConditionAttention:
        one = Denoiser(replace(config, condition_attention=attention), vocabulary)
        one.initialize(0)
        right = _passes(one.double(), AttentionBackend.LOOP, batch)
        denoiser = one.to(device, dtype)
        states = _passes(denoiser, backend, batch)
        off |= {
            f"{attention.value}, {name}": relative({"": states[name]}, {"": right[name]}) for name in right
        }
        found |= {f"{attention.value}, {name}": same for name, same in _same_bits(denoiser, batch).items()}
        if device.type == "cuda":
            found[f"{attention.value}, host_waits"] = _waits(denoiser, batch)
    return {
        "passed": max(off.values()) < tolerance
        and all(value is (not name.endswith("host_waits")) for name, value in found.items()),
        "relative_difference": off,
        "tolerance": tolerance,
        **found,
    }


def _tokens(batch: Batch, number: int, vocabulary: Vocabulary) -> Tensor:
    """The batch's tokens with a half of its targets masked."""
    draw = torch.rand(batch.tokens.shape, generator=torch.Generator().manual_seed(number))
    mask_id = torch.from_numpy(vocabulary.mask_of_range)[batch.range_index]
    return torch.where(batch.maskable & (draw < 0.5), mask_id, batch.tokens)


def _passes(denoiser: Denoiser, backend: AttentionBackend, batch: Batch) -> dict[str, Tensor]:
    denoiser.attention_backend = backend
    cache = denoiser.empty_cache(batch)
    some = torch.arange(0, batch.num_positions, 3)
    actives = {"all": None, "after the prefix": batch.positions_after_prefix(), "a third": some}
    return {
        name: denoiser(_tokens(batch, number, denoiser.vocabulary), batch, cache=cache, active=active).to(
            CPU, torch.float64
        )
        for number, (name, active) in enumerate(actives.items())
    }


def _same_bits(denoiser: Denoiser, batch: Batch) -> dict[str, bool]:
    """Whether a pass with a cache, over all positions, and one over a batch on the device, as evaluation has
    it, are that without.
    """
    tokens, device = _tokens(batch, 0, denoiser.vocabulary), denoiser.embedding.weight.device
    right = denoiser(tokens, batch)
    return {
        "same_bits_with_a_cache": torch.equal(
            right, denoiser(tokens, batch, cache=denoiser.empty_cache(batch))
        ),
        "same_bits_of_a_batch_on_the_device": torch.equal(
            right, denoiser(tokens.to(device), batch.to(device))
        ),
    }


def _waits(denoiser: Denoiser, batch: Batch) -> bool:
    """Whether the host waits for the GPU within a pass over some positions; masks of FlexAttention apart."""
    if denoiser.attention_backend is AttentionBackend.FLEX:
        return False
    cache, active = denoiser.empty_cache(batch), batch.positions_after_prefix()
    denoiser(batch.tokens, batch, cache=cache)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        denoiser(batch.tokens, batch, cache=cache, active=active)
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False
