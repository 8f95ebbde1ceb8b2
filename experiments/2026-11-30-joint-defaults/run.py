"""Samplers of `joint` and `triple` on the shipped model: `python run.py WHISPER [--count N] [--out FILE]`.

Nothing is given, so what is measured is whether the parts are whole and belong together: shares of blank
pictures and silent clips, captions of the data, pictures whose nearest of the gallery has the caption, and
word errors of WHISPER (a faster-whisper folder) against the words that were generated with the clip.
"""

import argparse
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
from trimask.datasets.quickstart import load_images
from trimask.estimate import proportion
from trimask.evaluation.image import lab_features
from trimask.evaluation.speech import transcribe, word_error_rate
from trimask.generation import Generator
from trimask.recipes.quickstart import quickstart
from trimask.sampling import Ancestral, Confidence, Cosine, LeftToRight, Random, SamplerConfig, Temperature

SEED = 5
BLANK, SILENT = 0.05, 0.05
"""Share of pixels that are not white; greatest amplitude. Real ones are at 0.46 and 0.6 on average."""
TASKS: dict[str, dict[str, Any]] = {
    "joint image": {"task": "joint", "pair": "image"},
    "joint speech": {"task": "joint", "pair": "speech"},
    "triple": {"task": "triple"},
}
BY_CONFIDENCE = SamplerConfig(
    num_steps=32,
    grid=Cosine(),
    order=Confidence(noise_temperature=0.5, codebook_penalty=5.0),
    filters=(Temperature(value=0.8),),
)
ANCESTRAL = replace(BY_CONFIDENCE, order=Random(), count=Ancestral())
TO_THE_RIGHT = SamplerConfig(num_steps=32, order=LeftToRight(), filters=(Temperature(value=0.8),))
VARIANTS = {
    "by confidence, coarse codebooks first (before)": BY_CONFIDENCE,
    "by confidence, ends last": replace(BY_CONFIDENCE, ends_last=True),
    "ancestral": ANCESTRAL,
    "ancestral, 64 steps": replace(ANCESTRAL, num_steps=64),
    "ancestral, text from left to right": replace(ANCESTRAL, targets={"text": TO_THE_RIGHT}),
    "ancestral, text from left to right, temperature 0.5": replace(
        ANCESTRAL, targets={"text": replace(TO_THE_RIGHT, filters=(Temperature(value=0.5),))}
    ),
}


def measure(generator: Generator, given: dict[str, Any], config: SamplerConfig, whisper: Path, count: int):
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = generator.generate_many(**given, num_samples=count, seed=SEED, config=config)
    row: dict[str, Any] = {"seconds": round(time.monotonic() - began, 1)}
    texts = [each.text or "" for each in made]
    row["empty_text"] = share([not text for text in texts])
    row["mean_words"] = round(float(np.mean([len(text.split()) for text in texts])), 2)
    data = quickstart().data
    assert isinstance(data, QuickstartData)
    if made[0].image is not None:
        pixels = np.stack([np.asarray(each.image.convert("RGB")) for each in made if each.image is not None])
        ink = (pixels < 245).any(-1).mean((1, 2))
        gallery = load_images("train")
        captions = {picture.caption for picture in gallery}
        features = lab_features(np.stack([picture.pixels() for picture in gallery]))
        mine = lab_features(pixels)
        squared = ((mine[:, None, :] - features[None]) ** 2).sum(-1)
        nearest = [gallery[i].caption for i in squared.argmin(1)]
        row |= {"blank": share(ink < BLANK), "mean_ink": round(float(ink.mean()), 3)}
        row["known_caption"] = share([text in captions for text in texts])
        row["picture_has_the_caption"] = share([a == b for a, b in zip(texts, nearest, strict=True)])
    if made[0].waveform is not None:
        clips = [each.waveform for each in made]
        clips = [c if c is not None and len(c) else np.zeros(1600, np.float32) for c in clips]
        row["silent"] = share([float(np.abs(c).max()) < SILENT for c in clips])
        row["mean_seconds"] = round(float(np.mean([len(c) / 16_000 for c in clips])), 2)
        heard = transcribe(clips, 16_000, whisper)
        worded = [(text, said) for text, said in zip(texts, heard, strict=True) if text.split()]
        row["word_errors"] = word_error_rate(*map(list, zip(*worded, strict=True))).as_json()
    return row


def share(flags: Any) -> dict[str, Any]:
    return proportion(np.array(flags, dtype=bool)).as_json()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("whisper", type=Path)
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--run", default="quickstart")
    given = parser.parse_args()
    torch.set_num_threads(1)
    generator = trimask.load(given.run)
    found: dict[str, Any] = {"count": given.count, "seed": SEED}
    for task, what in TASKS.items():
        for name, config in VARIANTS.items():
            row = measure(generator, what, config, given.whisper, given.count)
            found.setdefault(task, {})[name] = row
            print(task, name, json.dumps(row), flush=True)
            if given.out is not None:
                given.out.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
