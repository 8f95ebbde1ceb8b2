"""The scorecard of a model: every modality beside its floors and ceilings, as plain JSON."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from trimask import rng
from trimask.config import to_dict
from trimask.data.quickstart import CaptionedImage, load_speech, load_text
from trimask.data.selection import QuickstartData
from trimask.data.stream import SpanSlack
from trimask.data.tokens import TokenSource
from trimask.devices import describe
from trimask.evaluation.continuation import ContinuationScorer
from trimask.evaluation.image import MEASURE
from trimask.evaluation.judges.panel import Panel
from trimask.evaluation.speech import normalize_words
from trimask.model.denoiser import Denoiser
from trimask.recipes.claims import Claim, claims
from trimask.recipes.scorecard_images import (
    Reference,
    caption_agreement,
    gallery_features,
    image_scores,
    make_pictures,
    set_distances,
)
from trimask.recipes.scorecard_likelihood import likelihood
from trimask.recipes.scorecard_speech import speech_scores, transcript_scores
from trimask.recipes.scorecard_text import caption_scores, choice_scores, choices, text_scores
from trimask.recipes.suite import QUICK, Suite
from trimask.recipes.tokens import SPEECHES, Split, pictures, select_speech, tokenize
from trimask.sampling.generate import Generator
from trimask.sampling.predictor import DenoiserPredictor
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.modality import Modality

__all__ = ["Claim", "claims", "denoiser_of", "score", "tokenizers_of"]

# Training data that is encoded for the likelihoods where no run has kept its tokens: enough for floors,
# quick to encode.
_CONCEPTS = _SENTENCES = 400
_NAMES: Mapping[Split, str] = {"train": "seen", "composition": "composition", "validation": "unseen"}
Report = Callable[[str], None]


def score(
    generator: Generator,
    data: QuickstartData,
    *,
    suite: Suite = QUICK,
    judges: Panel | None = None,
    seed: int = 0,
    train: Mapping[str, TokenSource] | None = None,
    slack: SpanSlack | None = None,
    report: Report = lambda message: None,
) -> dict[str, Any]:
    """All figures of a model that was trained on `data`: plain JSON, each with n, a 95 % interval, floors
    and ceilings.

    Args:
        judges: outside models; what lacks its judge is left out, and `left_out` says so.
        train: the run's tokenized training split; encoded anew (a part of it) where absent.

    Raises:
        ValueError: a model without all three tokenizers.
    """
    began = time.monotonic()
    tokenizers, denoiser = tokenizers_of(generator), denoiser_of(generator)
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
    card = _Scorecard(
        generator=generator,
        denoiser=denoiser,
        tokenizers=tokenizers,
        data=data,
        suite=suite,
        judges=judges or Panel(),
        seed=seed,
        report=report,
    )
    result: dict[str, Any] = {
        "format": "trimask scorecard",
        "suite": suite.name,
        "seed": seed,
        "data": to_dict(data),
        "num_sequences": suite.num_sequences,
        "num_masks": suite.num_masks,
        "machine": describe(generator.device),
        "judges": card.judges.as_json(),
        "left_out": card.judges.left_out(),
        "likelihood": likelihood(
            denoiser,
            splits,
            tokenizers.text,
            seed=seed,
            num_sequences=suite.num_sequences,
            num_masks=suite.num_masks,
            slack=slack or SpanSlack(),
            report=report,
        ),
        **card.pictures(),
        "speech": card.speech(),
        **card.text(splits["validation"][SPEECHES]),
    }
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


def denoiser_of(generator: Generator) -> Denoiser:
    """The network that a generator samples from.

    Raises:
        ValueError: it samples from something that gives no likelihoods.
    """
    predictor = generator.predictor
    if not isinstance(predictor, DenoiserPredictor):
        raise ValueError(f"{type(predictor).__name__} gives no likelihoods: give a generator over a denoiser")
    return predictor.denoiser


def _held_out(data: QuickstartData) -> tuple[Split, ...]:
    """Compositions exist only where variants (skin tones and the like) are part of the data."""
    return ("composition", "validation") if data.has_variants else ("validation",)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Scorecard:
    """What all parts of one scorecard share."""

    generator: Generator
    denoiser: Denoiser
    tokenizers: Tokenizers
    data: QuickstartData
    suite: Suite
    judges: Panel
    seed: int
    report: Report

    def pictures(self) -> dict[str, Any]:
        """Images from captions and captions from images, for seen captions, held-out compositions and unseen
        bases.
        """
        splits: tuple[Split, ...] = ("train", *_held_out(self.data))
        rows: dict[Split, list[CaptionedImage]] = {each: pictures(each, self.data) for each in splits}
        features = {split: gallery_features(rows[split]) for split in rows if rows[split]}
        training = self._reference(rows["train"])
        images: dict[str, Any] = {"measure": MEASURE}
        captions: dict[str, Any] = {}
        distances: dict[str, Any] = {}
        agreements: dict[str, Any] = {}
        for split, here in rows.items():
            name = _NAMES[split]
            chosen = self._choose(here, self.suite.num_sequences, "images", split)
            if not chosen:
                continue
            self.report(f"images: {name}")
            made = make_pictures(self.generator, self.tokenizers.image, chosen, seed=self.seed)
            # A composition is looked for among all that was seen too: its own concept in other tones stands
            # there.
            shown: tuple[Split, ...] = ("train", split) if split == "composition" else (split,)
            gallery = [row for each in shown for row in rows[each]]
            stacked = np.concatenate([features[each] for each in shown if each in features])
            images[name] = image_scores(made, gallery, stacked, seed=self.seed)
            self.report(f"sets of images: {name}")
            reference = training if split == "train" else self._reference(here)
            distances[name] = set_distances(made, reference, seed=self.seed)
            known = list(dict.fromkeys(row.caption for row in gallery))
            agreements[name] = caption_agreement(made, known, training, seed=self.seed)
            self.report(f"captions: {name}")
            captions[name] = self._captions(chosen, rows["train"])
        return {
            "images": images,
            "image_distances": {name: each for name, each in distances.items() if each},
            "caption_agreement": {name: each for name, each in agreements.items() if each},
            "captions": captions,
        }

    def speech(self) -> dict[str, Any]:
        """Sentences said and written down, for sentences of the training split and for unseen ones."""
        result: dict[str, Any] = {"transcripts": {}, "generated": {}}
        splits: tuple[Split, ...] = ("train", "validation")
        for split in splits:
            name = _NAMES[split]
            self.report(f"speech: {name} sentences")
            bases = {row.base for row in pictures(split, self.data)}
            rows = [
                row for row in select_speech(load_speech(split), self.data, bases) if row.kind == "sentence"
            ]
            chosen = self._choose(rows, max(self.suite.num_clips, self.suite.num_sequences), "speech", split)
            result["transcripts"][name] = transcript_scores(
                self.generator, chosen[: self.suite.num_sequences], seed=self.seed
            )
            result["generated"][name] = speech_scores(
                self.generator,
                self.tokenizers.speech,
                chosen[: self.suite.num_clips],
                seed=self.seed,
                judges=self.judges,
                report=self.report,
            )
        recognizer = self.judges.recognizer
        result["judge"] = "not judged: give --judges" if recognizer is None else recognizer.name
        return result

    def text(self, held_out: TokenSource) -> dict[str, Any]:
        """Sampled passages beside held-out ones, and which continuation of a held-out passage is the true
        one.
        """
        self.report("text passages")
        text = self.tokenizers.text
        spelled = {word for row in load_text("train") for word in row.text.split()}
        windows = held_out.codes[Modality.TEXT]
        real = [
            text.decode(windows[i][:, 0].tolist()) for i in range(min(len(windows), self.suite.num_sequences))
        ]
        language_model = self.judges.language_model
        judge = None if language_model is None else language_model.load()
        passages = text_scores(
            self.generator,
            text,
            real,
            set(normalize_words(" ".join(spelled))),
            seed=self.seed,
            count=self.suite.num_passages,
            judge=judge,
        )
        self.report("continuations")
        questions = choices(
            held_out, text, window=self.data.text_window, count=self.suite.num_choices, seed=self.seed
        )
        scorer = ContinuationScorer(
            denoiser=self.denoiser,
            text=text,
            seed=self.seed,
            num_masks=self.suite.num_masks,
            max_length=self.data.text_window,
        )
        return {"text": passages, "continuation": choice_scores(scorer, questions, judge, seed=self.seed)}

    def _choose(self, rows: list, count: int, *names: str) -> list:
        order = rng.generator(self.seed, "scorecard", *names).permutation(len(rows))
        return [rows[i] for i in order[:count].tolist()]

    def _reference(self, rows: Sequence[CaptionedImage]) -> Reference:
        return Reference.draw(rows, self.judges, seed=self.seed, count=self.suite.num_references)

    def _captions(self, chosen: list[CaptionedImage], training: list[CaptionedImage]) -> dict | None:
        candidates = list(dict.fromkeys(row.caption for row in training))[:200]
        return caption_scores(self.generator, chosen, candidates, seed=self.seed)
