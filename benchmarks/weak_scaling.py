"""What do more processes gain when each has as much to do?

`python benchmarks/weak_scaling.py [--processes 1 2] [--rounds 3] [--out FILE.json]` starts updates on random
codes of all three modalities in 1, 2, … processes (torchrun, gloo, one thread each; one process shards
nothing), in turns, with `--batch` sequences for each, and gives tokens per second against those of one
process times their number: 1 is perfect. With as many processes as cores, they also share what cores share:
`alone` is as many processes that do not talk to each other, so that what remains is what talking costs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from trimask import io
from trimask.data.random_codes import random_sources
from trimask.data.selection import StatedData, StatedSource
from trimask.devices import describe
from trimask.model.denoiser import DenoiserConfig
from trimask.recipes.reference import pilot_320m
from trimask.runs.build import build_step, build_stream, build_vocabulary
from trimask.training.compute import ComputeConfig
from trimask.training.distributed import open_world
from trimask.training.placement import place
from trimask.vocabulary.layout import CodeSpace

STEPS = 8


def main(processes: list[int], rounds: int, batch: int, out: Path | None) -> None:
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for number in processes:
            rates.setdefault(f"{number} processes", []).append(launch(number, batch))
            if number > 1:
                rates.setdefault(f"{number} alone", []).append(launch_alone(number, batch))
    one = rates[f"{processes[0]} processes"]
    result = {
        "benchmark": "weak_scaling",
        "sequences_per_process": batch,
        "steps": STEPS,
        "target_tokens_per_second": {name: spread(values) for name, values in rates.items()},
        "of_perfect": {
            str(n): spread([rate / n / base for rate, base in zip(rates[f"{n} processes"], one, strict=True)])
            for n in processes[1:]
        },
        "of_as_many_that_do_not_talk": {
            str(n): spread(
                [rate / base for rate, base in zip(rates[f"{n} processes"], rates[f"{n} alone"], strict=True)]
            )
            for n in processes[1:]
        },
        "machine": describe(torch.device("cpu")),
    }
    print(result)
    if out is not None:
        io.write_json(out, result)


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def launch(number: int, batch: int) -> float:
    """Target tokens per second of `number` processes together."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rate.json"
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
        subprocess.run(
            command(torchrun if number > 1 else [], number * batch, file), check=True, env=one_thread()
        )
        return io.read_json(file)["rate"]


def launch_alone(number: int, batch: int) -> float:
    """Of `number` processes that each do their own updates, side by side."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{rank}.json" for rank in range(number)]
        started = [subprocess.Popen(command([], batch, file), env=one_thread()) for file in files]
        if any(process.wait() for process in started):
            raise SystemExit("a process failed")
        return sum(io.read_json(file)["rate"] for file in files)


def command(launcher: list[str], batch: int, file: Path) -> list[str]:
    return [sys.executable, *launcher, __file__, "--worker", str(file), "--batch", str(batch)]


def one_thread() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def work(batch: int, file: Path) -> None:
    """What each process does: updates of a small denoiser, timed from the third on."""
    spaces = (
        CodeSpace(name="text", num_codebooks=1, codebook_size=4096, has_end=True),
        CodeSpace(name="image", num_codebooks=1, codebook_size=1024, has_end=False, grid=(16, 16)),
        CodeSpace(name="speech", num_codebooks=4, codebook_size=256, has_end=True, frame_rate=25.0),
    )
    data = StatedData(
        text_window=253,
        spaces=spaces,
        sources=(
            StatedSource(name="text", lengths={"text": 253}),
            StatedSource(name="images", lengths={"text": 24, "image": 1}),
            StatedSource(name="speech", lengths={"text": 40, "speech": 2.0}),
        ),
    )
    pilot = pilot_320m()
    config = replace(
        pilot,
        data=data,
        model=DenoiserConfig(width=256, depth=6, num_heads=4),
        logical_batch=batch,
        num_steps=1000,
        row_length=None,
        compute=ComputeConfig(),
    )
    vocabulary = build_vocabulary(config, None)
    stream = build_stream(config, random_sources(data, num_examples=64), vocabulary)
    torch.set_num_threads(1)
    with open_world("cpu") as world:
        denoiser = place(config.model, vocabulary, seed=0, compute=config.compute, world=world)
        step = build_step(config, denoiser, stream, world)
        tokens, began = 0.0, 0.0
        for number in range(STEPS + 2):
            if number == 2:
                began = time.perf_counter()
            metrics = step(stream.batch(number, rank=world.rank, num_parts=world.size))
            tokens += float(metrics["tokens"]) * (number >= 2)
        seconds = max(world.gather(time.perf_counter() - began))
        if world.is_main:
            io.write_json(file, {"rate": tokens / seconds})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python benchmarks/weak_scaling.py", description=__doc__)
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[1, 2], help="the first is what is compared with"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="sequences of each process")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = vars(parser.parse_args())
    worker = given.pop("worker")
    if worker is not None:
        work(given["batch"], worker)
    else:
        main(**given)
