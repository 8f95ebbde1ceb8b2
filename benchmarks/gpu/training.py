"""An update of a recipe, computed in one way or another: its time, its memory, the FLOPs that it needs."""

import math
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, final
from unittest import mock

import torch
from setting import (
    PEAK,
    Setting,
    deterministic,
    free_memory,
    initialize_here,
    needed_flops,
    random_stream,
    spread,
    vocabulary,
)
from torch import nn

from trimask.model.block import Block
from trimask.model.denoiser import Denoiser
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
    """The recipe's step, its weights drawn on the device. Compiled code is forgotten after: there is a limit
    to how many kinds of it there may be.
    """
    model = config.model if way.depth is None else config.model.resized(depth=way.depth)
    with ExitStack() as stack:
        stack.callback(torch.compiler.reset)
        stack.enter_context(mock.patch.object(Denoiser, "initialize", initialize_here))
        if setting.is_tiny:  # Inductor takes minutes on a CPU
            stack.enter_context(mock.patch.object(Block, "compile", _compile_without_inductor))
        if way.is_deterministic:
            stack.enter_context(deterministic())
        denoiser = place(model, vocabulary(config), seed=config.seed, compute=way.compute, world=world)
        stream = random_stream(config, rows=1)
        yield DenoiserStep(
            denoiser,
            objective=config.objective,
            optimizer=config.optimizer,
            lr_schedule=config.lr_schedule,
            num_steps=config.num_updates,
            seed=config.seed,
            targets=stream.target_tokens(),
            tasks=stream.tasks,
            micro_batch=way.micro_batch,
            world=world,
        )


def _compile_without_inductor(block: Block, *, dynamic: bool) -> None:
    nn.Module.compile(block, backend="eager", dynamic=dynamic)


def measure(
    setting: Setting, world: World, config: RunConfig, way: Way, updates: list[Batch]
) -> dict[str, Any]:
    """Rounds of `updates`, the device waited for at the end of each round alone."""
    with built(setting, world, config, way) as step:
        warm_up = []
        for number in range(2):  # the second has other shapes, and memory that is there
            began = time.perf_counter()
            step(updates[number % len(updates)])
            setting.synchronize()
            warm_up.append(time.perf_counter() - began)
        free_memory(setting)
        rounds, host, metrics = _rounds(setting, step, updates)
        per_update = spread([seconds / len(updates) for seconds in rounds])
        flops = sum(_needed(step, batch, number) for number, batch in enumerate(updates)) / len(updates)
        tokens = {
            "slots": sum(batch.tokens.numel() for batch in updates),
            "positions": sum(batch.num_positions for batch in updates),
            "targets": sum(int(batch.maskable.sum()) for batch in updates),
        }
        return {
            "rows": len(updates[0].tokens),
            "passes": math.ceil(len(updates[0].tokens) / way.micro_batch),
            "seconds_per_update": per_update,
            "first_updates_seconds": warm_up,
            "host_seconds_per_update": statistics.median(host) / len(updates),
            "tokens_per_second": {k: n / len(updates) / per_update["median"] for k, n in tokens.items()},
            **rates(setting, flops, per_update["median"]),
            **_memory(setting),
            "loss": float(metrics["loss"]),
            "parameters": count_parameters(step.denoiser.config, step.denoiser.vocabulary).total,
        }


def _rounds(
    setting: Setting, step: DenoiserStep, updates: list[Batch]
) -> tuple[list[float], list[float], Mapping[str, Any]]:
    """Seconds of each round, how many of them the host took to ask for it, and the last metrics."""
    enough = 0 if setting.is_tiny else min(_TIMED_SECONDS, setting.left() / 2)
    rounds, host, metrics = [], [], {}
    while len(rounds) < 2 or (sum(rounds) < enough and len(rounds) < 20):
        began = time.perf_counter()
        for batch in updates:
            metrics = step(batch)
        host.append(time.perf_counter() - began)
        setting.synchronize()
        rounds.append(time.perf_counter() - began)
    return rounds, host, metrics


def rates(setting: Setting, flops: float, seconds: float) -> dict[str, Any]:
    """MFU of the stated peak, and of the quickest product that was measured here."""
    found: dict[str, Any] = {"flops_per_update": flops, "flops_per_second": flops / seconds}
    found["mfu"] = flops / seconds / PEAK
    found["mfu_of_measured_ceiling"] = None if setting.ceiling is None else flops / seconds / setting.ceiling
    return found


def _needed(step: DenoiserStep, batch: Batch, number: int) -> float:
    """Under the masks of update `number`."""
    (view,) = step.passes.corruption.views(batch, number)
    return needed_flops(step.denoiser.config, step.denoiser.vocabulary, batch, view.masked)


def _memory(setting: Setting) -> dict[str, Any]:
    if not setting.on_gpu:
        return {"peak_bytes": None}
    return {
        "peak_bytes": torch.cuda.max_memory_allocated(setting.device),
        "peak_bytes_reserved": torch.cuda.max_memory_reserved(setting.device),
    }


def extrapolated(
    setting: Setting, shallow: tuple[int, dict[str, Any]], deep: tuple[int, dict[str, Any]], depth: int
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
