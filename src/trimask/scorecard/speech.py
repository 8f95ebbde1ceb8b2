"""Score speech: generated readings beside real ones, and the model's transcripts of real recordings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Float32

from trimask import rng
from trimask.estimate import mean, proportion, ratio
from trimask.evaluation import text as words
from trimask.evaluation.judges.languages import DEFAULT
from trimask.evaluation.judges.panel import Panel
from trimask.evaluation.judges.quality import QualityJudge
from trimask.evaluation.judges.speaker import SpeakerJudge
from trimask.evaluation.spectral import MEASURE, mel_cepstral_distance
from trimask.evaluation.speech import word_error_rate
from trimask.evaluation.words import unit_of
from trimask.generation.generate import Generator
from trimask.generation.generated import Generated
from trimask.media.encoded import Recording, waveform_at
from trimask.media.recording import resample
from trimask.scorecard.examples import DecodedRecording, speech_input
from trimask.scorecard.sections import Sections
from trimask.scorecard.text import ignore_length_warnings
from trimask.vocabulary.tokenizer import SpeechCodec

Clips = list[Float32[np.ndarray, "_"]]
_RATE = 16_000  # Hz, of the judges


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Readings:
    """Recordings of the same sentences, all at the judges' sample rate.

    Attributes:
        teacher: the real recordings; if only codes were kept (`DecodedRecording`), what they decode to, the
            same as `round_trip`.
        round_trip: the real recordings after encoding and decoding.
        generated: the model's.
        noise: noise of the length and loudness of the real recordings.
    """

    chosen: Sequence[Recording]
    teacher: Clips
    round_trip: Clips
    generated: Clips
    noise: Clips

    @property
    def ceilings(self) -> Mapping[str, Clips]:
        """The ceilings by their names in scores; `teacher` is left out if it equals the round trip."""
        found = {"round_trip": self.round_trip}
        return found if self.is_decoded else {"teacher": self.teacher, **found}

    @property
    def is_decoded(self) -> bool:
        """Whether the real recordings are decoded codes."""
        return self.teacher is self.round_trip


def score_transcripts(
    generator: Generator, chosen: Sequence[Recording], *, seed: int
) -> dict[str, Any] | None:
    """Score the character error rate of the model's transcripts of real clips.

    Floor: the same transcripts shuffled among the clips. None for fewer than two clips.
    """
    if len(chosen) < 2:
        return None
    with ignore_length_warnings():
        codec = generator.codecs.speech
        assert codec is not None
        clips = [speech_input(row, codec.sample_rate) for row in chosen]
        results = generator.generate_many("speech_to_text", speech=clips, seed=seed, batch_size=16)
    given, true = [result.text or "" for result in results], [row.text for row in chosen]
    other = [given[j] for j in words.derangement(len(given), seed)]
    return {
        "character_error_rate": words.character_error_rate(true, given).as_json(),
        "floor_shuffled": words.character_error_rate(true, other).as_json(),
        "complete": proportion([result.is_complete for result in results]).as_json(),
    }


def speak(generator: Generator, rows: Sequence[Recording], *, seed: int) -> list[Generated]:
    """Generate speech for the text of each utterance, in its voice."""
    spoken: dict[int, Generated] = {}
    for voice in dict.fromkeys(row.voice for row in rows):
        here = [i for i, row in enumerate(rows) if row.voice == voice]
        with ignore_length_warnings():
            results = generator.generate_many(
                "text_to_speech", [rows[i].text for i in here], voice=voice, seed=seed, batch_size=16
            )
        spoken.update(zip(here, results, strict=True))
    return [spoken[i] for i in range(len(rows))]


def score_speech(
    generator: Generator,
    codec: SpeechCodec,
    chosen: Sequence[Recording],
    *,
    seed: int,
    judges: Panel,
    language: str | None,
    sections: Sections,
    name: str,
) -> dict[str, Any] | None:
    """Score generated speech: length and spectrum, and with judges word errors, voice and quality.

    Ceilings: the real recordings and the codec's round trip. A judge that fails is recorded in `sections`.
    None for fewer than two clips.

    Args:
        language: language of all recordings, in place of their own.
    """
    if len(chosen) < 2:
        return None
    results = speak(generator, chosen, seed=seed)
    readings = _readings(chosen, [_waveform(result) for result in results], codec, seed=seed)
    sizes, true_sizes = (
        np.array([len(clip) for clip in clips]) * 1.0 for clips in (readings.generated, readings.teacher)
    )
    scores: dict[str, Any] = {
        "duration_ratio": ratio(sizes, true_sizes).as_json(),
        "complete": proportion([result.is_complete for result in results]).as_json(),
        "mel_cepstral_distance": _spectral(readings, seed=seed),
    }
    if judges.recognizer is not None:
        with sections.part(f"word error rates: {name}"):
            languages = [language or row.language or DEFAULT for row in chosen]
            recordings = {**readings.ceilings, "generated": readings.generated}
            sections.report(f"transcribing speech: {', '.join(recordings)}")
            transcripts = {
                kind: judges.recognizer.transcribe(clips, _RATE, languages)
                for kind, clips in recordings.items()
            }
            scores |= _error_rates([row.text for row in chosen], transcripts, seed=seed)
            is_assumed = language is None and not all(row.language for row in chosen)
            scores["languages"] = sorted(set(languages))
            scores["language_is_assumed"] = is_assumed
    if judges.speaker is not None:
        with sections.part(f"speaker similarity: {name}"):
            scores["speaker_similarity"] = _similarities(readings, judges.speaker)
    if judges.quality is not None:
        with sections.part(f"speech quality: {name}"):
            scores["quality"] = _qualities(readings, judges.quality)
    return scores


def _qualities(readings: Readings, judge: QualityJudge) -> dict[str, Any]:
    compared = {"generated": readings.generated, "noise": readings.noise, **readings.ceilings}
    return {"judge": judge.name} | {
        name: mean(judge.scores(clips, _RATE)).as_json() for name, clips in compared.items()
    }


@torch.inference_mode()
def _readings(chosen: Sequence[Recording], generated: Clips, codec: SpeechCodec, *, seed: int) -> Readings:
    rate = codec.sample_rate
    teacher = [waveform_at(row, _RATE) for row in chosen]
    if all(isinstance(row, DecodedRecording) for row in chosen):
        round_trip = teacher
    else:
        originals = [torch.from_numpy(waveform_at(row, rate)) for row in chosen]
        trips = [codec.decode(codec.encode(clip)).float().numpy() for clip in originals]
        round_trip = [resample(clip, rate, _RATE) for clip in trips]
    draw = rng.generator(seed, "scorecard", "noise", "speech")
    noise = [
        (draw.standard_normal(len(clip)) * np.sqrt(np.mean(clip**2))).astype(np.float32) for clip in teacher
    ]
    return Readings(
        chosen=chosen,
        teacher=teacher,
        round_trip=round_trip,
        generated=[resample(clip, rate, _RATE) for clip in generated],
        noise=noise,
    )


def _spectral(readings: Readings, *, seed: int) -> dict[str, Any]:
    """Measure distances to the real recordings. Floors: noise, and recordings of other sentences."""
    order = words.derangement(len(readings.teacher), seed)
    compared = {
        "generated": readings.generated,
        "noise": readings.noise,
        "shuffled": [readings.teacher[j] for j in order],
    }
    if not readings.is_decoded:
        compared["round_trip"] = readings.round_trip
    found: dict[str, Any] = {"measure": MEASURE}
    for name, clips in compared.items():
        pairs = zip(readings.teacher, clips, strict=True)
        found[name] = mean([mel_cepstral_distance(real, clip, _RATE) for real, clip in pairs]).as_json()
    return found


def _error_rates(texts: list[str], words_of: Mapping[str, list[str]], *, seed: int) -> dict[str, Any]:
    order = words.derangement(len(texts), seed)
    scores: dict[str, Any] = {"unit": unit_of(texts)}
    best = next(iter(words_of.values()))
    for name, hypotheses in {**words_of, "shuffled": [best[j] for j in order]}.items():
        scores[f"{name}_word_error_rate"] = word_error_rate(texts, hypotheses).as_json()
        scores[f"{name}_character_error_rate"] = words.character_error_rate(texts, hypotheses).as_json()
    return scores


def _similarities(readings: Readings, judge: SpeakerJudge) -> dict[str, Any]:
    """Measure mean cosines with the real recordings.

    Ceilings: their round trip, and other recordings of the same voice. Floors: other voices, and noise.
    """
    voices = [row.voice for row in readings.chosen]
    own = judge.vectors(readings.teacher, _RATE)
    compared = {"generated": readings.generated, "noise": readings.noise}
    if not readings.is_decoded:
        compared["round_trip"] = readings.round_trip
    found: dict[str, Any] = {"judge": judge.name}
    for name, clips in compared.items():
        found[name] = mean((judge.vectors(clips, _RATE) * own).sum(1)).as_json()
    for name, is_same in (("same_voice", True), ("other_voice", False)):
        cosines = _with_another(own, voices, is_same=is_same)
        if len(cosines):
            found[name] = mean(cosines).as_json()
    return found


def _with_another(
    vectors: Float[np.ndarray, "n d"], voices: Sequence[str], *, is_same: bool
) -> Float[np.ndarray, "m"]:
    """Compute the cosine of each clip with the next clip of the same voice, or of another voice."""
    found = []
    for i, voice in enumerate(voices):
        rest = [(i + step) % len(voices) for step in range(1, len(voices))]
        partner = next((j for j in rest if (voices[j] == voice) == is_same), None)
        if partner is not None:
            found.append(float(vectors[i] @ vectors[partner]))
    return np.array(found)


def _waveform(result: Generated) -> Float32[np.ndarray, "samples"]:
    assert result.waveform is not None
    return np.asarray(result.waveform, dtype=np.float32)
