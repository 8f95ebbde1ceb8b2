"""The same comparison within one process, without HTTP: what the scheduler makes of a device.

    python -m benchmarks.serving.in_process --device cuda --rows 64 --rounds 5
    python -m benchmarks.serving.in_process --device cuda --width 1024 --depth 24 --num-heads 16 --rows 64

The second has random weights at the size of the recipe `pilot_320m`.
"""

import argparse
import json
import statistics
import time
import warnings
from dataclasses import replace
from typing import Any

import torch

import trimask
from benchmarks.serving.asked import WORDS
from benchmarks.serving.whole import WholeRequests
from trimask import devices
from trimask.generation.generate import Generator
from trimask.model.denoiser import Denoiser
from trimask.serve.job import Failed, Job, Made, Message
from trimask.serve.scheduler import Scheduler

Server = Scheduler | WholeRequests


def list_short(number: int) -> list[dict[str, Any]]:
    """Words: a few tokens to a beginning."""
    return [
        {"task": "text", "prompt": WORDS[seed % len(WORDS)], "seed": seed, "span_length": 12 + seed % 13}
        for seed in range(number)
    ]


def list_mixed(number: int) -> list[dict[str, Any]]:
    """Several tasks, of many lengths and steps."""
    tasks = ("text", "text_to_image", "text_to_speech", "joint")
    found: list[dict[str, Any]] = []
    for seed in range(number):
        each: dict[str, Any] = {
            "task": tasks[seed % 4],
            "seed": seed,
            "num_steps": (2, 4, 8, 16)[seed // 4 % 4],
        }
        if each["task"] != "joint":
            each["prompt"] = WORDS[seed % len(WORDS)]
        if each["task"] == "text":
            each["span_length"] = (12, 32, 64, 128)[seed // 16 % 4]
        found.append(each)
    return found


def carry_out(
    server: Server, generator: Generator, requests: list[dict[str, Any]]
) -> tuple[list[bytes], float]:
    """Return the tokens of each request, all of which come at once, and the seconds that all took."""
    made: list[bytes] = [b""] * len(requests)

    def submit(number: int) -> None:
        def tell(message: Message) -> None:
            if isinstance(message, Failed):
                raise message.error
            if isinstance(message, Made):
                made[number] = message.generated.tokens.tobytes()

        server.submit(Job(lambda: generator.generate_each(**requests[number]), tell))

    began = time.perf_counter()  # the tokens of each result come to the host: nothing is left to wait for
    for number in range(len(requests)):
        submit(number)
    while server.step():
        pass
    return made, time.perf_counter() - began


def load_on(device: torch.device, width: int | None, depth: int | None, num_heads: int | None) -> Generator:
    """Return the shipped model, or one of random weights and another size with its tokenizers."""
    shipped = trimask.load("quickstart")
    denoiser = getattr(shipped.predictor, "denoiser", None)
    assert isinstance(denoiser, Denoiser)
    if width is not None:
        size = {"width": width, "depth": depth, "num_heads": num_heads}
        config = replace(denoiser.config, **{name: value for name, value in size.items() if value})
        torch.manual_seed(0)
        denoiser = Denoiser(config, denoiser.vocabulary).eval()
    codecs = shipped.codecs
    return Generator(
        denoiser.to(device),
        text=codecs.text,
        image=codecs.image,
        speech=codecs.speech,
        lengths=shipped.lengths,
        samplers=shipped.samplers,
        seen=shipped.seen,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int)
    parser.add_argument("--depth", type=int)
    parser.add_argument("--num-heads", type=int)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # of prompts that are not in the data
    device = devices.pick(given.device)
    generator = load_on(device, given.width, given.depth, given.num_heads)
    most: dict[str, int] = {"most_jobs": given.requests}

    def make(name: str) -> Server:
        rows = 1 if name == "one-at-a-time" else given.rows
        scheduler = Scheduler(generator.predictor, most_rows=rows, **most)
        return WholeRequests(scheduler) if name == "whole-requests" else scheduler

    names = ("trimask", "one-at-a-time", "whole-requests")
    found: dict[str, Any] = {"machine": devices.describe(device), "torch": torch.__version__}
    found |= {"threads": torch.get_num_threads(), "rows": given.rows, "requests": given.requests}
    for work, requests in (("short", list_short(given.requests)), ("mixed", list_mixed(given.requests))):
        for name in names:
            carry_out(make(name), generator, requests[:16])  # the first ones are slower
        seconds: dict[str, list[float]] = {name: [] for name in names}
        results: dict[str, list[bytes]] = {}
        for number in range(given.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                results[name], each = carry_out(make(name), generator, requests)
                seconds[name].append(each)
        pairs = zip(results["trimask"], results["one-at-a-time"], strict=True)
        found[work] = {"seconds": seconds, "differ_from_alone": sum(a != b for a, b in pairs)}
        for name in names[1:]:
            ratios = [b / a for a, b in zip(seconds["trimask"], seconds[name], strict=True)]
            found[work][f"{name}_over_ours"] = {
                "median": statistics.median(ratios),
                "min": min(ratios),
                "max": max(ratios),
            }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
