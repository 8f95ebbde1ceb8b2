"""trimask's sampler and twins of its rivals on one network, in turns: how long, and how many passes.

`python -m benchmarks.sampling.compare [--model quickstart] [--tasks text …] [--batches 1 4 16]
[--out FILE.json]`, from the root of the repository; README.md says what is compared.
"""

import argparse
import os
import shlex
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, final

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.sampling import ours
from benchmarks.sampling.contenders import Contender, contenders
from benchmarks.sampling.network import Count
from benchmarks.sampling.work import RANDOM, TASKS, Model, Work, make_work, random_model, trained_model
from benchmarks.training.checkout import own_commit
from trimask import io
from trimask.devices import describe

CLOCKS = ("cpu", "wall")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One run of a contender: seconds by both clocks, passes, positions computed, share of end tokens."""

    cpu: float
    wall: float
    passes: int
    positions: int
    end_share: float


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    if arguments.model == RANDOM:
        model = random_model(arguments.width, arguments.depth, arguments.num_heads)
    else:
        model = trained_model(arguments.model)
    result = head_of(model, arguments)
    for task in arguments.tasks:
        for rows in arguments.batches:
            work = make_work(model, task, rows, arguments.length)
            chosen, left_out = choose(work, arguments.contenders)
            turns = take_turns(work, chosen, rounds=arguments.rounds, seed=arguments.seed)
            found = summarize(work, chosen, turns) | {"left_out": left_out}
            print_table(found)
            result["measured"].append(found)
            if arguments.out is not None:
                io.write_json(arguments.out, result)  # each time: what is cut short keeps what it has


def head_of(model: Model, arguments: argparse.Namespace) -> dict[str, Any]:
    config, vocabulary = model.denoiser.config, model.denoiser.vocabulary
    return {
        "benchmark": "sampling",
        "date": date.today().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.sampling.compare", *sys.argv[1:]]),
        "commit": own_commit(),
        "machine": describe(torch.device("cpu")),
        "seed": arguments.seed,
        "rounds": arguments.rounds,
        "model": {
            "name": model.name,
            "width": config.width,
            "depth": config.depth,
            "num_heads": config.num_heads,
            "parameters": sum(p.numel() for p in model.denoiser.parameters()),
            "vocabulary": vocabulary.size,
        },
        "measured": [],
    }


def choose(work: Work, names: Sequence[str] | None) -> tuple[list[Contender], dict[str, str]]:
    """Return the contenders that can do the work, trimask first, and why the others cannot. `names`: which
    are wanted; None for all.
    """
    wanted = [c for c in contenders(work.task) if names is None or c.name in (*names, ours.OURS)]
    why = {contender.name: contender.refuse(work) for contender in wanted}
    left_out = {name: reason for name, reason in why.items() if reason is not None}
    return [contender for contender in wanted if contender.name not in left_out], left_out


@torch.inference_mode()
def take_turns(work: Work, chosen: Sequence[Contender], *, rounds: int, seed: int) -> dict[str, list[Turn]]:
    """Let each contender sample once a round; who begins changes from round to round."""
    one = replace(work, batch=work.batch.rows(slice(0, 1)))
    for contender in chosen:
        if contender.name.startswith("maskgit") or "onnx" in contender.name:
            contender.sample(one, Count(), seed)  # loads diffusers, or ONNX Runtime and its graph
    work.model.denoiser(work.batch.tokens, work.batch)  # and here the kernels
    turns: dict[str, list[Turn]] = {contender.name: [] for contender in chosen}
    for number in range(rounds):
        start = number % len(chosen)
        for contender in [*chosen[start:], *chosen[:start]]:
            turns[contender.name].append(take_turn(work, contender, seed + number))
    return turns


def take_turn(work: Work, contender: Contender, seed: int) -> Turn:
    count = Count()
    cpu, wall = time.process_time(), time.perf_counter()
    tokens = contender.sample(work, count, seed)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if not work.are_legal(tokens):
        sys.exit(f"{contender.name} filled slots with tokens that cannot stand there")
    return Turn(
        cpu=cpu,
        wall=wall,
        passes=count.passes,
        positions=count.positions,
        end_share=work.end_share(tokens),
    )


def summarize(work: Work, chosen: Sequence[Contender], turns: Mapping[str, Sequence[Turn]]) -> dict[str, Any]:
    """Medians over the rounds, with the least and the greatest; ratios to trimask are those of a round."""
    tokens = work.num_targets
    systems: dict[str, Any] = {}
    for contender in chosen:
        its = turns[contender.name]
        pairs = list(zip(its, turns[ours.OURS], strict=True))
        systems[contender.name] = {
            "settings": repr(contender.settings),
            "passes": _spread(turn.passes for turn in its),
            "position_passes": _spread(turn.positions for turn in its),
            "position_passes_per_token": _spread(turn.positions / tokens for turn in its),
            "position_passes_over_trimask": _spread(t.positions / o.positions for t, o in pairs),
            "end_share": _spread(turn.end_share for turn in its),
        }
        for clock in CLOCKS:
            systems[contender.name][clock] = {
                "seconds": _spread(getattr(turn, clock) for turn in its),
                "tokens_per_second": _spread(tokens / getattr(turn, clock) for turn in its),
                "milliseconds_per_pass": _spread(1e3 * getattr(t, clock) / t.passes for t in its),
                "time_over_trimask": _spread(getattr(t, clock) / getattr(o, clock) for t, o in pairs),
            }
    return {
        "task": work.task,
        "batch": len(work.batch.tokens),
        "tokens": tokens,
        "positions": work.batch.num_positions,
        "load": os.getloadavg()[0],
        "contenders": systems,
    }


def print_table(found: Mapping[str, Any]) -> None:
    title = f"{found['task']}, batch {found['batch']}: {found['tokens']} tokens to fill"
    table = Table(title=title, title_justify="left")
    for heading in ("", "passes", "positions/token", "CPU s", "ms/pass", "tokens/s", "time ÷ ours", "spread"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, system in found["contenders"].items():
        cpu = system["cpu"]
        ratio = cpu["time_over_trimask"]
        cells = (
            f"{system['passes']['median']:.0f}",
            f"{system['position_passes_per_token']['median']:.1f}",
            f"{cpu['seconds']['median']:.2f}",
            f"{cpu['milliseconds_per_pass']['median']:.1f}",
            f"{cpu['tokens_per_second']['median']:.0f}",
            f"{ratio['median']:.2f}",
            f"{ratio['min']:.2f}–{ratio['max']:.2f}",
        )
        table.add_row(name, *cells)
    Console(width=110).print(table)
    for name, why in found["left_out"].items():
        print(f"{name} is left out: {why}")


def _spread(values: Iterable[float]) -> dict[str, float]:
    values = list(values)
    return {
        name: float(f"{of(values):.4g}")
        for name, of in (("median", statistics.median), ("min", min), ("max", max))
    }


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling.compare", description=__doc__)
    names = [contender.name for contender in contenders("text")]
    parser.add_argument("--model", default="quickstart", help=f"a run, or `{RANDOM}` for random weights")
    parser.add_argument("--width", type=int, default=128, help=f"of the {RANDOM} model")
    parser.add_argument("--depth", type=int, default=4, help=f"of the {RANDOM} model")
    parser.add_argument("--num-heads", type=int, default=2, help=f"of the {RANDOM} model")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["text", "text_to_image"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16], help="rows")
    parser.add_argument("--length", type=int, help="of targets of text (ids) and speech (frames)")
    parser.add_argument("--contenders", nargs="+", choices=names, help=f"beside {ours.OURS}; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args(words)


if __name__ == "__main__":
    main(parse())
