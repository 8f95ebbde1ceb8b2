"""Do spans of predicted length keep quality, and how many positions do they save? The shipped model.

`python experiments/2026-11-29-span-lengths/run.py` writes results.json beside it; with names of parts, these
parts of it.
"""

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import trimask
from trimask.data.selection import QuickstartData
from trimask.data.source import ExampleSource
from trimask.data.source_names import EMOJI, SPOKEN
from trimask.estimate import mean, proportion
from trimask.evaluation.text import word_f1
from trimask.generation import EmptySpanWarning, Generator, SpanTooShortWarning
from trimask.recipes.quickstart import quickstart
from trimask.sampling import (
    Given,
    Grown,
    LengthRule,
    Predicted,
    Predictor,
    SamplerConfig,
    measure_sampler_likelihood,
)
from trimask.sampling.predictor import Prediction
from trimask.scorecard.examples_quickstart import QuickstartExamples
from trimask.tokenizers.bundle import SHIPPED, Tokenizers
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.sequence import build_sequence
from trimask.vocabulary.transcript import parse_transcript

SEED = 0
NUM = {"captions of training pictures": 64, "captions": 64, "transcripts": 32, "speech": 12, "passages": 16}
RESULTS = Path(__file__).with_name("results.json")
RULES: dict[str, LengthRule] = {
    "Given": Given(),
    "Predicted 0.99": Predicted(),
    "Predicted 0.9": Predicted(quantile=0.9),
    "Predicted 0.5": Predicted(quantile=0.5),
    "Grown": Grown(),
    "Grown, Predicted 0.5": Grown(first=Predicted(quantile=0.5)),
}
RULES_OF = {
    "transcripts": ["Given", "Predicted 0.99", "Predicted 0.9"],
    "speech": ["Given", "Predicted 0.99"],
    "passages": ["Given", "Predicted 0.99", "Grown"],
}


class Counted:
    """A predictor that counts the positions it computes."""

    def __init__(self, predictor: Predictor) -> None:
        self.inner, self.vocabulary, self.device = predictor, predictor.vocabulary, predictor.device
        self.num_positions = 0

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        self.num_positions += batch.num_positions
        return self.inner(z, batch)


def main() -> None:
    torch.set_num_threads(1)
    generator = trimask.load("quickstart")
    generator.predictor = Counted(generator.predictor)
    tokenizers = Tokenizers.load(SHIPPED)
    data = quickstart().data
    assert isinstance(data, QuickstartData)
    examples = QuickstartExamples(data, tokenizers)
    held_out, trained = examples.sources("validation"), examples.sources("train")
    parts = sys.argv[1:] or [*NUM, "likelihood"]
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"seed": SEED}

    def text(example: dict[str, np.ndarray]) -> str:
        return tokenizers.text.decode(example["text"][:, 0].tolist())

    def spoken(example: dict[str, np.ndarray]) -> str:
        return parse_transcript(text(example))[1]

    for name, task, source, words in (
        ("captions of training pictures", "image_to_text", trained[EMOJI], text),
        ("captions", "image_to_text", held_out[EMOJI], text),
        ("transcripts", "speech_to_text", held_out[SPOKEN], spoken),
        ("speech", "text_to_speech", held_out[SPOKEN], spoken),
        ("passages", "text", None, None),
    ):
        if name not in parts:
            continue
        results[name] = []
        rows = [] if source is None else spread(source, NUM[name])
        truth = [] if words is None else [words(row) for row in rows]
        plain: list[float] = []
        for label in RULES_OF.get(name, RULES):
            row, scores = measure(generator, task, rows, truth, RULES[label], NUM[name])
            row = {"length": label, **row}
            plain = plain or scores
            if scores:
                row["word_f1_change"] = mean(np.subtract(scores, plain)).as_json()
            print(name, json.dumps(row), flush=True)
            results[name].append(row)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    if "likelihood" in parts:
        for name, task, source in (
            ("captions", "image_to_text", held_out[EMOJI]),
            ("transcripts", "speech_to_text", held_out[SPOKEN]),
        ):
            key = f"likelihood of {name}"
            results[key] = compare_likelihoods(generator, task, spread(source, NUM[name]))
            print(key, json.dumps(results[key]), flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def spread(source: ExampleSource, count: int) -> list[dict[str, np.ndarray]]:
    """Examples spread evenly over a source."""
    return [dict(source.example(i)) for i in np.linspace(0, len(source) - 1, count).astype(int)]


def measure(
    generator: Generator,
    task: str,
    rows: list[dict[str, np.ndarray]],
    truth: list[str],
    rule: LengthRule,
    count: int,
) -> tuple[dict[str, Any], list[float]]:
    """Generate with the task's default sampler and this rule; return figures, and each text's word F1."""
    assert isinstance(generator.predictor, Counted)
    generator.predictor.num_positions = 0
    given: dict[str, Any] = {"num_samples": count}
    if task in ("image_to_text", "speech_to_text"):
        (condition,) = generator.task(task).condition
        given = {condition: [row[condition].astype(np.int64) for row in rows]}
    elif task == "text_to_speech":
        given = {"prompt": truth}
    target = "speech" if task == "text_to_speech" else "text"
    with warnings.catch_warnings():
        for kind in (EmptySpanWarning, SpanTooShortWarning, UserWarning):
            warnings.simplefilter("ignore", kind)
        config = replace(generator.settings(task), length=rule)
        made = generator.generate_many(task, config=config, seed=SEED, **given)
    lengths = [len(each.codes[target]) for each in made]
    found: dict[str, Any] = {
        "complete": proportion([each.is_complete for each in made]).as_json(),
        "empty": float(np.mean([length == 0 for length in lengths])),
        "mean_length": mean([float(length) for length in lengths]).as_json(),
        "positions_per_sample": generator.predictor.num_positions / len(made),
    }
    scores: list[float] = []
    if rows and target == "text":
        scores = [word_f1(wanted, each.text or "") for each, wanted in zip(made, truth, strict=True)]
        found["word_f1"] = mean(scores).as_json()
    return found, scores


def compare_likelihoods(generator: Generator, task: str, rows: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """−log q of held-out texts with the end codes that fill their span, in nats per text, of random order in
    16 steps: in spans that are planned, and in spans that are predicted, for texts that fit both."""
    config = SamplerConfig(num_steps=16)
    (condition,) = generator.task(task).condition
    documents: dict[str, list[Any]] = {"Given": [], "Predicted 0.99": []}
    fits = []
    for row in rows:
        codes = {m: row[m].astype(np.int64) for m in (condition, "text")}
        planned = span_of(generator, task, {condition: codes[condition]}, Given())
        predicted = span_of(generator, task, {condition: codes[condition]}, Predicted())
        fits.append([len(codes["text"]) < planned, len(codes["text"]) < predicted])
        if all(fits[-1]):
            for label, span in (("Given", planned), ("Predicted 0.99", predicted)):
                ends = {"text": span - len(codes["text"])}
                documents[label].append(build_sequence(generator.vocabulary, task, codes, num_end=ends))
    nats = {
        label: measure_sampler_likelihood(generator.predictor, some, config, seed=SEED).nats["text"]
        for label, some in documents.items()
    }
    change = nats["Predicted 0.99"] - nats["Given"]
    return {
        "fit": {label: float(np.mean([each[i] for each in fits])) for i, label in enumerate(documents)},
        "texts": len(change),
        "nats_per_text": {label: mean(values.tolist()).as_json() for label, values in nats.items()},
        "change": mean(change.tolist()).as_json(),
    }


def span_of(generator: Generator, task: str, given: dict[str, Any], rule: LengthRule) -> int:
    """The frames of the text's span before it is filled."""
    config = SamplerConfig(num_steps=1, length=rule)
    sizes: list[int] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        generator.generate_many(
            task, config=config, callback=lambda event: sizes.append(event.num_masked), **given
        )
    return sizes[0]


if __name__ == "__main__":
    main()
