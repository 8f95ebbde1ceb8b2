"""The quality of what a sampler generates, prompt by prompt, so that samplers can be compared in pairs.

The scorecard says how good a model is; this says which of two samplers is better for the same model.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeVar, final

import numpy as np
from jaxtyping import Float64

from trimask import rng
from trimask.errors import UserError
from trimask.evaluation import text as words
from trimask.evaluation.image import lab_features, ranks
from trimask.evaluation.judges.languages import DEFAULT
from trimask.evaluation.judges.panel import Panel
from trimask.evaluation.speech import edit_distance
from trimask.evaluation.words import normalize_pair, normalize_words, split_characters
from trimask.generation.generate import Generator
from trimask.generation.generated import Generated
from trimask.media.encoded import Picture, Recording
from trimask.media.recording import resample
from trimask.scorecard.examples import Examples, image_input, speech_input
from trimask.scorecard.images import gallery_features
from trimask.scorecard.text import ignore_length_warnings

Part = Literal["tuning", "check"]
"""Prompts to choose settings on, and others to check them on."""
_RATE = 16_000  # Hz, of the recognizer
_GALLERY = 1000  # pictures of a split, to find the own one among
_BATCH = 16
_MOST_EMPTY = 0.1  # share of results without content from which settings are said to flood [D]
_LEAST_LENGTH = 0.5  # of the mean number of words of held-out text [D]
_LEAST_VARIETY = 0.95  # of the share of distinct pairs of words in held-out text [D]
_Row = TypeVar("_Row")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What to generate, and with what it is judged.

    Attributes:
        generator: has the sampler as the settings of the task.
        number: prompts of the part, in equal shares from all splits.
        seconds: CPU time of each call that generated.
    """

    generator: Generator
    examples: Examples
    judges: Panel
    part: Part
    number: int
    seed: int
    seconds: list[float] = field(default_factory=list)

    def generate(self, task: str, **inputs: Any) -> list[Generated]:
        """Generate with the sampler that is judged; spans that do not end are counted, not warned of."""
        began = time.process_time()
        with ignore_length_warnings():
            results = self.generator.generate_many(task, seed=self.seed, batch_size=_BATCH, **inputs)
        self.seconds.append(time.process_time() - began)
        return results

    def choose(self, rows: Mapping[str, Sequence[_Row]]) -> list[_Row]:
        """Choose rows of the part from each split; the two parts have no row in common."""
        share, found = max(self.number // len(rows), 1), []
        for split, all_of_it in rows.items():
            order = rng.generator(self.seed, "quality", split).permutation(len(all_of_it)).tolist()
            share_here = min(share, len(order) // 2)
            start = 0 if self.part == "tuning" else share_here
            found += [all_of_it[i] for i in order[start : start + share_here]]
        if len(found) < 2:
            raise UserError(
                f"the data has {sum(map(len, rows.values()))} examples, too few to judge on: leave the task "
                "out of the study"
            )
        return found

    def pictures(self) -> Mapping[str, Sequence[Picture]]:
        return {split: self.examples.pictures(split, _GALLERY) for split in self.examples.splits()}

    def recordings(self) -> Mapping[str, Sequence[Recording]]:
        found = {split: self.examples.recordings(split, 4 * self.number) for split in self.examples.splits()}
        return {split: rows for split, rows in found.items() if len(rows) > 1}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Errors of results; the quality of a sampler is Σ errors / Σ units, lower is better.

    Attributes:
        figures: further figures of the whole set.
    """

    errors: Float64[np.ndarray, "prompts"]
    units: Float64[np.ndarray, "prompts"]
    figures: Mapping[str, float] = field(default_factory=dict)


class Quality(ABC):
    """What the errors of a task's results are.

    Attributes:
        judge: the role of the outside model that it needs, if any.
        unit: what the quotient of errors and units is called.
    """

    __slots__ = ()

    judge: ClassVar[str | None] = None
    unit: ClassVar[str]

    @abstractmethod
    def measure(self, asked: Asked) -> Judged:
        """Generate, and count errors."""

    def is_sound(self, figures: Mapping[str, float]) -> bool:
        """Whether a sampler with these figures may be chosen at all: one that empties its results may not."""
        return figures.get("empty", 0.0) <= _MOST_EMPTY


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class OwnPictureNearest(Quality):
    """The share of other pictures that are nearer to a generated one than that of its caption."""

    unit: ClassVar[str] = "share of other pictures that are nearer than the own"

    def measure(self, asked: Asked) -> Judged:
        pictures = asked.pictures()
        chosen = asked.choose(pictures)
        gallery = [row for rows in pictures.values() for row in rows]
        place = {row.key: number for number, row in enumerate(gallery)}
        results = asked.generate("text_to_image", prompt=[row.caption for row in chosen])
        made = np.stack([np.asarray(each.image.convert("RGB")) for each in results if each.image is not None])
        rank = ranks(lab_features(made), gallery_features(gallery), [place[row.key] for row in chosen])
        errors = (rank - 1) / (len(gallery) - 1)
        nearest = float(np.mean(rank < 1.5))
        return Judged(errors=errors, units=np.ones(len(rank)), figures={"nearest": nearest, **_ends(results)})


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionWords(Quality):
    """1 - F1 of the words of a picture's caption."""

    unit: ClassVar[str] = "1 - word F1"

    def measure(self, asked: Asked) -> Judged:
        chosen = asked.choose(asked.pictures())
        results = asked.generate("image_to_text", image=[image_input(row) for row in chosen])
        pairs = zip(chosen, results, strict=True)
        f1 = np.array([words.word_f1(row.caption, result.text or "") for row, result in pairs])
        return Judged(errors=1 - f1, units=np.ones(len(f1)), figures=_ends(results))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriptCharacters(Quality):
    """Wrong characters of the transcripts of recordings."""

    unit: ClassVar[str] = "wrong characters per character"

    def measure(self, asked: Asked) -> Judged:
        codec = asked.generator.codecs.speech
        assert codec is not None
        chosen = asked.choose(asked.recordings())
        clips = [speech_input(row, codec.sample_rate) for row in chosen]
        results = asked.generate("speech_to_text", speech=clips)
        true, given = [row.text for row in chosen], [result.text or "" for result in results]
        return _count_errors(true, given, _ends(results), by_character=True)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SpokenWords(Quality):
    """Words that a recognizer hears wrong in generated speech, of a clip at most as many as it has: a
    recognizer that repeats itself says no more of the clip than one that hears nothing right.
    """

    judge: ClassVar[str | None] = "recognizer"
    unit: ClassVar[str] = "wrong words per word"

    def measure(self, asked: Asked) -> Judged:
        recognizer = asked.judges.recognizer
        assert recognizer is not None
        chosen = asked.choose(asked.recordings())
        results: dict[int, Generated] = {}
        for voice in dict.fromkeys(row.voice for row in chosen):
            here = [number for number, row in enumerate(chosen) if row.voice == voice]
            texts = [chosen[number].text for number in here]
            results |= zip(here, asked.generate("text_to_speech", prompt=texts, voice=voice), strict=True)
        made = [results[number] for number in range(len(chosen))]
        clips = [
            resample(np.asarray(each.waveform, dtype=np.float32), each.sample_rate or _RATE, _RATE)
            for each in made
        ]
        heard = recognizer.transcribe(clips, _RATE, [row.language or DEFAULT for row in chosen])
        judged = _count_errors([row.text for row in chosen], heard, _ends(made), by_character=False)
        return replace(judged, errors=np.minimum(judged.errors, judged.units))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PassagePerplexity(Quality):
    """Nats of passages under an outside language model. Repetitive text has low values, so a sampler must
    keep the share of distinct pairs of words that held-out text has, and half of its length.
    """

    judge: ClassVar[str | None] = "language_model"
    unit: ClassVar[str] = "nats per token of an outside language model"

    def measure(self, asked: Asked) -> Judged:
        judge = asked.judges.language_model
        assert judge is not None
        held_out = asked.examples.sources(asked.examples.held_out)[asked.examples.passages]
        real = asked.examples.texts(held_out, asked.number)
        start = 0 if asked.part == "tuning" else asked.number
        numbers = range(start, start + asked.number)
        results = asked.generate("text", num_samples=asked.number, numbers=numbers)
        texts = [result.text or "" for result in results]
        loaded = judge.load()
        scored = [loaded.nats("", text) if len(normalize_words(text)) > 1 else (0.0, 0) for text in texts]
        samples, passages = words.cut_to_equal_length(texts, real)
        return Judged(
            errors=np.array([nats for nats, _ in scored]),
            units=np.array([float(tokens) for _, tokens in scored]),
            figures={
                **_ends(results),
                "words": float(np.mean([len(normalize_words(text)) for text in texts])),
                "words_of_held_out_text": float(np.mean([len(normalize_words(text)) for text in real])),
                "distinct_2": words.distinct(samples, 2),
                "distinct_2_of_held_out_text": words.distinct(passages, 2),
                "unigram_entropy": words.unigram_entropy(samples),
                "unigram_entropy_of_held_out_text": words.unigram_entropy(passages),
            },
        )

    def is_sound(self, figures: Mapping[str, float]) -> bool:
        least = _LEAST_VARIETY * figures["distinct_2_of_held_out_text"]
        if figures["words"] < _LEAST_LENGTH * figures["words_of_held_out_text"]:
            return False
        # Not `super()`: slots make the class anew, and the old one is no parent of it.
        return Quality.is_sound(self, figures) and figures["distinct_2"] >= least


QUALITIES: Mapping[str, Quality] = {
    "text": PassagePerplexity(),
    "text_to_image": OwnPictureNearest(),
    "image_to_text": CaptionWords(),
    "text_to_speech": SpokenWords(),
    "speech_to_text": TranscriptCharacters(),
}
"""By task, of those that have one."""


def _count_errors(
    true: Sequence[str], given: Sequence[str], figures: Mapping[str, float], *, by_character: bool
) -> Judged:
    errors, units = [], []
    for reference, hypothesis in zip(true, given, strict=True):
        wanted, got = normalize_pair(reference, hypothesis)
        if by_character:
            wanted, got = split_characters(wanted), split_characters(got)
        errors.append(float(edit_distance(wanted, got)))
        units.append(float(len(wanted)))
    return Judged(errors=np.array(errors), units=np.array(units), figures=figures)


def _ends(results: Sequence[Generated]) -> dict[str, float]:
    """Return the shares of results that end within their span, and of those without content."""
    empty = [not any(len(codes) for codes in result.codes.values()) for result in results]
    return {
        "complete": float(np.mean([result.is_complete for result in results])),
        "empty": float(np.mean(empty)),
    }
