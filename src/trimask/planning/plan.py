"""Plan a recipe on given devices: memory by part, batch, time, communication, checkpoints, cautions."""

import math
from dataclasses import dataclass
from typing import Any, final

from trimask.errors import UserError
from trimask.model.flops import count_parameters
from trimask.planning.hardware import GIB, Hardware
from trimask.planning.memory import MemoryModel
from trimask.planning.pace import Exchange, exchange, saving_interval
from trimask.planning.workload import Work, workload
from trimask.runs.build import build_vocabulary
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig

_MOST_ROWS = 1 << 14  # of a pass, when looking for the most that fit


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Assumptions:
    """The assumptions of a plan.

    Attributes:
        mfu: share of the device's peak achieved on the required FLOPs.
        mfu_source: where it comes from.
        price: of a device for an hour, in any currency.
        write_bandwidth: bytes/s at which a checkpoint is written, all devices together [D: a small shared
            file system].
        failure_hours: mean time between failures of one device. 50,000 [L: Llama 3, arXiv 2407.21783: 419
            interruptions of 16,384 devices in 54 days].
    """

    mfu: float = 0.5
    mfu_source: str = "assumed [D]"
    price: float | None = None
    write_bandwidth: float = 5e9
    failure_hours: float = 50_000.0

    def __post_init__(self) -> None:
        if not 0 < self.mfu <= 1:
            raise UserError(f"mfu {self.mfu}: must be in (0, 1]")
        if self.price is not None and self.price < 0:
            raise UserError(f"price {self.price}: must not be below 0")
        if self.write_bandwidth <= 0 or self.failure_hours <= 0:
            raise UserError(
                f"write_bandwidth {self.write_bandwidth} and failure_hours {self.failure_hours}: must be "
                "above 0"
            )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Batching:
    """How one device splits its part of a batch into passes.

    Attributes:
        rows: of the device.
        pass_rows: of its largest pass.
        row_passes: into which its rows are divided.
        num_passes: forward and backward passes; more with anti-masking, which sees rows twice.
        longest: positions of the longest row.
    """

    rows: int
    pass_rows: int
    row_passes: int
    num_passes: int
    longest: int


def count_steps(config: RunConfig, tokens: int, works: tuple[Work, ...]) -> int:
    """Return the number of logical batches in a horizon of `tokens`: slots of rows with padding or, without
    `row_length`, slots of sequences.
    """
    length = config.row_length or sum(work.share * work.slots for work in works)
    return max(round(tokens / (length * config.logical_batch)), 1)


def plan(
    config: RunConfig,
    tokenizers: Tokenizers | None,
    *,
    hardware: Hardware,
    num_devices: int,
    assumptions: Assumptions,
) -> dict[str, Any]:
    """Return the plan as JSON values in bytes, seconds and FLOPs; stated data needs no tokenizers.

    Raises:
        UserError: devices that the recipe's replicas do not divide.
    """
    replicas = config.compute.replicas
    if num_devices < 1 or num_devices % replicas:
        raise UserError(
            f"{num_devices} devices and compute.replicas {replicas}: the replicas must divide the devices"
        )
    works = workload(config, tokenizers)
    memory = MemoryModel(
        model=config.model,
        vocabulary=build_vocabulary(config, tokenizers),
        compute=config.compute,
        hardware=hardware,
        num_devices=num_devices,
        has_average=config.average is not None,
    )
    batching = _batching(config, works, num_devices)
    needed = _memory(memory, batching)
    fits = _largest(memory, batching, num_devices)
    traffic = exchange(memory, num_passes=batching.num_passes)
    time = _time(config, works, memory, traffic, assumptions)
    return {
        "device": hardware.name,
        "devices": num_devices,
        "parameters": count_parameters(config.model, memory.vocabulary).total,
        "memory": needed,
        "batch": {
            "logical_batch": config.logical_batch,
            "physical_batch": config.update_batch,
            "rows_per_device": batching.rows,
            "micro_batch": batching.pass_rows,
            "passes": batching.num_passes,
            "positions_per_row": {
                "longest": batching.longest,
                "mean": round(sum(work.share * work.positions for work in works), 1),
            },
            **fits,
        },
        "time": time,
        "exchange": {
            "gathered_bytes": round(traffic.gathered),
            "scattered_bytes": round(traffic.scattered),
            "replicated_bytes": round(traffic.replicated),
            "seconds": traffic.seconds,
        },
        "checkpoint": _checkpoint(memory, time["step_seconds"], num_devices, assumptions),
        "cautions": [
            *config.batch_rule.cautions(config.batch_change),
            *_cautions(config, memory, batching, needed, fits, time, traffic),
        ],
    }


def _batching(config: RunConfig, works: tuple[Work, ...], num_devices: int) -> Batching:
    """Split rows as the step does: into as few passes as allowed, of about equal size."""
    rows = math.ceil(config.distinct_batch / num_devices)
    row_passes = math.ceil(rows / (config.compute.micro_batch or rows))
    return Batching(
        rows=rows,
        pass_rows=math.ceil(rows / row_passes),
        row_passes=row_passes,
        num_passes=row_passes * config.objective.num_views,
        longest=config.row_length or max(work.positions for work in works),
    )


def _needed(memory: MemoryModel, batching: Batching, *, pass_rows: int, num_passes: int) -> float:
    """Return a device's peak bytes, including non-tensor memory."""
    moment = memory.fullest(
        slots=batching.rows * batching.longest, positions=min(num_passes, 2) * (pass_rows * batching.longest,)
    )
    copy = 0 if memory.hardware.is_gpu else sum(memory.state().values())
    return moment.total * (1 + memory.hardware.fragments) + memory.hardware.context + copy


def _memory(memory: MemoryModel, batching: Batching) -> dict[str, Any]:
    """By part; all rows full, so that any batch fits."""
    moment = memory.fullest(
        slots=batching.rows * batching.longest,
        positions=min(batching.num_passes, 2) * (batching.pass_rows * batching.longest,),
    )
    hardware = memory.hardware
    parts = {
        **moment.parts,
        "allocator": round(moment.total * hardware.fragments),
        "process": round(hardware.context),
    }
    if not hardware.is_gpu:  # what a thread writes while the run goes on; elsewhere it is the host's memory
        parts["copy for checkpoints"] = sum(memory.state().values())
    total = sum(parts.values())
    return {
        "fullest": moment.name,
        "parts": parts,
        "tensors": moment.total,
        "total": total,
        "available": None if hardware.memory is None else round(hardware.memory),
        "fits": hardware.memory is None or total <= hardware.memory,
    }


def _largest(memory: MemoryModel, batching: Batching, num_devices: int) -> dict[str, Any]:
    """The most rows of a pass that fit, alone and beside gradients that are added up; with them any physical
    batch does.
    """
    if memory.hardware.memory is None:
        return {"largest_micro_batch": None, "largest_physical_batch_in_one_pass": None}
    most = {}
    views = batching.num_passes // batching.row_passes
    for num_passes in (views, 2 * views):
        low, high = 0, _MOST_ROWS
        while low < high:
            rows = (low + high + 1) // 2
            needed = _needed(memory, batching, pass_rows=rows, num_passes=num_passes)
            low, high = (rows, high) if needed <= memory.hardware.memory else (low, rows - 1)
        most[num_passes] = low
    alone, added = most[views], most[2 * views]
    return {
        "largest_micro_batch": alone if alone >= batching.rows else added,
        "largest_physical_batch_in_one_pass": alone * num_devices,
    }


def _time(
    config: RunConfig,
    works: tuple[Work, ...],
    memory: MemoryModel,
    traffic: Exchange,
    assumptions: Assumptions,
) -> dict[str, Any]:
    flops = sum(work.share * work.flops for work in works)
    positions = sum(work.share * work.positions for work in works)
    devices = memory.num_devices
    products = flops * config.update_batch / devices / (memory.hardware.peak * assumptions.mfu)
    step = max(products, traffic.seconds)
    seconds = step * config.num_updates
    hours = seconds / 3600 * devices
    return {
        "training_flops": flops * config.horizon,
        "row_tokens": config.horizon * config.row_length if config.row_length else None,
        "target_tokens": round(
            config.horizon * sum(work.share * sum(work.targets.values()) for work in works)
        ),
        "peak_flops_per_second": memory.hardware.peak,
        "mfu": assumptions.mfu,
        "mfu_source": assumptions.mfu_source,
        "updates": config.num_updates,
        "step_seconds": step,
        "positions_per_second_per_device": positions * config.update_batch / devices / step,
        "days": seconds / 86_400,
        "device_hours": hours,
        "cost": None if assumptions.price is None else hours * assumptions.price,
    }


def _checkpoint(
    memory: MemoryModel, step_seconds: float, num_devices: int, assumptions: Assumptions
) -> dict[str, Any]:
    size = memory.checkpoint_bytes()
    write = size / assumptions.write_bandwidth
    failure = assumptions.failure_hours * 3600 / num_devices
    every = saving_interval(write_seconds=write, failure_seconds=failure)
    return {
        "bytes": size,
        "host_copy_bytes_per_device": sum(memory.state().values()),
        "write_seconds": write,
        "write_bandwidth": assumptions.write_bandwidth,
        "hours_between_failures": failure / 3600,
        "every_seconds": every,
        "every_updates": max(round(every / step_seconds), 1),
    }


def _cautions(
    config: RunConfig,
    memory: MemoryModel,
    batching: Batching,
    needed: dict[str, Any],
    fits: dict[str, Any],
    time: dict[str, Any],
    traffic: Exchange,
) -> list[str]:
    """List what does not fit or is wasteful, each with a fix."""
    found = []
    most = fits["largest_micro_batch"]
    if not needed["fits"]:
        total, available = needed["total"] / GIB, needed["available"] / GIB
        fix = (
            f"set --compute.micro-batch {most} or less"
            if most
            else "use more devices, fewer --compute.replicas, or --compute.recompute full"
        )
        found.append(f"{total:,.1f} GiB do not fit the {available:,.1f} GiB of a device: {fix}")
    if config.distinct_batch % memory.num_devices:
        found.append(
            f"a physical batch of {config.distinct_batch:,} sequences leaves some of {memory.num_devices:,} "
            "devices with a row less than others: use a multiple of the devices"
        )
    if traffic.seconds >= time["step_seconds"]:
        found.append(
            f"devices exchange {traffic.total / 1e9:,.1f} GB an update, which takes longer than the "
            "products: use --compute.replicas, larger passes, or fewer devices"
        )
    return found
