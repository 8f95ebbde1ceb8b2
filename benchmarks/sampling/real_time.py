"""How long does speech take beside its own length? Presets and backends in turns, decoding included.

`python -m benchmarks.sampling.real_time [--rounds 5] [--out FILE.json]`, from the root of the repository.
"""

import argparse
import shlex
import statistics
import sys
import time
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import torch

import trimask
from benchmarks.training.checkout import own_commit
from trimask import io
from trimask.devices import describe
from trimask.generation.length import SpanTooShortWarning

SENTENCES = (
    "the people of this country are ready for the work",
    "a small boat drifted slowly across the quiet lake",
    "we must act now and we must act together",
    "every child should learn to read and to write",
)
CHOICES = {
    "own settings": (None, "torch"),
    **{
        f"{preset}, {backend}": (preset, backend)
        for preset in ("fast", "balanced", "best")
        for backend in ("torch", "onnx", "onnx-int8")
    },
}


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", SpanTooShortWarning)
    generators = {
        name: trimask.load("quickstart", preset=preset, backend=backend)
        for name, (preset, backend) in CHOICES.items()
    }
    for generator in generators.values():
        generator.generate("text_to_speech", SENTENCES[0])  # loads graphs and kernels
    factors: dict[str, list[float]] = {name: [] for name in CHOICES}
    names = list(CHOICES)
    for number in range(arguments.rounds):
        start = number % len(names)
        for name in [*names[start:], *names[:start]]:
            factors[name].append(measure(generators[name], number))
    result = {
        "benchmark": "sampling, real-time factor",
        "date": date.today().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.sampling.real_time", *sys.argv[1:]]),
        "commit": own_commit(),
        "machine": describe(torch.device("cpu")),
        "cpu_seconds_per_second_of_speech": {name: spread(values) for name, values in factors.items()},
        "over_own_settings": {
            name: spread([own / its for own, its in zip(factors[names[0]], values, strict=True)])
            for name, values in factors.items()
        },
    }
    for name, values in factors.items():
        faster = result["over_own_settings"][name]["median"]
        print(f"{name:<24} {statistics.median(values):.3f} CPU s per second, {faster:.1f} × faster")
    if arguments.out is not None:
        io.write_json(arguments.out, result)


def measure(generator: Any, seed: int) -> float:
    """Return the CPU seconds of a second of speech, one sentence at a time."""
    began, seconds = time.process_time(), 0.0
    for sentence in SENTENCES:
        waveform, rate = generator.generate("text_to_speech", sentence, seed=seed)
        seconds += len(waveform) / rate
    return (time.process_time() - began) / seconds


def spread(values: list[float]) -> dict[str, float]:
    of = {"median": statistics.median, "min": min, "max": max}
    return {name: float(f"{function(values):.4g}") for name, function in of.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling.real_time", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    main(parser.parse_args())
