"""Can one process make batches as fast as training eats them?

`python benchmarks/data_stream.py [--recipe quickstart_mini] [--out FILE.json]` times, in turns, batches of
the recipe's training stream (one thread) and whole training steps on them (all threads, or the accelerator),
and gives the ratio of tokens per second: above 1 the data keeps up, and 10 is what we aim at per worker. Of a
recipe whose data is stated, random codes are in memory, and batches alone are timed: its step is for GPUs.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trimask import io
from trimask.data.random_codes import RandomCodes, random_sources
from trimask.data.selection import StatedData
from trimask.devices import describe, pick
from trimask.recipes import catalog
from trimask.runs.build import build_denoiser, build_step, build_stream, build_vocabulary
from trimask.runs.kinds import kind_of
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig

ROUNDS = 7
DATA, STEP = "one data process", "training step"


def main(recipe: str, out: Path | None) -> None:
    config, device = catalog.resolve(recipe), pick(None)
    if not isinstance(config, RunConfig):
        raise SystemExit(f"{recipe} is a tokenizer's recipe: choose one of a model")
    rates = of_stated(config) if isinstance(config.data, StatedData) else beside_step(config, device)
    medians = {name: round(statistics.median(values)) for name, values in rates.items()}
    result: dict[str, Any] = {
        "benchmark": "data_stream",
        "recipe": recipe,
        "target_tokens_per_second": medians,
        "rounds": ROUNDS,
        "machine": describe(device),
    }
    if STEP in rates:
        ratios = [made / trained for made, trained in zip(rates[DATA], rates[STEP], strict=True)]
        result["ratio"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    print(result)
    if out is not None:
        io.write_json(out, result)


def of_stated(config: RunConfig) -> dict[str, list[float]]:
    """Target tokens per second of whole batches, and of the part of one of eight processes."""
    assert isinstance(config.data, StatedData)
    drawn = random_sources(config.data, num_examples=32)
    sources = {name: Drawn(source) for name, source in drawn.items()}  # drawing codes is no part of a run
    stream = build_stream(config, sources, build_vocabulary(config, None))
    rates: dict[str, list[float]] = {DATA: [], "one of eight": []}
    for number in range(ROUNDS + 1):  # the first round warms up
        for name, num_parts in zip(rates, (1, 8), strict=True):
            began = time.perf_counter()
            batch = stream.batch(number, num_parts=num_parts)
            seconds = time.perf_counter() - began
            if number:
                rates[name].append(int(batch.maskable.sum()) / seconds)
    return rates


class Drawn:
    """The examples of `source` in memory."""

    def __init__(self, source: RandomCodes):
        self.name, self.groups, self.num_codes = source.name, source.groups, source.num_codes
        self._examples = [source.example(i) for i in range(len(source))]

    def __len__(self) -> int:
        return len(self._examples)

    def example(self, index: int) -> dict[str, np.ndarray]:
        return dict(self._examples[index])


def beside_step(config: RunConfig, device: torch.device) -> dict[str, list[float]]:
    """Target tokens per second of batches, and of steps on them."""
    tokenizers = Tokenizers.load()
    with tempfile.TemporaryDirectory() as folder:
        sources = kind_of(config.data).sources(tokenizers, "train", Path(folder))
    denoiser = build_denoiser(config, build_vocabulary(config, tokenizers)).to(device)
    stream = build_stream(config, sources, denoiser.vocabulary)
    step = build_step(config, denoiser, stream)
    rates: dict[str, list[float]] = {DATA: [], STEP: []}
    for number in range(ROUNDS + 1):  # the first round warms up
        began = time.perf_counter()
        batches = [stream.batch(10 * number + i) for i in range(10)]
        between = time.perf_counter()
        tokens = sum(float(step(batch)["tokens"]) for batch in batches)
        if number:
            rates[DATA].append(tokens / (between - began))
            rates[STEP].append(tokens / (time.perf_counter() - between))
    return rates


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python benchmarks/data_stream.py", description=__doc__)
    parser.add_argument("--recipe", default="quickstart_mini", help="whose data, model and batch")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    main(**vars(parser.parse_args()))
