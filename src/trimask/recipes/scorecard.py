"""The quick evaluation: every modality of a run beside its floors and ceilings, as plain JSON.

`python -m trimask.recipes.scorecard RUN --out FILE.json [--judge FOLDER]`, where RUN is a run directory or
`quickstart`.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trimask import io, rng
from trimask.config import from_dict, to_dict
from trimask.data.quickstart import load_speech, load_text
from trimask.data.selection import QuickstartData
from trimask.data.stream import SpanSlack
from trimask.data.tokens import TokenSource
from trimask.devices import describe
from trimask.evaluation.image import MEASURE
from trimask.evaluation.speech import normalize_words
from trimask.recipes import pretrained
from trimask.recipes.claims import Claim, claims
from trimask.recipes.quickstart import quickstart
from trimask.recipes.scorecard_likelihood import likelihood
from trimask.recipes.scorecard_samples import (
    caption_scores,
    gallery_features,
    image_scores,
    speech_scores,
    text_scores,
    transcript_scores,
)
from trimask.recipes.tokens import SPEECHES, Split, cached_tokens, pictures, select_speech, tokenize
from trimask.sampling.generate import Generator
from trimask.sampling.predictor import DenoiserPredictor
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.modality import Modality

__all__ = ["Claim", "claims", "score"]

# Training data that is encoded for the likelihoods where no run has kept its tokens: enough for floors,
# quick to encode.
_CONCEPTS = _SENTENCES = 400
_JUDGED = 40  # clips at least: fewer leave the word error rate's interval too wide to say anything
Report = Callable[[str], None]


def score(
    generator: Generator,
    data: QuickstartData,
    *,
    seed: int = 0,
    num_sequences: int = 48,
    num_masks: int = 8,
    judge: Path | None = None,
    train: Mapping[str, TokenSource] | None = None,
    slack: SpanSlack | None = None,
    report: Report = lambda message: None,
) -> dict[str, Any]:
    """All figures of a model that was trained on `data`: plain JSON, each with n, a 95 % interval, floors
    and ceilings.

    Args:
        num_sequences: examples per task and split, for likelihoods and for samples.
        judge: folder of a Whisper model for faster-whisper; without one, word error rates are left out, and
            the JSON says so.
        train: the run's tokenized training split; encoded anew (a part of it) where absent.

    Raises:
        ValueError: a model without all three tokenizers.
    """
    began = time.monotonic()
    tokenizers = tokenizers_of(generator)
    predictor = generator.predictor
    if not isinstance(predictor, DenoiserPredictor):
        raise ValueError(f"{type(predictor).__name__} gives no likelihoods: give a generator over a denoiser")
    part = replace(
        data,
        num_concepts=min(data.num_concepts or _CONCEPTS, _CONCEPTS),
        num_sentences=min(data.num_sentences or _SENTENCES, _SENTENCES),
    )
    splits: dict[str, Mapping[str, TokenSource]] = {
        "train": tokenize(part, tokenizers, "train", report=report) if train is None else train
    }
    for split in _held_out(data):
        splits[split] = tokenize(part, tokenizers, split, report=report)
    result: dict[str, Any] = {
        "format": "trimask scorecard",
        "seed": seed,
        "data": to_dict(data),
        "num_sequences": num_sequences,
        "num_masks": num_masks,
        "machine": describe(generator.device),
        "likelihood": likelihood(
            predictor.denoiser,
            splits,
            tokenizers.text,
            seed=seed,
            num_sequences=num_sequences,
            num_masks=num_masks,
            slack=slack or SpanSlack(),
            report=report,
        ),
    }
    result |= _pictures(generator, tokenizers, data, seed=seed, count=num_sequences, report=report)
    result["speech"] = _speech(
        generator, tokenizers, data, seed=seed, count=num_sequences, judge=judge, report=report
    )
    report("text passages")
    spelled = {word for row in load_text("train") for word in row.text.split()}
    known = set(normalize_words(" ".join(spelled)))
    windows = splits["validation"][SPEECHES].codes[Modality.TEXT]
    real = [
        tokenizers.text.decode(windows[i][:, 0].tolist()) for i in range(min(len(windows), num_sequences))
    ]
    result["text"] = text_scores(generator, tokenizers, real, known, seed=seed, count=min(num_sequences, 16))
    result["claims"] = [claim._asdict() for claim in claims(result)]
    result["seconds"] = time.monotonic() - began
    return result


def tokenizers_of(generator: Generator) -> Tokenizers:
    """The tokenizers that a generator was loaded with.

    Raises:
        ValueError: one of the three is absent.
    """
    text, image, speech = generator.codecs.text, generator.codecs.image, generator.codecs.speech
    if text is None or image is None or speech is None:
        raise ValueError("this model was loaded without all of its tokenizers: load it with trimask.load")
    return Tokenizers(text=text, image=image, speech=speech)


def _held_out(data: QuickstartData) -> tuple[Split, ...]:
    """Compositions exist only where variants (skin tones and the like) are part of the data."""
    return ("composition", "validation") if data.has_variants else ("validation",)


def _pictures(
    generator: Generator,
    tokenizers: Tokenizers,
    data: QuickstartData,
    *,
    seed: int,
    count: int,
    report: Report,
) -> dict[str, Any]:
    """Images from captions and captions from images, for seen captions, held-out compositions and unseen
    bases.
    """
    rows = {split: pictures(split, data) for split in ("train", *_held_out(data))}
    names = {"train": "seen", "composition": "composition", "validation": "unseen"}
    candidates = list(dict.fromkeys(row.caption for row in rows["train"]))[:200]
    features = {split: gallery_features(rows[split]) for split in rows if rows[split]}
    images: dict[str, Any] = {"measure": MEASURE}
    captions: dict[str, Any] = {}
    for split, here in rows.items():
        report(f"images and captions: {names[split]}")
        order = rng.generator(seed, "scorecard", "images", split).permutation(len(here))
        chosen = [here[i] for i in order[:count].tolist()]
        # A composition is looked for among all that was seen too: its own concept in other tones stands
        # there.
        shown = ("train", "composition") if split == "composition" else (split,)
        gallery = [row for each in shown for row in rows[each]]
        looked_up = [features[each] for each in shown if each in features]
        if looked_up:
            stacked = np.concatenate(looked_up)
            images[names[split]] = image_scores(generator, tokenizers, chosen, gallery, stacked, seed=seed)
        captions[names[split]] = caption_scores(generator, chosen, candidates, seed=seed)
    return {"images": images, "captions": captions}


def _speech(
    generator: Generator,
    tokenizers: Tokenizers,
    data: QuickstartData,
    *,
    seed: int,
    count: int,
    judge: Path | None,
    report: Report,
) -> dict[str, Any]:
    """Sentences said and written down, for sentences of the training split and for unseen ones."""
    result: dict[str, Any] = {"transcripts": {}, "generated": {}}
    size = count if judge is None else max(count, _JUDGED)
    names: dict[Split, str] = {"train": "seen", "validation": "unseen"}
    for split, name in names.items():
        report(f"speech: {name} sentences")
        bases = {row.base for row in pictures(split, data)}
        rows = [row for row in select_speech(load_speech(split), data, bases) if row.kind == "sentence"]
        order = rng.generator(seed, "scorecard", "speech", split).permutation(len(rows))
        chosen = [rows[i] for i in order[:size].tolist()]
        result["transcripts"][name] = transcript_scores(generator, chosen[:count], seed=seed)
        result["generated"][name] = speech_scores(
            generator, tokenizers, chosen, seed=seed, judge=judge, report=report
        )
    result["judge"] = (
        "not judged: give the folder of a Whisper model, "
        "`python -m trimask.recipes.scorecard RUN --out FILE.json --judge FOLDER`"
        if judge is None
        else f"Whisper ({judge.name}) through faster-whisper, greedy"
    )
    return result


def main(
    run: str,
    out: Path,
    *,
    judge: Path | None = None,
    seed: int = 0,
    num_sequences: int = 48,
    num_masks: int = 8,
) -> None:
    """Score `run` (a run directory, or `quickstart`), write `out` (JSON), say which bounds hold."""

    def report(message: str) -> None:
        print(message, flush=True)

    generator = pretrained.load(run)
    config, train = Path(run) / "config.json", None
    stored = from_dict(RunConfig, io.read_json(config)["run"]) if config.exists() else quickstart()
    data, slack = stored.data, stored.slack
    if not isinstance(data, QuickstartData):
        raise ValueError(f"{run} was trained on other data: the scorecard is of the embedded data")
    if config.exists():
        index = Path(run) / "tokens" / "train.json"
        if index.exists() and io.read_json(index)["data"] == to_dict(data):
            train = cached_tokens(data, tokenizers_of(generator), "train", Path(run) / "tokens")
    scores = score(
        generator,
        data,
        seed=seed,
        num_sequences=num_sequences,
        num_masks=num_masks,
        judge=judge,
        train=train,
        slack=slack,
        report=report,
    )
    io.write_json(out, scores)
    for claim in claims(scores):
        print(f"{'passed' if claim.passed else 'FAILED'}  {claim.name}: {claim.value:.4g}")
    print(f"{out} written in {scores['seconds']:.0f} s")


def _arguments() -> dict[str, Any]:
    """What the command line says; the command line proper (`trimask`) stands a floor above."""
    parser = argparse.ArgumentParser(prog="python -m trimask.recipes.scorecard", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="a run directory, or quickstart")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--judge", type=Path, help="folder of a Whisper model for faster-whisper")
    parser.add_argument("--seed", type=int, default=0, help="of samples and masks")
    parser.add_argument("--num-sequences", type=int, default=48, help="examples per task and split")
    parser.add_argument("--num-masks", type=int, default=8, help="masks per example and NELBO")
    return vars(parser.parse_args())


if __name__ == "__main__":
    main(**_arguments())
