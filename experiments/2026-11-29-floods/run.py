"""Which samplers let end codes flood the text: passages and captions of the shipped model.

`python experiments/2026-11-29-floods/run.py` writes results.json beside it (kept as results.json.gz).
"""

import json
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import trimask
from trimask.data.selection import QuickstartData
from trimask.data.source_names import EMOJI, SPEECHES, SPOKEN
from trimask.generation import EmptySpanWarning, Generator, SpanTooShortWarning
from trimask.recipes.quickstart import quickstart
from trimask.sampling import (
    DEFAULTS,
    CalibratedConfidence,
    Confidence,
    EntropyBound,
    FactorRule,
    FrechetBound,
    LargestMargin,
    LargestProbability,
    LeftToRight,
    LowestEntropy,
    Order,
    PathPlanning,
    Random,
    SamplerConfig,
    StableAndSure,
    Temperature,
    Threshold,
)
from trimask.scorecard.examples_quickstart import QuickstartExamples
from trimask.tokenizers.bundle import SHIPPED, Tokenizers
from trimask.vocabulary.transcript import parse_transcript

NUM_SAMPLES = 24
NUM_HELD_OUT = 500
NUM_SPOKEN = 12
SEED = 0
TASKS = ("image_to_text", "text")
ORDERS: dict[str, Order] = {
    "Random": Random(),
    "LeftToRight": LeftToRight(),
    "LowestEntropy": LowestEntropy(),
    "LargestMargin": LargestMargin(),
    "LargestProbability": LargestProbability(),
    "Confidence": Confidence(),
    "Confidence, noise 0.5": Confidence(noise_temperature=0.5),
    "Confidence, noise 4.5": Confidence(noise_temperature=4.5),
    "CalibratedConfidence": CalibratedConfidence(),
}
COUNTS = {
    "Threshold 0.5": Threshold(probability=0.5),
    "Threshold 0.9": Threshold(),
    "EntropyBound": EntropyBound(),
    "FactorRule": FactorRule(),
    "FrechetBound": FrechetBound(),
    "StableAndSure": StableAndSure(),
}
GREEDY = (Temperature(value=0.0),)


def main() -> None:
    torch.set_num_threads(1)
    generator = trimask.load("quickstart")
    data = quickstart().data
    assert isinstance(data, QuickstartData)
    tokenizers = Tokenizers.load(SHIPPED)
    examples = QuickstartExamples(data, tokenizers)
    sources = examples.sources("validation")
    passages = [len(sources[SPEECHES].example(i)["text"]) for i in range(NUM_HELD_OUT)]
    captions = [sources[EMOJI].example(i) for i in range(len(sources[EMOJI]))]
    means = [float(np.mean(passages)), float(np.mean([len(caption["text"]) for caption in captions]))]
    held_out = dict(zip(("text", "image_to_text"), means, strict=True))
    pictures = [caption["image"] for caption in captions[:NUM_SAMPLES]]
    results: dict[str, Any] = {"num_samples": NUM_SAMPLES, "seed": SEED, "held_out_length": held_out}
    spoken = [sources[SPOKEN].example(i) for i in range(NUM_SPOKEN)]
    results["defaults"] = measure_defaults(generator, spoken, tokenizers)
    for task in TASKS:
        given = {"num_samples": NUM_SAMPLES} if task == "text" else {"image": pictures}
        found = []
        for name, config in samplers(task).items():
            row = {"sampler": name, **measure(generator, task, given, config, held_out[task])}
            print(task, json.dumps(row), flush=True)
            found.append(row)
        results[task] = found
        Path(__file__).with_name("results.json").write_text(json.dumps(results, indent=1) + "\n")


def measure_defaults(generator: Generator, spoken: list[Any], text: Tokenizers) -> list[dict[str, Any]]:
    """The default samplers of the other tasks whose targets have ends."""
    words = [parse_transcript(text.text.decode(row["text"][:, 0].tolist()))[1] for row in spoken]
    given: dict[str, tuple[str, dict[str, Any]]] = {
        "speech_to_text": ("speech_to_text", {"speech": [row["speech"].astype(np.int64) for row in spoken]}),
        "text_to_speech": ("text_to_speech", {"prompt": words}),
        "joint, image": ("joint", {"pair": "image", "num_samples": len(spoken)}),
        "joint, speech": ("joint", {"pair": "speech", "num_samples": len(spoken)}),
        "triple": ("triple", {"num_samples": len(spoken)}),
    }
    found = []
    for name, (task, more) in given.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = generator.generate_many(task, seed=SEED, **more)
        for modality in made[0].codes:
            if generator.vocabulary.space(modality).has_end:
                lengths = np.array([len(each.codes[modality]) for each in made])
                row = {"task": name, "modality": modality, "samples": len(made)}
                row |= {"empty": float((lengths == 0).mean()), "mean_length": float(lengths.mean())}
                print(json.dumps(row), flush=True)
                found.append(row)
    return found


def samplers(task: str) -> dict[str, SamplerConfig]:
    """The samplers by name: orders at 16 steps, those that look at the prediction with each remedy, counts
    by evidence, and the default."""
    found = {"default": DEFAULTS[task]}
    for name, order in ORDERS.items():
        plain = SamplerConfig(num_steps=16, order=order)
        found[f"{name}, 16 steps"] = plain
        found[f"{name}, 16 steps, greedy"] = replace(plain, filters=GREEDY)
        if name in ("Random", "LeftToRight"):
            continue
        found[f"{name}, 16 steps, ends last"] = replace(plain, ends_last=True)
        found[f"{name}, 16 steps, blocks of 4"] = replace(plain, block_length=4)
        found[f"{name}, 16 steps, blocks of 32"] = replace(plain, block_length=32)
    for name, steps in (("Confidence", 8), ("Confidence", 64), ("LowestEntropy", 64)):
        found[f"{name}, {steps} steps"] = SamplerConfig(num_steps=steps, order=ORDERS[name])
    found["PathPlanning, Confidence, 16 steps"] = SamplerConfig(
        num_steps=16, order=Confidence(), corrector=PathPlanning()
    )
    for name, count in COUNTS.items():
        found[f"{name}, LargestProbability"] = SamplerConfig(order=LargestProbability(), count=count)
        found[f"{name}, Confidence"] = SamplerConfig(order=Confidence(), count=count)
    found["Threshold 0.5, Random"] = SamplerConfig(count=Threshold(probability=0.5))
    found["Threshold 0.5, LargestProbability, ends last"] = SamplerConfig(
        order=LargestProbability(), count=Threshold(probability=0.5), ends_last=True
    )
    found["Threshold 0.5, LargestProbability, blocks of 4"] = SamplerConfig(
        order=LargestProbability(), count=Threshold(probability=0.5), block_length=4
    )
    for name, order in (("Random", Random()), ("LargestProbability", LargestProbability())):
        found[f"Threshold 0.5, {name}, greedy"] = SamplerConfig(
            order=order, count=Threshold(probability=0.5), filters=GREEDY
        )
    return found


def measure(
    generator: Generator, task: str, given: dict[str, Any], config: SamplerConfig, held_out: float
) -> dict[str, Any]:
    """Generate, and say how long the texts are. A sampler floods if a tenth of its texts are empty, or if
    they have less than half of the held-out texts' mean length.
    """
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptySpanWarning)
        warnings.simplefilter("ignore", SpanTooShortWarning)
        made = generator.generate_many(task, config=config, seed=SEED, **given)
    lengths = np.array([len(each.codes["text"]) for each in made])
    return {
        "empty": float((lengths == 0).mean()),
        "mean_length": float(lengths.mean()),
        "complete": float(np.mean([each.is_complete for each in made])),
        "floods": bool((lengths == 0).mean() >= 0.1 or lengths.mean() < held_out / 2),
        "cpu_seconds": round(time.process_time() - start, 1),
    }


if __name__ == "__main__":
    main()
