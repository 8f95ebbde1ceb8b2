"""The scorecard of a model: every modality beside its floors and ceilings, as plain JSON."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from trimask import rng
from trimask.data.stream import SpanSlack
from trimask.data.tokens import ExampleSource
from trimask.devices import describe
from trimask.evaluation.continuation import ContinuationScorer
from trimask.evaluation.image import MEASURE
from trimask.evaluation.judges.panel import Panel
from trimask.model.denoiser import Denoiser
from trimask.recipes.examples import Examples
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
from trimask.recipes.signals import Picture
from trimask.recipes.suite import QUICK, Suite
from trimask.sampling.generate import Generator
from trimask.sampling.predictor import DenoiserPredictor
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.modality import Task

_NAMES = {"train": "seen", "composition": "composition", "validation": "unseen", "test": "unseen"}
Report = Callable[[str], None]


def score(
    generator: Generator,
    examples: Examples,
    *,
    suite: Suite = QUICK,
    judges: Panel | None = None,
    seed: int = 0,
    slack: SpanSlack | None = None,
    report: Report = lambda message: None,
) -> dict[str, Any]:
    """All figures of a model on `examples`: plain JSON, each with n, a 95 % interval, floors and ceilings.

    Args:
        judges: outside models; what lacks its judge is left out, and `left_out` says so.

    Raises:
        ValueError: a model without all three tokenizers.
    """
    began = time.monotonic()
    tokenizers, denoiser = tokenizers_of(generator), denoiser_of(generator)
    splits = {split: examples.sources(split) for split in examples.splits()}
    card = _Scorecard(
        generator=generator,
        denoiser=denoiser,
        tokenizers=tokenizers,
        examples=examples,
        suite=suite,
        judges=judges or Panel(),
        seed=seed,
        report=report,
    )
    result: dict[str, Any] = {
        "format": "trimask scorecard",
        "suite": suite.name,
        "seed": seed,
        "data": examples.as_json(),
        **({} if examples.reference is None else {"reference": examples.reference}),
        "held_out": examples.held_out,
        "num_sequences": suite.num_sequences,
        "num_masks": suite.num_masks,
        "machine": describe(generator.device),
        "judges": card.judges.as_json(),
        "left_out": card.judges.left_out() + examples.left_out(),
        "likelihood": likelihood(
            denoiser,
            splits,
            examples.tasks,
            tokenizers.text,
            seed=seed,
            num_sequences=suite.num_sequences,
            num_masks=suite.num_masks,
            slack=slack or SpanSlack(),
            text_window=examples.text_window,
            report=report,
        ),
        **card.pictures(),
        "speech": card.speech(),
        **card.text(splits[examples.held_out].get(examples.passages)),
    }
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


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Scorecard:
    """What all parts of one scorecard share."""

    generator: Generator
    denoiser: Denoiser
    tokenizers: Tokenizers
    examples: Examples
    suite: Suite
    judges: Panel
    seed: int
    report: Report

    def pictures(self) -> dict[str, Any]:
        """Images from captions and captions from images, for seen captions, held-out compositions and unseen
        ones.
        """
        found: dict[str, dict[str, Any]] = {
            "images": {"measure": MEASURE},
            "image_distances": {},
            "caption_agreement": {},
            "captions": {},
        }
        if not (self._is_trained(Task.TEXT_TO_IMAGE) or self._is_trained(Task.IMAGE_TO_TEXT)):
            return found
        count = max(self.suite.num_references, self.suite.num_sequences)
        rows = {split: self.examples.pictures(split, count) for split in self.examples.splits()}
        rows = {split: here for split, here in rows.items() if here}
        for split, here in rows.items():
            chosen = self._choose(here, self.suite.num_sequences, "images", split)
            if self._is_trained(Task.IMAGE_TO_TEXT):
                self.report(f"captions: {_NAMES[split]}")
                found["captions"][_NAMES[split]] = self._captions(chosen, rows.get("train", here))
        if self._is_trained(Task.TEXT_TO_IMAGE):
            self._images(rows, found)
        return found

    def _images(self, rows: Mapping[str, Sequence[Picture]], found: dict[str, dict[str, Any]]) -> None:
        features = {split: gallery_features(here) for split, here in rows.items()}
        references = {split: self._reference(here) for split, here in rows.items()}
        for split, here in rows.items():
            name = _NAMES[split]
            chosen = self._choose(here, self.suite.num_sequences, "images", split)
            self.report(f"images: {name}")
            made = make_pictures(self.generator, self.tokenizers.image, chosen, seed=self.seed)
            # A composition is looked for among all that was seen too: its own concept in other tones stands
            # there.
            beside = ["train", split] if split == "composition" else [split]
            gallery = [row for each in beside for row in rows[each]]
            stacked = np.concatenate([features[each] for each in beside])
            found["images"][name] = image_scores(made, gallery, stacked, seed=self.seed)
            self.report(f"sets of images: {name}")
            distances = set_distances(made, references[split], seed=self.seed)
            known = list(dict.fromkeys(row.caption for row in gallery))
            training = references.get("train", references[split])
            agreement = caption_agreement(made, known, training, seed=self.seed)
            found["image_distances"] |= {name: distances} if distances else {}
            found["caption_agreement"] |= {name: agreement} if agreement else {}

    def speech(self) -> dict[str, Any]:
        """Readings said and written down, of the training split and of unseen ones."""
        result: dict[str, Any] = {"transcripts": {}, "generated": {}}
        says, writes = self._is_trained(Task.TEXT_TO_SPEECH), self._is_trained(Task.SPEECH_TO_TEXT)
        count = max(self.suite.num_clips, self.suite.num_sequences)
        for split in self.examples.splits() if says or writes else ():
            name = _NAMES[split]
            chosen = self._choose(self.examples.recordings(split, count), count, "speech", split)
            if not chosen:
                continue
            self.report(f"speech: {name} sentences")
            if writes:
                clips = chosen[: self.suite.num_sequences]
                result["transcripts"][name] = transcript_scores(self.generator, clips, seed=self.seed)
            if says:
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

    def text(self, held_out: ExampleSource | None) -> dict[str, Any]:
        """Sampled passages beside held-out ones, and which continuation of a held-out passage is the true
        one.
        """
        if held_out is None or not self._is_trained(Task.TEXT):
            return {"text": None, "continuation": None}
        self.report("text passages")
        text, window = self.tokenizers.text, self.examples.text_window
        language_model = self.judges.language_model
        judge = None if language_model is None else language_model.load()
        passages = text_scores(
            self.generator,
            text,
            self.examples.texts(held_out, self.suite.num_sequences),
            self.examples.training_words(),
            seed=self.seed,
            count=self.suite.num_passages,
            judge=judge,
        )
        self.report("continuations")
        questions = choices(held_out, text, window=window, count=self.suite.num_choices, seed=self.seed)
        scorer = ContinuationScorer(
            denoiser=self.denoiser,
            text=text,
            seed=self.seed,
            num_masks=self.suite.num_masks,
            text_window=window,
        )
        return {"text": passages, "continuation": choice_scores(scorer, questions, judge, seed=self.seed)}

    def _is_trained(self, task: Task) -> bool:
        return any(task is trained for _, trained in self.examples.tasks)

    def _choose(self, rows: Sequence, count: int, *names: str) -> list:
        order = rng.generator(self.seed, "scorecard", *names).permutation(len(rows))
        return [rows[i] for i in order[:count].tolist()]

    def _reference(self, rows: Sequence[Picture]) -> Reference:
        return Reference.draw(rows, self.judges, seed=self.seed, count=self.suite.num_references)

    def _captions(self, chosen: Sequence[Picture], training: Sequence[Picture]) -> dict[str, Any] | None:
        candidates = list(dict.fromkeys(row.caption for row in training))[:200]
        return caption_scores(self.generator, chosen, candidates, seed=self.seed)
