"""Orders, guidance and temperatures on the shipped model: `python run.py images|captions|transcripts|speech
RUN [--count N] [--judge FOLDER]`, for examples of the training split.

Images: how often the own original is the nearest of all training pictures. Captions: word F1. Transcripts:
character error rate. Speech: word error rate of the judge (a faster-whisper folder).
"""

import argparse
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import trimask
from trimask import rng
from trimask.data.quickstart import load_speech
from trimask.data.selection import QuickstartData
from trimask.estimate import mean
from trimask.evaluation import text as words
from trimask.evaluation.image import agreement
from trimask.evaluation.speech import transcribe, word_error_rate
from trimask.recipes.quickstart import quickstart
from trimask.recipes.scorecard_images import gallery_features
from trimask.recipes.scorecard_speech import speak
from trimask.recipes.tokens import pictures, select_speech
from trimask.sampling.filters import Temperature
from trimask.sampling.generate import DEFAULTS, Generator
from trimask.sampling.grid import Cosine
from trimask.sampling.order import Ancestral, Confidence, LeftToRightBlocks
from trimask.sampling.sampler import SamplerConfig
from trimask.vocabulary.modality import Task

SEED = 11


def _embedded() -> QuickstartData:
    data = quickstart().data
    assert isinstance(data, QuickstartData)
    return data


DATA = _embedded()
BY_CONFIDENCE = SamplerConfig(
    num_steps=20,
    grid=Cosine(),
    order=Confidence(noise_temperature=0.5),
    filters=(Temperature(value=0.8),),
    guidance_scale=1.5,
)
SPOKEN = replace(BY_CONFIDENCE, num_steps=32, guidance_scale=2.0)
ANCESTRAL = replace(BY_CONFIDENCE, num_steps=32, order=Ancestral())
WRITTEN = SamplerConfig(num_steps=24, order=Confidence(noise_temperature=0.1)).adjusted(temperature=0.5)
ONE_BY_ONE = replace(WRITTEN, order=LeftToRightBlocks(block_length=1, inner=Ancestral()))
VARIANTS: Mapping[str, Mapping[str, SamplerConfig]] = {
    "images": {
        "by confidence": BY_CONFIDENCE,
        "by confidence, noise 4.5, guidance 2": replace(
            BY_CONFIDENCE, order=Confidence(noise_temperature=4.5), guidance_scale=2.0
        ),
        "ancestral": ANCESTRAL,
        "ancestral, guidance 2.5": replace(ANCESTRAL, guidance_scale=2.5),
        "ancestral, temperature 1, guidance 1": replace(ANCESTRAL, guidance_scale=1.0, filters=()),
    },
    "captions": {
        "by confidence": WRITTEN,
        "ancestral": replace(WRITTEN, order=Ancestral()),
        "one by one": ONE_BY_ONE,
        "one by one, greedy": ONE_BY_ONE.adjusted(temperature=0.0),
        "blocks of 4, greedy": replace(
            WRITTEN.adjusted(temperature=0.0), order=LeftToRightBlocks(block_length=4, inner=Confidence())
        ),
    },
    "speech": {
        "by confidence": SPOKEN,
        "coarse codebooks first (5 nats)": replace(
            SPOKEN, order=Confidence(noise_temperature=0.5, codebook_penalty=5.0)
        ),
        "guidance 1": replace(SPOKEN, guidance_scale=1.0),
        "temperature 0.5": SPOKEN.adjusted(temperature=0.5),
        "ancestral": replace(SPOKEN, order=Ancestral()),
    },
}


def images(generator: Generator, config: SamplerConfig, count: int) -> str:
    gallery = pictures("train", DATA)
    chosen = rng.generator(SEED, "images").permutation(len(gallery))[:count]
    made = generator.generate_many(
        Task.TEXT_TO_IMAGE, [gallery[i].caption for i in chosen], seed=SEED, config=config
    )
    pixels = np.stack([np.asarray(each.image.convert("RGB")) for each in made if each.image])
    score = agreement(pixels, gallery_features(gallery), chosen)
    return f"{_shown(score.top1)} | {_shown(score.top5)} | {_shown(score.rank_fraction)}"


def captions(generator: Generator, config: SamplerConfig, count: int) -> str:
    rows = pictures("train", DATA)
    rows = [rows[i] for i in rng.generator(SEED, "captions").permutation(len(rows))[:count]]
    given = generator.generate_many(
        Task.IMAGE_TO_TEXT, image=[Image.fromarray(row.pixels()) for row in rows], seed=SEED, config=config
    )
    return _shown(
        mean([words.word_f1(row.caption, each.text or "") for row, each in zip(rows, given, strict=True)])
    )


def transcripts(generator: Generator, config: SamplerConfig, count: int) -> str:
    rows = _sentences(count)
    given = generator.generate_many(
        Task.SPEECH_TO_TEXT,
        audio=[row.waveform() for row in rows],
        seed=SEED,
        config=replace(config, num_steps=64),
        batch_size=12,
    )
    return _shown(words.character_error_rate([row.text for row in rows], [each.text or "" for each in given]))


def speech(generator: Generator, config: SamplerConfig, count: int, judge: Path) -> str:
    rows = _sentences(count)
    generator.defaults = {**DEFAULTS, Task.TEXT_TO_SPEECH: config}
    made = [each.waveform for each in speak(generator, rows, seed=SEED)]
    audible = [w if w is not None and len(w) else np.zeros(1600, np.float32) for w in made]
    return _shown(
        word_error_rate([row.text for row in rows], transcribe(audible, rows[0].sample_rate, judge))
    )


def _sentences(count: int) -> list:
    rows = [row for row in select_speech(load_speech("train"), DATA, set()) if row.kind == "sentence"]
    return [rows[i] for i in rng.generator(SEED, "speech").permutation(len(rows))[:count]]


def _shown(estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("images", "captions", "transcripts", "speech"))
    parser.add_argument("run")
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--judge", type=Path, help="for speech")
    options = parser.parse_args()
    generator = trimask.load(options.run)
    measure = {"images": images, "captions": captions, "transcripts": transcripts}.get(options.what)
    for name, config in VARIANTS["captions" if options.what == "transcripts" else options.what].items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if measure is not None:
                figures = measure(generator, config, options.count)
            elif options.judge is None:
                raise SystemExit("speech needs --judge: the folder of a Whisper model for faster-whisper")
            else:
                figures = speech(generator, config, options.count, options.judge)
        print(f"| {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
