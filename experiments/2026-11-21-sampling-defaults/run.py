"""Which sampling settings suit the shipped model: `python run.py RUN --out results.json [--judge FOLDER]
[--images N] [--clips N]`.

Images: how often the picture made from a training caption is nearest to its own original
    (`trimask.evaluation.image`). Speech: word error
rate of the judge on sentences of the training split, the reader's own clips beside them. One factor is varied
at a time around a base setting. Seeds and examples are not those of the model's scorecard.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import trimask
from trimask import rng
from trimask.config import to_dict
from trimask.data.quickstart import load_speech
from trimask.data.selection import QuickstartData
from trimask.devices import describe
from trimask.evaluation.image import agreement
from trimask.evaluation.speech import transcribe, word_error_rate
from trimask.io import write_json
from trimask.recipes.quickstart import quickstart
from trimask.recipes.scorecard_images import gallery_features
from trimask.recipes.scorecard_speech import speak
from trimask.recipes.tokens import pictures, select_speech
from trimask.sampling.generate import DEFAULTS, Generator
from trimask.sampling.order import Confidence
from trimask.sampling.sampler import SamplerConfig
from trimask.vocabulary.modality import Task

SEED = 11


def _embedded() -> QuickstartData:
    data = quickstart().data
    assert isinstance(data, QuickstartData)
    return data


DATA = _embedded()

IMAGE_BASE = DEFAULTS[Task.TEXT_TO_IMAGE]
IMAGE_VARIANTS: dict[str, SamplerConfig] = {
    "base": IMAGE_BASE,
    "guidance 1": replace(IMAGE_BASE, guidance_scale=1.0),
    "guidance 3": replace(IMAGE_BASE, guidance_scale=3.0),
    "temperature 1": IMAGE_BASE.adjusted(temperature=1.0),
    "40 steps": replace(IMAGE_BASE, num_steps=40),
    "noise 4.5": replace(IMAGE_BASE, order=Confidence(noise_temperature=4.5)),
}
SPEECH_BASE = DEFAULTS[Task.TEXT_TO_SPEECH]
SPEECH_VARIANTS: dict[str, SamplerConfig] = {
    "base": SPEECH_BASE,
    "guidance 1": replace(SPEECH_BASE, guidance_scale=1.0),
    "guidance 3": replace(SPEECH_BASE, guidance_scale=3.0),
    "temperature 0.5": SPEECH_BASE.adjusted(temperature=0.5),
    "no penalty": replace(SPEECH_BASE, order=Confidence(noise_temperature=0.5)),
}


def image_rows(generator: Generator, count: int) -> list[dict]:
    gallery = pictures("train", DATA)
    chosen = rng.generator(SEED, "images").permutation(len(gallery))[:count]
    features = gallery_features(gallery)
    rows = []
    for name, config in IMAGE_VARIANTS.items():
        made = generator.generate_many(
            Task.TEXT_TO_IMAGE, [gallery[i].caption for i in chosen], seed=SEED, config=config
        )
        pixels = np.stack([np.asarray(result.image.convert("RGB")) for result in made if result.image])
        score = agreement(pixels, features, chosen)
        rows.append({"setting": name, "config": to_dict(config), **score.as_json()})
        print(
            f"images  {name:16} top-1 {score.top1.value:.3f} top-5 {score.top5.value:.3f}",
            file=sys.stderr,
            flush=True,
        )
    return rows


def speech_rows(generator: Generator, count: int, judge: Path) -> list[dict]:
    sentences = [row for row in select_speech(load_speech("train"), DATA, set()) if row.kind == "sentence"]
    chosen = [sentences[i] for i in rng.generator(SEED, "speech").permutation(len(sentences))[:count]]
    texts = [row.text for row in chosen]
    heard = transcribe([row.waveform() for row in chosen], chosen[0].sample_rate, judge)
    rows = [{"setting": "the reader's clips", **asdict(word_error_rate(texts, heard))}]
    for name, config in SPEECH_VARIANTS.items():
        generator.defaults = {**DEFAULTS, Task.TEXT_TO_SPEECH: config}
        made = speak(generator, chosen, seed=SEED)
        waveforms = [
            m.waveform if m.waveform is not None and len(m.waveform) else np.zeros(1600, np.float32)
            for m in made
        ]
        rate = word_error_rate(texts, transcribe(waveforms, chosen[0].sample_rate, judge))
        rows.append({"setting": name, "config": to_dict(config), **asdict(rate)})
        print(
            f"speech  {name:16} WER {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]",
            file=sys.stderr,
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--clips", type=int, default=24)
    options = parser.parse_args()
    generator = trimask.load(options.run)
    results: dict[str, Any] = {"seed": SEED, "machine": describe()}
    if options.images:
        results["images"] = image_rows(generator, options.images)
    if options.clips and options.judge:
        results["speech"] = speech_rows(generator, options.clips, options.judge)
    write_json(options.out, results)
    print(json.dumps({"out": str(options.out)}))


if __name__ == "__main__":
    main()
