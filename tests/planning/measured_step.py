"""Run by test_plan.py in a process of its own: real updates of a recipe on random codes, and the memory that
they take. Prints JSON: bytes above those before the model was built, and the sizes of the passes.
"""

import ctypes
import gc
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from trimask.config import override
from trimask.data.random_codes import random_sources
from trimask.data.selection import StatedData
from trimask.model.denoiser import DenoiserConfig
from trimask.model.parametrization import Standard
from trimask.recipes import catalog
from trimask.runs.build import build_step, build_stream, build_vocabulary
from trimask.training.distributed import World
from trimask.training.placement import place
from trimask.training.run import RunConfig


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def resting() -> int:
    """Return the bytes in use. The C library keeps pages that are free, which later tensors take: it gives
    them back first.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return status("VmRSS")


def measure(config: RunConfig, *, is_small: bool) -> dict[str, Any]:
    assert isinstance(config.data, StatedData)
    vocabulary = build_vocabulary(config, None)
    stream = build_stream(config, random_sources(config.data), vocabulary)
    batch = stream.batch(0)
    base = resting()
    denoiser = place(config.model, vocabulary, seed=0, compute=config.compute, world=World())
    step = build_step(config, denoiser, stream)
    step(batch)
    state = resting() - base
    rows = len(batch.tokens)
    passes = -(-rows // (config.compute.micro_batch or rows))
    size = -(-rows // passes)
    slices = [slice(i, i + size) for i in range(0, rows, size)]
    parts = [batch.rows(part) for part in slices]
    masked = [view.masked for part in parts for view in step.passes.corruption.views(part, step.step)]
    largest = max(parts, key=lambda part: part.num_positions)
    step.optimizer.zero_grad()  # else this measurement would be the fullest moment
    before = resting()
    hidden = denoiser(largest.tokens, largest)
    activations = resting() - before
    del hidden
    if is_small:
        return {}
    step(batch)
    return {
        "peak": status("VmHWM") - base,
        "state": state,
        "activations": activations,
        "slots": batch.tokens.numel(),
        "positions": [part.num_positions for part in parts],
        "read": [len(part.position[m].unique()) for part, m in zip(parts, masked, strict=True)],
    }


def main() -> None:
    torch.set_num_threads(1)
    config = catalog.resolve(sys.argv[1])
    assert isinstance(config, RunConfig)
    config = override(config, json.loads(sys.argv[2]))
    # Libraries, and what they allocate once, before the memory of the model is counted.
    tiny = replace(
        config,
        model=DenoiserConfig(width=32, depth=1, num_heads=1, parametrization=Standard()),
        compute=replace(config.compute, micro_batch=None),
    )
    measure(tiny, is_small=True)
    print(json.dumps(measure(config, is_small=False)))


if __name__ == "__main__":
    main()
