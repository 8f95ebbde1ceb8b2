"""Can one process make batches as fast as training eats them?

`python benchmarks/data_stream.py [--recipe quickstart_mini] [--out FILE.json]` times, in turns, batches of
the recipe's training stream (one thread) and whole training steps on them (all threads, or the accelerator),
and gives the ratio of tokens per second: above 1 the data keeps up, and 10 is what we aim at per worker.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from trimask import io
from trimask.devices import describe, pick
from trimask.recipes import catalog
from trimask.recipes.pretrain import build_denoiser, build_step, build_stream
from trimask.recipes.sources import token_sources
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig

ROUNDS = 7


def main(recipe: str, out: Path | None) -> None:
    config, tokenizers, device = catalog.resolve(recipe), Tokenizers.load(), pick(None)
    if not isinstance(config, RunConfig):
        raise SystemExit(f"{recipe} is a tokenizer's recipe: choose one of a model")
    with tempfile.TemporaryDirectory() as folder:
        sources = token_sources(config.data, tokenizers, "train", Path(folder))
    denoiser = build_denoiser(config, tokenizers).to(device)
    stream, step = build_stream(config, sources, denoiser.vocabulary), build_step(config, denoiser)
    made, trained = [], []
    for number in range(ROUNDS + 1):  # the first round warms up
        began = time.perf_counter()
        batches = [stream.batch(10 * number + i) for i in range(10)]
        between = time.perf_counter()
        tokens = sum(float(step(batch)["tokens"]) for batch in batches)
        made.append(tokens / (between - began))
        trained.append(tokens / (time.perf_counter() - between))
    ratios = [m / t for m, t in zip(made[1:], trained[1:], strict=True)]
    result = {
        "benchmark": "data_stream",
        "recipe": recipe,
        "target_tokens_per_second": {
            "one data process": round(statistics.median(made[1:])),
            "training step": round(statistics.median(trained[1:])),
        },
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "rounds": ROUNDS,
        "machine": describe(device),
    }
    print(result)
    if out is not None:
        io.write_json(out, result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python benchmarks/data_stream.py", description=__doc__)
    parser.add_argument("--recipe", default="quickstart_mini", help="whose data, model and batch")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    main(**vars(parser.parse_args()))
