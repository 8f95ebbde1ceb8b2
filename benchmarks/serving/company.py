"""How often does a result differ in any byte from the one that is generated alone?

    python -m benchmarks.serving.company --rounds 3 --rows 16

The noise of a result does not depend on its company, and nothing attends to other documents. But a product of
matrices may be rounded otherwise in a larger batch, and a draw that falls within that rounding comes out
otherwise. This counts such results: requests of every task of the shipped model, in company of all others,
arriving one at each step.
"""

import argparse
import json
import warnings
from typing import Any

import torch

import trimask
from trimask.generation.generate import Generator
from trimask.generation.generated import Generated
from trimask.serve.job import Failed, Job, Made, Message
from trimask.serve.scheduler import Scheduler

WORDS = ("strawberry", "red apple", "cat face", "blue book", "good morning", "snowman")


def list_requests(rounds: int) -> list[dict[str, Any]]:
    """Return requests of several tasks, each with a seed of its own."""
    found: list[dict[str, Any]] = []
    for seed in range(rounds):
        for word in WORDS:
            found.append({"task": "text_to_image", "prompt": word, "seed": seed})
            found.append({"task": "text_to_speech", "prompt": word, "seed": seed})
            found.append({"task": "text", "prompt": word, "seed": seed, "span_length": 64})
        found += [{"task": "joint", "seed": seed}, {"task": "triple", "seed": seed}]
    return found


def generate_together(generator: Generator, requests: list[dict[str, Any]], rows: int) -> list[Generated]:
    """Return the result of each request, all carried out by one scheduler."""
    scheduler = Scheduler(generator.predictor, most_rows=rows, most_jobs=len(requests))
    made: dict[int, Generated] = {}

    def submit(number: int) -> None:
        def tell(message: Message) -> None:
            if isinstance(message, Failed):
                raise message.error
            if isinstance(message, Made):
                made[number] = message.generated

        scheduler.submit(Job(lambda: generator.generate_each(**requests[number]), tell))

    for number in range(len(requests)):
        submit(number)
        scheduler.step()
    while scheduler.step():
        pass
    return [made[number] for number in range(len(requests))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="quickstart")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=16)
    given = parser.parse_args()
    generator = trimask.load(given.run, backend=given.backend)
    requests = list_requests(given.rounds)
    together = generate_together(generator, requests, given.rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of spans that are cut short
        alone = [generator.generate_many(**request)[0] for request in requests]
    differ = [
        request
        for request, one, other in zip(requests, alone, together, strict=True)
        if one.tokens.tobytes() != other.tokens.tobytes()
    ]
    print(
        json.dumps(
            {
                "run": given.run,
                "backend": given.backend,
                "device": str(generator.device),
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "rows": given.rows,
                "results": len(requests),
                "tokens": sum(len(one.tokens) for one in alone),
                "differ": differ,
            }
        )
    )


if __name__ == "__main__":
    main()
