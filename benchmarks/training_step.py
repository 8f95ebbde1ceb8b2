"""Where does the time of a training step go, and how near is it to what the device can do?

`python benchmarks/training_step.py [--sizes 1M 5M 15M] [--compile] [--cpu-time] [--out FILE.json]` trains
denoisers on 8 × 256 positions of text over 8,192 codes and times each part of an update: `plain`, by autograd
alone; `chunked`, with the head in chunks; `sparing`, as trimask does it, whose last block also leaves out the
positions that no loss reads; with `--compile`, `compiled`, which adds compiled blocks; and trimask's own step
as a whole, on CPUs in bf16 too. They take turns with matrix products in fp32, the ceiling. Times of the head
are of its forward and backward pass together; MFU counts the operations that a step needs, the same ones for
all; memory is the process's high-water mark.
"""

import argparse
import contextlib
import copy
import math
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trimask import io
from trimask.data.mixture import Component, Mixture, MixtureConfig
from trimask.data.random_codes import RandomCodes
from trimask.data.selection import StatedSource
from trimask.data.stream import SpanSlack, TrainingStream
from trimask.devices import describe, pick, send
from trimask.model.compilation import compile_blocks
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.flops import count_parameters, forward_flops
from trimask.model.head import weighted_cross_entropy
from trimask.training.compute import ComputeConfig, Precision
from trimask.training.corruption import ObjectiveConfig, View
from trimask.training.distributed import World
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import AdamWConfig, clip_gradients
from trimask.training.placement import place
from trimask.training.step import DenoiserStep
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import CodeSpace, Vocabulary

SIZES = {"1M": (128, 5), "5M": (256, 6), "15M": (384, 8)}  # width and depth, heads of 64
ROWS, POSITIONS, CODES = 8, 256, 8192
CEILING = 1024  # rows and columns of the ceiling's matrices
ROUNDS = 9

Head = Callable[[Denoiser, Tensor, Tensor, Batch, View], Tensor]


def main(sizes: list[str], compiled: bool, cpu_time: bool, out: Path | None) -> None:
    device, now = pick(None), time.process_time if cpu_time else time.perf_counter
    result = {
        "benchmark": "training_step",
        "shape": {"rows": ROWS, "positions": POSITIONS, "codes": CODES},
        "rounds": ROUNDS,
        "clock": now.__name__,
        "sizes": {size: measure(size, compiled, now, device) for size in sizes},
        "machine": describe(device),
    }
    print(result["machine"])
    if out is not None:
        io.write_json(out, result)


def measure(size: str, compiled: bool, now: Callable[[], float], device: torch.device) -> dict[str, Any]:
    """Rounds of one update of each kind; medians, and spread of what is compared."""
    stream, step = build(size, device)
    kinds = {
        "plain": (step, plain_head, False),
        "chunked": (step, chunked_head, False),
        "sparing": (step, chunked_head, True),
    }
    if compiled:
        other = copy.deepcopy(step)
        compile_blocks(other.denoiser)
        kinds["compiled"] = (other, chunked_head, True)
    whole = {"whole": step}
    if device.type == "cpu":
        whole["whole_bf16"] = build(size, device, Precision.BF16)[1]
    times = {kind: Clock(device, now) for kind in (*kinds, *whole, "ceiling")}
    memory = dict.fromkeys(kinds, 0.0)
    flops = []
    matrix = torch.randn(CEILING, CEILING, device=device)
    for number in range(ROUNDS + 1):  # the first round warms up, and compiles
        for kind, (its_step, head, is_sparing) in kinds.items():
            reset_peak(device)
            flops.append(update(its_step, stream, number, head, is_sparing, times[kind]))
            memory[kind] = max(memory[kind], peak_mebibytes(device))
        for kind, its_step in whole.items():
            with times[kind].part("step"):
                its_step(stream.batch(number))
        with times["ceiling"].part("products"):
            for _ in range(16):
                torch.mm(matrix, matrix)
    ceiling = [32 * CEILING**3 / s for s in times["ceiling"].totals()]
    seconds = {kind: times[kind].totals() for kind in (*kinds, *whole)}
    count = count_parameters(step.denoiser.config, step.denoiser.vocabulary)
    result = {
        "parameters": {"blocks": count.blocks, "embedding": count.embedding + count.unembedding},
        "milliseconds": {kind: times[kind].medians() for kind in (*kinds, *whole)},
        "first_round_seconds": {kind: times[kind].first() for kind in kinds},
        "positions_per_second": {
            kind: spread(ROWS * POSITIONS / s for s in seconds[kind]) for kind in seconds
        },
        "speed_against_plain": {
            kind: spread(a / b for a, b in zip(seconds["plain"], seconds[kind], strict=True))
            for kind in seconds
        },
        "head_against_plain": spread(
            a / b for a, b in zip(times["plain"].of("head"), times["chunked"].of("head"), strict=True)
        ),
        "ceiling_gflops": spread(c / 1e9 for c in ceiling),
        "mfu": {
            kind: spread(statistics.mean(flops) / s / c for s, c in zip(seconds[kind], ceiling, strict=True))
            for kind in (*kinds, "whole")
        },
        "peak_mebibytes": {kind: round(peak) for kind, peak in memory.items()},
    }
    print(size, result)
    return result


def build(
    size: str, device: torch.device, precision: Precision = Precision.FP32
) -> tuple[TrainingStream, DenoiserStep]:
    """A denoiser on documents of random codes that fill their rows."""
    width, depth = SIZES[size]
    vocabulary = Vocabulary(
        spaces=(
            CodeSpace(name="text", num_codebooks=1, codebook_size=CODES - 1, has_end=True),
            CodeSpace(name="image", num_codebooks=1, codebook_size=2, has_end=False, grid=(1, 1)),
            CodeSpace(name="speech", num_codebooks=1, codebook_size=2, has_end=True),
        )
    )
    length = POSITIONS - 3  # beside the task and the boundaries
    stated = StatedSource(name="codes", lengths={"text": length})
    source = RandomCodes(stated, vocabulary.spaces, num_examples=64, seed=0)
    stream = TrainingStream(
        Mixture(
            MixtureConfig(components=(Component(source="codes", task="text", weight=1.0),)),
            {"codes": source},
            0,
        ),
        vocabulary,
        slack=SpanSlack(),
        text_window=length,
        physical_batch=ROWS,
        row_length=None,
    )
    config = DenoiserConfig(width=width, depth=depth, num_heads=width // 64)
    compute = ComputeConfig(precision=precision)
    denoiser = place(config, vocabulary, seed=0, compute=compute, world=World())
    step = DenoiserStep(
        denoiser.to(device),
        objective=ObjectiveConfig(),
        optimizer=AdamWConfig(learning_rate=1e-3),
        lr_schedule=WarmupCosine(warmup_fraction=0.1),
        num_steps=1000,
        seed=0,
        targets=stream.target_tokens(),
        tasks=stream.tasks,
    )
    return stream, step


def update(
    step: DenoiserStep, stream: TrainingStream, number: int, head: Head, is_sparing: bool, clock: "Clock"
) -> float:
    """An update, part by part; gives the operations that it needs."""
    denoiser, optimizer = step.denoiser, step.optimizer
    with clock.part("data"):
        batch = stream.batch(number)
    with clock.part("corruption"):
        (view,) = step.passes.corruption.views(batch, number)
    with clock.part("forward"):
        row = batch.position[view.masked]
        at, place = row.unique(return_inverse=True)
        hidden = denoiser(view.z_t, batch, at) if is_sparing else denoiser(view.z_t, batch)
    with clock.part("head"):
        leaf = hidden.detach().requires_grad_()
        head(denoiser, leaf, place if is_sparing else row, batch, view).backward()
    with clock.part("backward"):
        hidden.backward(leaf.grad)
    with clock.part("clip"):
        clip_gradients(optimizer, 1.0)
    with clock.part("optimizer"):
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return 3.0 * forward_flops(
        denoiser.config,
        num_positions=batch.num_positions,
        document_length=POSITIONS,
        num_predicted=len(row),
        range_size=CODES,
        num_read=len(at),
    )


def plain_head(denoiser: Denoiser, hidden: Tensor, row: Tensor, batch: Batch, view: View) -> Tensor:
    """As `Denoiser.cross_entropy` does it; all slots are text."""
    logits = denoiser.logits(hidden[send(row, hidden.device)], 0)
    target = batch.tokens[view.masked] - denoiser.vocabulary.ranges[0].start
    losses = F.cross_entropy(logits, send(target, hidden.device), reduction="none")
    return (losses * send(_scale(batch, view), hidden.device)).sum()


def chunked_head(denoiser: Denoiser, hidden: Tensor, row: Tensor, batch: Batch, view: View) -> Tensor:
    return weighted_cross_entropy(
        hidden,
        denoiser.unembedding.weight,
        position=row,
        target=batch.tokens[view.masked],
        range_index=batch.range_index[view.masked],
        scale=_scale(batch, view),
        ranges=denoiser.vocabulary.ranges,
    )[0]


def _scale(batch: Batch, view: View) -> Tensor:
    return (view.weight[view.masked] / batch.maskable.sum()).float()


class Clock:
    """Seconds of each part in every round."""

    def __init__(self, device: torch.device, now: Callable[[], float]):
        self.device = device
        self.now = now
        self.rounds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = self._now()
        yield
        self.rounds[name].append(self._now() - began)

    def of(self, name: str) -> list[float]:
        return self.rounds[name][1:]

    def totals(self) -> list[float]:
        return [math.fsum(parts) for parts in zip(*self.rounds.values(), strict=True)][1:]

    def first(self) -> float:
        return round(sum(seconds[0] for seconds in self.rounds.values()), 2)

    def medians(self) -> dict[str, float]:
        return {name: round(1e3 * statistics.median(self.of(name)), 2) for name in self.rounds}

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.now()


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # not Linux: the mark is that of the process so far
            Path("/proc/self/clear_refs").write_text("5")


def peak_mebibytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def spread(values: Iterator[float]) -> dict[str, float]:
    found = list(values)
    return {
        name: float(f"{f(found):.4g}")
        for name, f in (("median", statistics.median), ("min", min), ("max", max))
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python benchmarks/training_step.py", description=__doc__)
    parser.add_argument(
        "--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="non-embedding parameters"
    )
    parser.add_argument("--compile", action="store_true", dest="compiled", help="compile blocks too")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="processor seconds: steadier where others compute too; with OMP_NUM_THREADS=1",
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    main(**vars(parser.parse_args()))
