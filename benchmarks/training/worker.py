"""A system in a process of its own, that takes a turn when it is told to: one line in, one JSON line out.

    -> steps N     <- {"wall": […], "cpu": […], "forward": […], "backward": […], "update": […]}  seconds of N
                      updates by the wall clock and of CPU time, and of their parts
    -> memory      <- {"peak_bytes": …}  high-water mark since before the model was built, less what was held
    -> kernels     <- {"products": …, "attention": …, "copies": …, "rest": …}  seconds of an update by kernel

When the input ends, the process does.
"""

import argparse
import gc
import json
import os
import platform
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, final

import torch
from shape import SIZES, TINY, Shape
from torch import nn


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """One system, built and ready.

    Attributes:
        update: one whole update on a batch that is in memory: masks, forward, backward, clipping, optimizer.
        parameters: how many, by part: `matrices` (the blocks' weights that every token goes through),
            `embedding` (with the head), `conditioning` (on the time), `other` (gains, biases).
        packages: whose versions to report.
    """

    update: Callable[[], object]
    parameters: Mapping[str, int]
    packages: tuple[str, ...] = ("torch",)


def serve(build: Callable[[Shape, Path], System]) -> None:
    """Parse the command line, build the system and answer lines until there are no more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--source", type=Path, default=Path(), help="checkout of the system's repository")
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not stand between the answers
    warnings.simplefilter("ignore")  # of other projects' code: nothing to be done here
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    build(TINY, arguments.source).update()  # imports, and the kernels' code: not the model's memory
    gc.collect()
    held = _reset_peak()
    system = build(SIZES[arguments.size], arguments.source)
    hello = {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in system.packages},
        "threads": torch.get_num_threads(),
        "parameters": dict(system.parameters),
    }
    print(json.dumps(hello), file=answers)
    for line in sys.stdin:
        match line.split():
            case ["steps", number]:
                print(json.dumps(_timed(system.update, int(number))), file=answers)
            case ["memory"]:
                print(json.dumps({"peak_bytes": _peak_bytes() - held}), file=answers)
            case ["kernels"]:
                print(json.dumps(_by_kernel(system.update)), file=answers)
            case _:
                raise ValueError(f"unknown request {line!r}")


def parameters_by_part(module: nn.Module, *, embedding: str, conditioning: str = "") -> dict[str, int]:
    """Parameters of `module` by part; `embedding` and `conditioning` are words, separated by |, in the names
    of those parts' tensors.
    """
    counts = {"matrices": 0, "embedding": 0, "conditioning": 0, "other": 0}
    for name, parameter in module.named_parameters():
        if any(word in name for word in embedding.split("|")):
            part = "embedding"
        elif conditioning and any(word in name for word in conditioning.split("|")):
            part = "conditioning"
        else:
            part = "matrices" if parameter.ndim == 2 else "other"
        counts[part] += parameter.numel()
    return counts


def _timed(update: Callable[[], object], number: int) -> dict[str, list[float]]:
    """Seconds of `number` updates: `forward` until the backward pass begins, `update` after it has ended."""
    result: dict[str, list[float]] = {key: [] for key in ("wall", "cpu", "forward", "backward", "update")}
    backward = torch.autograd.backward
    marks: list[float] = []

    def marked(*args: Any, **kwargs: Any) -> None:
        marks.append(time.perf_counter())
        backward(*args, **kwargs)
        marks.append(time.perf_counter())

    torch.autograd.backward = marked
    try:
        for _ in range(number):
            marks.clear()
            cpu, began = time.process_time(), time.perf_counter()
            update()
            ended = time.perf_counter()
            result["cpu"].append(time.process_time() - cpu)
            result["wall"].append(ended - began)
            first, last = (marks[0], marks[-1]) if marks else (ended, ended)
            result["forward"].append(first - began)
            result["backward"].append(last - first)
            result["update"].append(ended - last)
    finally:
        torch.autograd.backward = backward
    return result


def _by_kernel(update: Callable[[], object]) -> dict[str, float]:
    """Seconds of one update that its kernels take; `rest`: all that is elementwise, or reduces."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        update()
    seconds = {"products": 0.0, "attention": 0.0, "copies": 0.0, "rest": 0.0}
    for event in profile.key_averages():
        name = event.key.removeprefix("aten::").rstrip("_")
        if name in ("mm", "addmm", "bmm", "baddbmm"):
            kind = "products"
        elif "scaled_dot_product" in name:
            kind = "attention"
        else:
            kind = "copies" if name in ("copy", "fill", "zero") else "rest"
        seconds[kind] += event.self_cpu_time_total / 1e6
    return seconds


def _reset_peak() -> int:
    """Let the high-water mark start anew, where the system can (Linux); the bytes that are held now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak_bytes()
    return _status_bytes("VmRSS") or _peak_bytes()


def _peak_bytes() -> int:
    return _status_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status_bytes(name: str) -> int | None:
    """A line of Linux's status of this process; None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), None)
