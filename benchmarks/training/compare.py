"""Training updates of trimask, MDLM and dLLM at equal shape, in turns, on CPU: how many tokens a second.

`python benchmarks/training/compare.py --mdlm DIR --dllm DIR --python PYTHON [--out FILE.json]`; README.md
says what to check out, what is counted and what is left out.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from ceiling import PRODUCT_FLOPS
from checkout import AS_RUN, REPOSITORIES, commit_of, missing_part, own_commit
from process import Worker
from rich.console import Console
from rich.table import Table
from shape import SIZES, Shape

from trimask import io
from trimask.devices import describe

CEILING = "ceiling"
OURS = "trimask"
CLOCKS = ("wall", "cpu")
PARTS = ("forward", "backward", "update")

Turns = list[dict[str, float]]
"""Of one system, per round: the median seconds of an update by each clock, and of its parts."""


def main(
    mdlm: Path | None,
    dllm: Path | None,
    python: str,
    sizes: list[str],
    threads: list[int],
    rounds: int,
    out: Path | None,
) -> None:
    sources = {"mdlm": mdlm, "dllm": dllm}
    missing = {name: why for name, path in sources.items() if (why := missing_part(name, path))}
    for name, why in missing.items():
        print(f"{name} is not measured: {why}", file=sys.stderr)
    present: dict[str, Path | None] = {OURS: None, **{n: p for n, p in sources.items() if n not in missing}}
    commits = {OURS: own_commit(), **{name: commit_of(path) for name, path in present.items() if path}}
    result: dict[str, Any] = {
        "benchmark": "training",
        "date": date.today().isoformat(),
        "command": f"python benchmarks/training/compare.py --mdlm DIR --dllm DIR --python PYTHON --sizes "
        f"{' '.join(sizes)} --threads {' '.join(map(str, threads))} --rounds {rounds}",
        "machine": {key: value for key, value in describe().items() if key != "threads"},
        "commits": commits,
        "repositories": {name: REPOSITORIES[name] for name in sources},
        "as_run": {name: AS_RUN[name] for name in present if name in AS_RUN},
        "missing": missing,
        "measured": [],
    }
    for number in threads:
        for size in sizes:
            result["measured"].append(measure(size, number, present, python=python, rounds=rounds))
            if out is not None:
                io.write_json(out, result)  # each time: what is cut short keeps what it has


def measure(
    size: str, threads: int, sources: Mapping[str, Path | None], *, python: str, rounds: int
) -> dict[str, Any]:
    """All systems at one size and number of threads, and one table on the terminal."""
    workers = {
        name: Worker(
            f"{CEILING}.py" if name == CEILING else f"step_{name}.py",
            python=sys.executable if name in (CEILING, OURS) else python,
            size=size,
            threads=threads,
            source=sources.get(name),
        )
        for name in (CEILING, *sources)
    }
    torches = {name: worker.hello["packages"]["torch"] for name, worker in workers.items()}
    if len(set(torches.values())) > 1:
        sys.exit(f"the systems run on different versions of torch, so nothing can be compared: {torches}")
    turns = take_turns(workers, rounds)
    memory = {name: workers[name].ask("memory")["peak_bytes"] for name in sources}
    kernels = {name: workers[name].ask("kernels") for name in sources}
    for worker in workers.values():
        worker.close()
    hellos = {name: worker.hello for name, worker in workers.items()}
    result = {"load": os.getloadavg()[0], **summarize(SIZES[size], turns, hellos)}
    for name, system in result["systems"].items():
        system["peak_mib"] = round(memory[name] / 2**20)
        system["milliseconds_by_kernel"] = {kind: round(1e3 * s, 1) for kind, s in kernels[name].items()}
    print_table(f"{size}, {threads} threads", result)
    return {"size": size, "threads": threads, "shape": asdict(SIZES[size]), **result}


def take_turns(workers: Mapping[str, Worker], rounds: int, turn_seconds: float = 1.0) -> dict[str, Turns]:
    """`rounds` rounds in which each has its turn of about `turn_seconds`; who begins changes from round to
    round.
    """
    counts = {}
    for name, worker in workers.items():
        worker.ask("steps 2")  # warms up
        counts[name] = max(1, round(turn_seconds / worker.ask("steps 1")["wall"][0]))
    names = list(workers)
    turns: dict[str, Turns] = {name: [] for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            times = workers[name].ask(f"steps {counts[name]}")
            turns[name].append({key: statistics.median(times[key]) for key in (*CLOCKS, *PARTS)})
    return turns


def summarize(
    shape: Shape, turns: Mapping[str, Turns], hellos: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Medians over the rounds, with the least and the greatest; ratios are taken within a round."""
    systems = {}
    for name in (name for name in turns if name != CEILING):
        needed = shape.needed_flops(hellos[name]["parameters"]["matrices"])
        rounds = list(zip(turns[name], turns[OURS], turns[CEILING], strict=True))
        systems[name] = {
            clock: {
                "tokens_per_second": _spread(shape.tokens / its[clock] for its, _, _ in rounds),
                "time_over_trimask": _spread(its[clock] / ours[clock] for its, ours, _ in rounds),
                "mfu": _spread(
                    needed / PRODUCT_FLOPS * product[clock] / its[clock] for its, _, product in rounds
                ),
            }
            for clock in CLOCKS
        }
        systems[name] |= {
            "milliseconds": {part: _milliseconds(its[part] for its in turns[name]) for part in PARTS},
            "needed_gflop": needed / 1e9,
            **hellos[name],
        }
    ceiling = {
        clock: _spread(PRODUCT_FLOPS / 1e9 / product[clock] for product in turns[CEILING]) for clock in CLOCKS
    }
    return {"ceiling_gflops": ceiling, "systems": systems}


def print_table(title: str, result: Mapping[str, Any]) -> None:
    ceiling = result["ceiling_gflops"]["wall"]["median"]
    table = Table(title=f"{title}; matrix products reach {ceiling:.0f} GFLOP/s", title_justify="left")
    clocks = [f"{of}, {clock}" for clock in CLOCKS for of in ("time ÷ ours", "spread", "MFU")]
    for heading in ("", "tokens/s", *clocks, *(f"{part} ms" for part in PARTS), "peak MiB"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, system in result["systems"].items():
        cells = [name, f"{system['wall']['tokens_per_second']['median']:.0f}"]
        for clock in CLOCKS:
            ratio, mfu = system[clock]["time_over_trimask"], system[clock]["mfu"]["median"]
            cells += [f"{ratio['median']:.2f}", f"{ratio['min']:.2f}–{ratio['max']:.2f}", f"{mfu:.0%}"]
        table.add_row(*cells, *(f"{system['milliseconds'][p]:.0f}" for p in PARTS), str(system["peak_mib"]))
    Console(width=150).print(table)


def _milliseconds(seconds: Iterable[float]) -> float:
    return round(1e3 * statistics.median(seconds), 1)


def _spread(values: Iterable[float]) -> dict[str, float]:
    values = list(values)
    return {
        name: float(f"{of(values):.4g}")
        for name, of in (("median", statistics.median), ("min", min), ("max", max))
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python benchmarks/training/compare.py", description=__doc__)
    parser.add_argument("--mdlm", type=Path, help="checkout of MDLM's repository")
    parser.add_argument("--dllm", type=Path, help="checkout of dLLM's repository")
    parser.add_argument("--python", default=sys.executable, help="interpreter with their dependencies")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="one table for each number")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    main(**vars(parser.parse_args()))
