"""Many concurrent requests over HTTP on this machine, against one at a time and whole-request batching.

    python -m benchmarks.serving.load --requests 200 --rounds 3 --out RESULT.json

Three servers of the same model, each in its own process: ours; ours with `--most-rows 1`, which fills one
result at a time and never waits for a client; and the twin that batches whole requests
(benchmarks/serving/whole.py). Clients are in this process. All requests are sent at once. In each round every
server gets all of them, one server after the other, in an order that changes: ratios are within a round.

Before that, each request is carried out alone by our server: its seconds w, and its result, with which all
later ones are compared byte by byte (confidences to one of their last digit). Its *fair share* is when it
would be done if one result were computed at a time and all requests had equal shares of that (processor
sharing): c · the sum over all requests j of min(w_j, w), where c makes the sum of all w as long as the server
of one at a time takes in that round. The slowdown of a request is its seconds in company over its fair share:
the median over the rounds.

A busy machine slows down all. So the server's own CPU seconds are told too: their ratio is what remains of
the other on an idle machine where one thread computes.
"""

import argparse
import asyncio
import json
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import torch

import trimask
from benchmarks.serving.asked import Asked, Givens, Told, ask_captions, ask_mixed, ask_words, read
from benchmarks.serving.process import Peak, ServerProcess

_WAIT = 1800.0
WORKS = {"words": ask_words, "captions": ask_captions, "mixed": ask_mixed}
ONE = "one-at-a-time"
CONTENDERS = {
    "trimask": [*"trimask serve {run} --port 0 --json --most-requests 4096".split()],
    ONE: [*"trimask serve {run} --port 0 --json --most-rows 1 --most-requests 4096".split()],
    "whole-requests": ["benchmarks.serving.whole", "--run", "{run}"],
}


async def send(client: httpx2.AsyncClient, asked: Asked) -> tuple[int, bytes, float]:
    """Return the status, the body and the seconds of a request."""
    began = time.monotonic()
    if asked.file is None:
        answer = await client.post(asked.path, json=asked.body)
    else:
        name, data = asked.file
        answer = await client.post(asked.path, data=asked.body, files={name: ("speech.wav", data)})
    return answer.status_code, answer.content, time.monotonic() - began


async def send_all(url: str, requests: Sequence[Asked]) -> tuple[list[tuple[int, bytes, float]], float]:
    """Send all at once; return their answers, and the seconds until the last."""
    limits = httpx2.Limits(max_connections=len(requests), max_keepalive_connections=0)
    async with httpx2.AsyncClient(base_url=url, timeout=_WAIT, limits=limits) as client:
        began = time.monotonic()
        answers = await asyncio.gather(*(send(client, asked) for asked in requests))
        return answers, time.monotonic() - began


async def send_in_turn(url: str, requests: Sequence[Asked]) -> list[tuple[int, bytes, float]]:
    async with httpx2.AsyncClient(base_url=url, timeout=_WAIT) as client:
        return [await send(client, asked) for asked in requests]


def find_shares(alone: Sequence[float]) -> list[float]:
    """Return when each request would be done under processor sharing, all beginning at once."""
    return [sum(min(other, own) for other in alone) for own in alone]


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def measure(
    server: ServerProcess,
    requests: Sequence[Asked],
    expected: Sequence[Told],
    tokens: int,
) -> dict[str, Any]:
    """Carry out a round on one server."""
    before, cpu = server.resident_bytes(), server.cpu_seconds()
    with Peak(server) as peak:
        answers, seconds = asyncio.run(send_all(server.url, requests))
    cpu = server.cpu_seconds() - cpu
    time.sleep(1)
    pairs = list(zip(requests, answers, expected, strict=True))
    differ = [
        request.kind
        for request, (status, body, _), told in pairs
        if status == 200 and not read(request, body).is_like(told)
    ]
    latencies = [answer[2] for answer in answers]
    return {
        "statuses": dict(Counter(str(status) for status, _, _ in answers)),
        "differ": differ,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "requests_per_second": len(requests) / seconds,
        "tokens_per_second": tokens / seconds,
        "latency": {name: quantile(latencies, q) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))},
        "latencies": [round(each, 4) for each in latencies],
        "resident_mb": {
            "before": before / 1e6,
            "peak": peak.bytes / 1e6,
            "after": server.resident_bytes() / 1e6,
        },
    }


def compare(servers: dict[str, ServerProcess], requests: Sequence[Asked], rounds: int) -> dict[str, Any]:
    """Compare the servers on some requests."""
    asyncio.run(send_in_turn(servers["trimask"].url, requests[:8]))  # the first ones find a cold cache
    alone = asyncio.run(send_in_turn(servers["trimask"].url, requests))
    bad = [answer for answer in alone if answer[0] != 200]
    if bad:
        raise SystemExit(f"{len(bad)} requests fail alone, the first with {bad[0][1][:500]!r}")
    expected = [read(request, body) for request, (_, body, _) in zip(requests, alone, strict=True)]
    tokens = sum(told.tokens for told in expected)
    works = [seconds for _, _, seconds in alone]
    shares = find_shares(works)  # of c = 1
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
    for number in range(rounds):
        names = list(servers)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            each = measure(servers[name], requests, expected, tokens)
            found[name].append(each)
            print(f"{name}: {each['seconds']:.1f} s, CPU {each['cpu_seconds']:.1f} s", flush=True)
    ours, scales = found["trimask"], [each["seconds"] / sum(works) for each in found[ONE]]
    slowdowns = {
        name: [
            statistics.median(
                each["latencies"][place] / (scale * share)
                for each, scale in zip(of_server, scales, strict=True)
            )
            for place, share in enumerate(shares)
        ]
        for name, of_server in found.items()
    }
    ratios = {
        name: {
            kind: spread([b[kind] / a[kind] for a, b in zip(ours, other, strict=True)])
            for kind in ("seconds", "cpu_seconds")
        }
        for name, other in found.items()
        if name != "trimask"
    }
    return {
        "requests": len(requests),
        "kinds": dict(Counter(request.kind for request in requests)),
        "streamed": sum(request.is_streamed for request in requests),
        "target_tokens": tokens,
        "alone_seconds": sum(works),
        "times_of_ours": ratios,
        "slowdown": {
            name: {"median": statistics.median(values), "max": max(values)}
            | {"above_1": sum(each > 1 for each in values), "above_2": sum(each > 2 for each in values)}
            for name, values in slowdowns.items()
        },
        "rounds": found,
    }


def write_table(name: str, found: dict[str, Any]) -> str:
    """Return a table in Markdown: medians over the rounds."""
    head = f"{name}: {found['requests']} requests, {found['target_tokens']:,} target tokens"
    lines = [
        head,
        "",
        "| server | requests/s | tokens/s | CPU s | p50 / p95 / p99 s | slowdown: median, most | ",
    ]
    lines[-1] += "RSS before, peak, after MB | its time ÷ ours (CPU) |"
    lines.append("|" + "---|" * 8)
    for server, rounds in found["rounds"].items():

        def middle(*path: str, rounds: list[dict[str, Any]] = rounds) -> float:
            values: list[Any] = list(rounds)
            for part in path:
                values = [value[part] for value in values]
            return statistics.median(values)

        latency = " / ".join(f"{middle('latency', q):.2f}" for q in ("p50", "p95", "p99"))
        slow = found["slowdown"][server]
        slowdown = f"{slow['median']:.2f}, {slow['max']:.2f}, {slow['above_2']}"
        memory = ", ".join(f"{middle('resident_mb', when):.0f}" for when in ("before", "peak", "after"))
        ratio = "1"
        if server in found["times_of_ours"]:
            of_wall, of_cpu = (found["times_of_ours"][server][kind] for kind in ("seconds", "cpu_seconds"))
            ratio = f"**{of_wall['median']:.2f}** ({of_wall['min']:.2f}–{of_wall['max']:.2f}); "
            ratio += f"**{of_cpu['median']:.2f}** ({of_cpu['min']:.2f}–{of_cpu['max']:.2f})"
        cells = (f"{middle('requests_per_second'):.2f}", f"{middle('tokens_per_second'):.0f}")
        cells += (f"{middle('cpu_seconds'):.1f}", latency, slowdown, memory, ratio)
        lines.append(f"| `{server}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="quickstart")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of each server")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end with it
    givens = Givens(trimask.load(given.run))
    names = dict.fromkeys(("trimask", ONE, *given.contenders))
    servers: dict[str, ServerProcess] = {}
    try:
        for name in names:
            command = [word.format(run=given.run) for word in CONTENDERS[name]]
            servers[name] = ServerProcess(command, threads=given.threads)
        found: dict[str, Any] = {"run": given.run, "torch": torch.__version__, "threads": given.threads}
        for work in given.works:
            found[work] = compare(servers, WORKS[work](givens, given.requests), given.rounds)
            print(write_table(work, found[work]), flush=True)
            for name, rounds in found[work]["rounds"].items():
                statuses = Counter[str]()
                for each in rounds:
                    statuses.update(each["statuses"])
                differ = sum(len(each["differ"]) for each in rounds)
                print(f"{name}: statuses {dict(statuses)}, {differ} results differ")
            if given.out is not None:
                given.out.write_text(json.dumps(found, indent=1) + "\n")
    finally:
        for server in servers.values():
            server.stop()


if __name__ == "__main__":
    main()
