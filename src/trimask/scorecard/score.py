"""Compute the scorecard of a model: every modality beside its floors and ceilings, as plain JSON."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, final

from trimask import rng
from trimask.config import to_dict
from trimask.data.source import ExampleSource
from trimask.data.stream import SpanSlack
from trimask.devices import describe
from trimask.errors import UserError
from trimask.evaluation.continuation import ContinuationScorer
from trimask.evaluation.image import MEASURE
from trimask.evaluation.judges.panel import Panel
from trimask.generation.generate import Generator
from trimask.media.encoded import Picture
from trimask.model.denoiser import Denoiser
from trimask.sampling.predictor import DenoiserPredictor
from trimask.scorecard.examples import Examples
from trimask.scorecard.images import (
    Reference,
    gallery_features,
    make_pictures,
    measure_caption_agreement,
    measure_set_distances,
    score_images,
)
from trimask.scorecard.likelihood import measure_likelihood
from trimask.scorecard.sections import Report, Save, Sections
from trimask.scorecard.speech import score_speech, score_transcripts
from trimask.scorecard.suite import QUICK, Suite
from trimask.scorecard.text import make_choices, score_captions, score_choices, score_text
from trimask.tokenizers.bundle import Tokenizers

_Row = TypeVar("_Row")

_NAMES = {"train": "seen", "composition": "composition", "validation": "unseen", "test": "unseen"}


def score(
    generator: Generator,
    examples: Examples,
    *,
    suite: Suite = QUICK,
    judges: Panel | None = None,
    language: str | None = None,
    seed: int = 0,
    slack: SpanSlack | None = None,
    report: Report = lambda message: None,
    warn: Report = lambda message: None,
    save: Save = lambda scores: None,
) -> dict[str, Any]:
    """Score a model on `examples`: plain JSON, each score with n, a 95 % interval, floors and ceilings.

    Args:
        judges: outside models; scores without their judge are listed under `left_out`.
        language: language of all recordings, in place of that of the data.
        warn: called with a message for each part that fails; failed parts are listed under `failed`, and the
            others continue.
        save: called after each part with the scores so far.

    Raises:
        UserError: the model lacks one of the three tokenizers.
    """
    began = time.monotonic()
    tokenizers, denoiser = tokenizers_of(generator), denoiser_of(generator)
    splits = {split: examples.sources(split) for split in examples.splits()}
    panel = judges or Panel()
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
        "sampler": {task: to_dict(config) for task, config in generator.samplers.items()},
        "judges": panel.as_json(),
        "left_out": panel.list_left_out() + examples.list_left_out(),
        "likelihood": [],
        "images": {"measure": MEASURE},
        "image_distances": {},
        "caption_agreement": {},
        "captions": {},
        "speech": {"transcripts": {}, "generated": {}},
        "text": None,
        "continuation": None,
    }
    card = _Scorecard(
        generator=generator,
        denoiser=denoiser,
        tokenizers=tokenizers,
        examples=examples,
        suite=suite,
        judges=panel,
        language=language,
        seed=seed,
        sections=Sections(result, save=save, report=report, warn=warn),
    )
    card.likelihood(splits, slack or SpanSlack())
    card.pictures()
    card.speech()
    card.text(splits[examples.held_out].get(examples.passages))
    result["seconds"] = time.monotonic() - began
    return result


def tokenizers_of(generator: Generator) -> Tokenizers:
    """Return the tokenizers that a generator was loaded with.

    Raises:
        UserError: one of the three is missing.
    """
    text, image, speech = generator.codecs.text, generator.codecs.image, generator.codecs.speech
    if text is None or image is None or speech is None:
        raise UserError("this model was loaded without all of its tokenizers: load it with trimask.load")
    return Tokenizers(text=text, image=image, speech=speech)


def denoiser_of(generator: Generator) -> Denoiser:
    """Return the network that a generator samples from.

    Raises:
        UserError: its predictor is not a denoiser, and gives no likelihoods.
    """
    predictor = generator.predictor
    if not isinstance(predictor, DenoiserPredictor):
        raise UserError(f"{type(predictor).__name__} gives no likelihoods: give a generator over a denoiser")
    return predictor.denoiser


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Scorecard:
    """Computes the parts of one scorecard."""

    generator: Generator
    denoiser: Denoiser
    tokenizers: Tokenizers
    examples: Examples
    suite: Suite
    judges: Panel
    language: str | None
    seed: int
    sections: Sections

    @property
    def scores(self) -> dict[str, Any]:
        return self.sections.scores

    def likelihood(self, splits: Mapping[str, Mapping[str, ExampleSource]], slack: SpanSlack) -> None:
        """Score the NELBO of each task and split."""
        for name, task in self.examples.tasks:
            with self.sections.part(f"likelihood: {task} ({name})"):
                self.scores["likelihood"] += measure_likelihood(
                    self.denoiser,
                    splits,
                    name,
                    task,
                    self.tokenizers.text,
                    seed=self.seed,
                    num_sequences=self.suite.num_sequences,
                    num_masks=self.suite.num_masks,
                    slack=slack,
                    text_window=self.examples.text_window,
                    report=self.sections.report,
                )

    def pictures(self) -> None:
        """Score images from captions and captions from images: seen, held-out compositions, and unseen."""
        if not (self._is_trained("text_to_image") or self._is_trained("image_to_text")):
            return
        count = max(self.suite.num_references, self.suite.num_sequences)
        rows: dict[str, Sequence[Picture]] = {}
        for split in self.examples.splits():
            with self.sections.part(f"real pictures: {_NAMES[split]}"):
                here = self.examples.pictures(split, count)
                rows |= {split: here} if here else {}
        if self._is_trained("image_to_text"):
            for split, here in rows.items():
                chosen = self._choose(here, self.suite.num_sequences, "images", split)
                with self.sections.part(f"captions: {_NAMES[split]}"):
                    found = self._captions(chosen, rows.get("train", here))
                    self.scores["captions"][_NAMES[split]] = found
        if self._is_trained("text_to_image"):
            references = {split: self._reference(here) for split, here in rows.items()}
            for split in rows:
                self._images(split, rows, references)

    def _images(
        self, split: str, rows: Mapping[str, Sequence[Picture]], references: Mapping[str, Reference]
    ) -> None:
        name, made = _NAMES[split], None
        chosen = self._choose(rows[split], self.suite.num_sequences, "images", split)
        # Compositions are searched for among the seen pictures too, which have their concepts in other tones.
        beside = ["train", split] if split == "composition" and "train" in rows else [split]
        gallery = [row for each in beside for row in rows[each]]
        with self.sections.part(f"images: {name}"):
            made = make_pictures(self.generator, self.tokenizers.image, chosen, seed=self.seed)
            found = score_images(made, gallery, gallery_features(gallery), seed=self.seed)
            self.scores["images"][name] = found
        if made is None:
            return
        with self.sections.part(f"sets of images: {name}"):
            distances = measure_set_distances(made, references[split], seed=self.seed)
            self.scores["image_distances"] |= {name: distances} if distances else {}
        with self.sections.part(f"caption agreement: {name}"):
            known = list(dict.fromkeys(row.caption for row in gallery))
            training = references.get("train", references[split])
            agreement = measure_caption_agreement(made, known, training, seed=self.seed)
            self.scores["caption_agreement"] |= {name: agreement} if agreement else {}

    def speech(self) -> None:
        """Score generated speech and transcripts, of seen and unseen recordings."""
        says, writes = self._is_trained("text_to_speech"), self._is_trained("speech_to_text")
        scores, recognizer = self.scores["speech"], self.judges.recognizer
        scores["judge"] = "not judged: give --judges" if recognizer is None else recognizer.name
        count = max(self.suite.num_clips, self.suite.num_sequences)
        for split in self.examples.splits() if says or writes else ():
            name, chosen = _NAMES[split], []
            with self.sections.part(f"real recordings: {name}"):
                chosen = self._choose(self.examples.recordings(split, count), count, "speech", split)
            if not chosen:
                continue
            if writes:
                clips = chosen[: self.suite.num_sequences]
                with self.sections.part(f"transcripts: {name}"):
                    scores["transcripts"][name] = score_transcripts(self.generator, clips, seed=self.seed)
            if says:
                with self.sections.part(f"speech: {name} sentences"):
                    scores["generated"][name] = score_speech(
                        self.generator,
                        self.tokenizers.speech,
                        chosen[: self.suite.num_clips],
                        seed=self.seed,
                        judges=self.judges,
                        language=self.language,
                        sections=self.sections,
                        name=name,
                    )

    def text(self, held_out: ExampleSource | None) -> None:
        """Score sampled passages beside held-out ones, and the choice of the true continuation."""
        if held_out is None or not self._is_trained("text"):
            return
        text, window, judge = self.tokenizers.text, self.examples.text_window, None
        if self.judges.language_model is not None:
            with self.sections.part("the outside language model"):
                judge = self.judges.language_model.load()
        with self.sections.part("text passages"):
            self.scores["text"] = score_text(
                self.generator,
                text,
                self.examples.texts(held_out, self.suite.num_sequences),
                self.examples.training_words(),
                seed=self.seed,
                count=self.suite.num_passages,
                judge=judge,
            )
        with self.sections.part("continuations"):
            questions = make_choices(
                held_out, text, window=window, count=self.suite.num_choices, seed=self.seed
            )
            scorer = ContinuationScorer(
                denoiser=self.denoiser,
                text=text,
                seed=self.seed,
                num_masks=self.suite.num_masks,
                text_window=window,
            )
            self.scores["continuation"] = score_choices(scorer, questions, judge, seed=self.seed)

    def _is_trained(self, task: str) -> bool:
        return any(task == trained for _, trained in self.examples.tasks)

    def _choose(self, rows: Sequence[_Row], count: int, *names: str) -> list[_Row]:
        order = rng.generator(self.seed, "scorecard", *names).permutation(len(rows))
        return [rows[i] for i in order[:count].tolist()]

    def _reference(self, rows: Sequence[Picture]) -> Reference:
        return Reference.draw(rows, self.judges, seed=self.seed, count=self.suite.num_references)

    def _captions(self, chosen: Sequence[Picture], training: Sequence[Picture]) -> dict[str, Any] | None:
        candidates = list(dict.fromkeys(row.caption for row in training))[:200]
        return score_captions(self.generator, chosen, candidates, seed=self.seed)
