"""Training updates of trimask, MDLM and dLLM at equal shape, in turns, on CPU: how many tokens a second.

`python benchmarks/training/compare.py --mdlm DIR --dllm DIR --python PYTHON [--out FILE.json]`; README.md
says what to check out, what is counted and what is left out.
"""

import argparse
import statistics
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, final

from ceiling import PRODUCT_FLOPS
from checkout import AS_RUN, REPOSITORIES, commit_of, missing_part, own_commit
from process import Worker
from shape import SIZES, Shape

from trimask import io
from trimask.devices import describe

CEILING = "ceiling"
OURS = "trimask"
PARTS = ("forward", "backward", "update")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Turns:
    """What one system's turns gave: per round the median seconds of an update, by part, and of one core."""

    parts: list[dict[str, float]]
    cpu: list[float]

    @property
    def seconds(self) -> list[float]:
        return [sum(parts.values()) for parts in self.parts]


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
    measured = [
        measure(size, number, present, python=python, rounds=rounds) for number in threads for size in sizes
    ]
    commits = {OURS: own_commit(), **{name: commit_of(path) for name, path in present.items() if path}}
    result = {
        "benchmark": "training",
        "date": date.today().isoformat(),
        "command": f"python benchmarks/training/compare.py --mdlm DIR --dllm DIR --python PYTHON --sizes "
        f"{' '.join(sizes)} --threads {' '.join(map(str, threads))} --rounds {rounds}",
        "machine": {key: value for key, value in describe().items() if key != "threads"},
        "commits": commits,
        "repositories": {name: REPOSITORIES[name] for name in sources},
        "as_run": {name: AS_RUN[name] for name in present if name in AS_RUN},
        "missing": missing,
        "measured": measured,
    }
    if out is not None:
        io.write_json(out, result)


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
    result = summarize(SIZES[size], turns, {name: worker.hello for name, worker in workers.items()})
    for name, system in result["systems"].items():
        system["peak_mib"] = round(memory[name] / 2**20)
        system["milliseconds_by_kernel"] = {kind: round(1e3 * s, 1) for kind, s in kernels[name].items()}
    print_table(f"{size}, {threads} threads", result)
    return {"size": size, "threads": threads, "shape": asdict(SIZES[size]), **result}


def take_turns(workers: Mapping[str, Worker], rounds: int, turn_seconds: float = 1.0) -> dict[str, Turns]:
    """`rounds` rounds in which each has its turn of about `turn_seconds`; who begins changes from round to
    round.
    """
    counts, turns = {}, {name: Turns(parts=[], cpu=[]) for name in workers}
    for name, worker in workers.items():
        worker.ask("steps 2")  # warms up
        times = worker.ask("steps 1")
        counts[name] = max(1, round(turn_seconds / sum(times[part][0] for part in PARTS)))
    names = list(workers)
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            times = workers[name].ask(f"steps {counts[name]}")
            turns[name].parts.append({part: statistics.median(times[part]) for part in PARTS})
            turns[name].cpu.append(statistics.median(times["cpu"]))
    return turns


def summarize(
    shape: Shape, turns: Mapping[str, Turns], hellos: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Medians over the rounds, with the least and the greatest; ratios are taken within a round."""
    ceiling = [PRODUCT_FLOPS / seconds for seconds in turns[CEILING].seconds]
    systems = {}
    for name in (name for name in turns if name != CEILING):
        seconds, parameters = turns[name].seconds, hellos[name]["parameters"]
        needed = shape.needed_flops(parameters["matrices"])
        systems[name] = {
            "tokens_per_second": _spread(shape.tokens / s for s in seconds),
            "time_over_trimask": _ratio(seconds, turns[OURS].seconds),
            "cpu_time_over_trimask": _ratio(turns[name].cpu, turns[OURS].cpu),
            "mfu": _spread(needed / s / c for s, c in zip(seconds, ceiling, strict=True)),
            "milliseconds": {
                part: round(1e3 * statistics.median(parts[part] for parts in turns[name].parts), 1)
                for part in PARTS
            },
            "needed_gflop": needed / 1e9,
            **hellos[name],
        }
    return {"ceiling_gflops": _spread(c / 1e9 for c in ceiling), "systems": systems}


def print_table(title: str, result: Mapping[str, Any]) -> None:
    ceiling = result["ceiling_gflops"]["median"]
    print(f"\n{title}; matrix products reach {ceiling:.0f} GFLOP/s")
    print(f"{'':10}{'tokens/s':>10}{'ratio':>8}{'spread':>14}{'MFU':>7}{'forward':>9}{'backward':>9}", end="")
    print(f"{'update':>8}{'peak MiB':>10}")
    for name, system in result["systems"].items():
        ratio, ms = system["time_over_trimask"], system["milliseconds"]
        print(
            f"{name:10}{system['tokens_per_second']['median']:10.0f}{ratio['median']:8.2f}"
            f"{ratio['min']:8.2f}-{ratio['max']:.2f}{system['mfu']['median']:8.1%}{ms['forward']:9.0f}"
            f"{ms['backward']:9.0f}{ms['update']:8.0f}{system['peak_mib']:10.0f}",
            flush=True,
        )


def _ratio(values: Iterable[float], others: Iterable[float]) -> dict[str, float]:
    return _spread(value / other for value, other in zip(values, others, strict=True))


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
