"""What another backend costs in likelihood: nats per token under one sampler, beside torch's.

`python -m benchmarks.sampling.backends [--model quickstart] [--number 64] [--out FILE.json]`, from the root
of the repository. Held-out sequences of the embedded data are revealed in the same random order by every
backend, so that differences are paired.
"""

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

import trimask
from benchmarks.training.checkout import own_commit
from trimask import io
from trimask.data.mixture import Component, MixtureConfig
from trimask.data.selection import QuickstartData
from trimask.data.source_names import EMOJI, SPEECHES, SPOKEN
from trimask.devices import describe
from trimask.recipes.quickstart import quickstart
from trimask.runs.validation import draw_sequences
from trimask.sampling.backends import BACKENDS, TORCH
from trimask.sampling.config import SamplerConfig
from trimask.sampling.likelihood import measure_sampler_likelihood
from trimask.scorecard.examples_quickstart import QuickstartExamples
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence as Document

SOURCES = {"text": SPEECHES, "text_to_image": EMOJI, "image_to_text": EMOJI, "text_to_speech": SPOKEN}


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    predictors = {name: trimask.load(arguments.model, backend=name).predictor for name in BACKENDS}
    data = quickstart().data
    assert isinstance(data, QuickstartData)
    examples = QuickstartExamples(data, Tokenizers.load(), held_out="test")
    config = SamplerConfig(num_steps=arguments.num_steps)
    result: dict[str, Any] = {
        "benchmark": "sampling-backends",
        "date": date.today().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.sampling.backends", *sys.argv[1:]]),
        "commit": own_commit(),
        "machine": describe(torch.device("cpu")),
        "model": arguments.model,
        "sampler": repr(config),
        "tasks": {},
    }
    for task in SOURCES:
        documents = held_out(examples, task, predictors[TORCH].vocabulary, arguments.number)
        nats = {}
        for name, predictor in predictors.items():
            found = measure_sampler_likelihood(predictor, documents, config, seed=arguments.seed)
            nats[name] = np.sum(list(found.nats.values()), axis=0)
            tokens = np.sum(list(found.num_tokens.values()), axis=0)
        result["tasks"][task] = summarize(nats, tokens)
        print(task, result["tasks"][task], flush=True)
        if arguments.out is not None:
            io.write_json(arguments.out, result)


def held_out(examples: QuickstartExamples, task: str, vocabulary: Vocabulary, number: int) -> list[Document]:
    """Return `number` examples of the test split, or all if there are fewer; each once."""
    sources = examples.sources("test")
    number = min(len(sources[SOURCES[task]]), number)
    component = Component(source=SOURCES[task], task=task, weight=1.0)
    mixture = MixtureConfig(components=(component,), block_length=number, group_exponent=1.0)
    config = replace(quickstart(), data=examples.data)
    return draw_sequences(config, mixture, sources, vocabulary, number=number)


def summarize(nats: dict[str, np.ndarray], tokens: np.ndarray) -> dict[str, Any]:
    """Nats per token, and the difference from torch's with its standard error over documents."""
    found: dict[str, Any] = {"documents": len(tokens), "tokens": int(tokens.sum())}
    for name, each in nats.items():
        difference = each - nats[TORCH]
        mean = difference.sum() / tokens.sum()
        squares = np.square(difference - mean * tokens).sum() * len(tokens) / (len(tokens) - 1)
        found[name] = {
            "nats_per_token": float(f"{each.sum() / tokens.sum():.5g}"),
            "difference": float(f"{mean:.3g}"),
            "standard_error": float(f"{math.sqrt(squares) / tokens.sum():.2g}"),
        }
    return found


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling.backends", description=__doc__)
    parser.add_argument("--model", default="quickstart", help="a run over the embedded data")
    parser.add_argument("--number", type=int, default=64, help="of sequences of each task, at most")
    parser.add_argument("--num-steps", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args(words)


if __name__ == "__main__":
    main(parse())
