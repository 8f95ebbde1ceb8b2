"""An update of a recipe, computed in one way or another: its time, its memory, and the FLOPs that it needs."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, final
from unittest import mock

import torch
from setting import PEAK, Setting, initialize_here, needed_flops, spread, vocabulary
from torch import nn

from trimask.model.block import Block
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.flops import count_parameters
from trimask.model.recompute import Recompute
from trimask.training.compute import ComputeConfig, Precision
from trimask.training.distributed import World
from trimask.training.placement import place
from trimask.training.run import RunConfig
from trimask.training.step import DenoiserStep
from trimask.vocabulary.batch import Batch

_TIMED_SECONDS = 4.0


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How an update is computed; `depth` None for the recipe's."""

    precision: Precision = Precision.BF16
    is_compiled: bool = False
    micro_batch: int
    recompute: Recompute = Recompute.NONE
    reshard: bool = True
    depth: int | None = None
    is_deterministic: bool = False

    @property
    def compute(self) -> ComputeConfig:
        return ComputeConfig(
            precision=self.precision,
            compile=self.is_compiled,
            micro_batch=self.micro_batch,
            recompute=self.recompute,
            reshard=self.reshard,
        )


@contextmanager
def built(setting: Setting, world: World, config: RunConfig, way: Way) -> Iterator[DenoiserStep]:
    """The recipe's step, its weights drawn on the device."""
    model = config.model if way.depth is None else config.model.resized(depth=way.depth)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Denoiser, "initialize", initialize_here))
        if setting.is_tiny:  # Inductor takes minutes on a CPU
            stack.enter_context(mock.patch.object(Block, "compile", _compile_without_inductor))
        if way.is_deterministic:
            stack.enter_context(_deterministic())
        denoiser = place(model, vocabulary(config), seed=config.seed, compute=way.compute, world=world)
        yield DenoiserStep(
            denoiser,
            objective=config.objective,
            optimizer=config.optimizer,
            lr_schedule=config.lr_schedule,
            num_steps=config.num_updates,
            seed=config.seed,
            micro_batch=way.micro_batch,
            world=world,
        )


def _compile_without_inductor(block: Block, *, dynamic: bool) -> None:
    nn.Module.compile(block, backend="eager", dynamic=dynamic)


@contextmanager
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True


def measure(
    setting: Setting, world: World, config: RunConfig, way: Way, updates: list[Batch]
) -> dict[str, Any]:
    """Updates one after the other, the device waited for at the end of each round alone."""
    with built(setting, world, config, way) as step:
        began = time.perf_counter()
        step(updates[0])
        setting.synchronize()
        first = time.perf_counter() - began
        began = time.perf_counter()
        step(updates[1 % len(updates)])  # other shapes, and the allocator has settled
        setting.synchronize()
        second = time.perf_counter() - began
        if setting.on_gpu:
            torch.cuda.reset_peak_memory_stats(setting.device)
        rounds = []
        per_round = max(2, len(updates))
        seconds = min(_TIMED_SECONDS, setting.left() / 2)
        number = 0
        while len(rounds) < (1 if setting.is_tiny else 2) or (sum(rounds) < seconds and len(rounds) < 20):
            began = time.perf_counter()
            flops, tokens, host = 0.0, dict.fromkeys(("slots", "positions", "targets"), 0), 0.0
            for batch in updates * (per_round // len(updates)):
                began_step = time.perf_counter()
                metrics = step(batch)
                host += time.perf_counter() - began_step
                number += 1
                tokens["slots"] += batch.tokens.numel()
                tokens["positions"] += batch.num_positions
                tokens["targets"] += round(float(metrics["tokens"]))
            setting.synchronize()
            rounds.append(time.perf_counter() - began)
            last_host = host
        count = per_round // len(updates) * len(updates)
        memory = _memory(setting)
        flops = _flops(step, updates) / len(updates)
        per_update = spread([r / count for r in rounds])
        return {
            "rows": len(updates[0].tokens),
            "passes": -(-len(updates[0].tokens) // way.micro_batch),
            "seconds_per_update": per_update,
            "first_update_seconds": first,
            "second_update_seconds": second,
            "host_seconds_per_update": last_host / count,
            "tokens_per_second": {k: v / count / per_update["median"] for k, v in tokens.items()},
            **rates(setting, flops, per_update["median"]),
            **memory,
            "loss": float(metrics["loss"]),
            "parameters": count_parameters(step.denoiser.config, step.denoiser.vocabulary).total,
        }


def rates(setting: Setting, flops: float, seconds: float) -> dict[str, Any]:
    """MFU of the stated peak, and of the quickest product that was measured here."""
    found: dict[str, Any] = {"flops_per_update": flops, "flops_per_second": flops / seconds}
    found["mfu"] = flops / seconds / PEAK
    found["mfu_of_measured_ceiling"] = None if setting.ceiling is None else flops / seconds / setting.ceiling
    return found


def _flops(step: DenoiserStep, updates: list[Batch]) -> float:
    return sum(needed(step.denoiser.config, step, batch, number) for number, batch in enumerate(updates))


def needed(config: DenoiserConfig, step: DenoiserStep, batch: Batch, number: int) -> float:
    """Under the masks of update `number`."""
    (view,) = step.corruption.views(batch, number)
    return needed_flops(config, step.denoiser.vocabulary, batch, view.masked)


def _memory(setting: Setting) -> dict[str, Any]:
    if not setting.on_gpu:
        return {"peak_bytes": None}
    return {
        "peak_bytes": torch.cuda.max_memory_allocated(setting.device),
        "peak_bytes_reserved": torch.cuda.max_memory_reserved(setting.device),
    }


def extrapolated(
    setting: Setting, shallow: tuple[int, dict], deep: tuple[int, dict], depth: int
) -> dict[str, Any]:
    """Time and FLOPs of an update at `depth`, on the line through two smaller depths."""
    (low, at_low), (high, at_high) = shallow, deep

    def line(value_low: float, value_high: float) -> float:
        return value_high + (value_high - value_low) / (high - low) * (depth - high)

    seconds = line(at_low["seconds_per_update"]["median"], at_high["seconds_per_update"]["median"])
    flops = line(at_low["flops_per_update"], at_high["flops_per_update"])
    positions = at_high["tokens_per_second"]["positions"] * at_high["seconds_per_update"]["median"]
    return {
        "is_extrapolated": f"on the line through depths {low} and {high}, to depth {depth}",
        "seconds_per_update": seconds,
        "positions_per_second": positions / seconds,
        **rates(setting, flops, seconds),
    }


def with_micro_batch(way: Way, micro_batch: int) -> Way:
    return replace(way, micro_batch=micro_batch)
