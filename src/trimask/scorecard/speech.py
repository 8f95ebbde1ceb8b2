"""The scorecard's speech: generated readings beside the reader's own, and the model's own transcripts."""

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
from trimask.media.encoded import Recording, waveform_at
from trimask.media.recording import resample
from trimask.sampling.generate import Generated, Generator
from trimask.scorecard.examples import DecodedRecording, speech_input
from trimask.scorecard.sections import Sections
from trimask.scorecard.text import ignore_length_warnings
from trimask.vocabulary.tokenizer import SpeechCodec

Clips = list[Float32[np.ndarray, "_"]]
_RATE = 16_000  # Hz, of the judges


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Readings:
    """The same sentences by the reader (`teacher`), after the codec's round trip, by the model, and noise as
    long and as loud as the reader; all at the judges' rate. Where only codes were kept (`DecodedRecording`),
    the reader's clip is what they decode to, which is the round trip.
    """

    chosen: Sequence[Recording]
    teacher: Clips
    round_trip: Clips
    generated: Clips
    noise: Clips

    @property
    def ceilings(self) -> Mapping[str, Clips]:
        """By the names that scores have; the teacher is left out where it is the round trip."""
        found = {"round_trip": self.round_trip}
        return found if self.is_decoded else {"teacher": self.teacher, **found}

    @property
    def is_decoded(self) -> bool:
        return self.teacher is self.round_trip


def score_transcripts(
    generator: Generator, chosen: Sequence[Recording], *, seed: int
) -> dict[str, Any] | None:
    """Character error rate of the model's own transcripts of real clips; floor: the same transcripts
    shuffled among clips.
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
    """What the model says for the text of each utterance, in the voice of the utterance."""
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
    """Length and spectrum of generated speech beside the real reading's; with judges, what is understood of
    it, whose voice it is, and how good it sounds; a judge that fails is set aside. Ceilings: the teacher and
    the codec's round trip. `language`: of all recordings, whatever they say of themselves.
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
            spoken = [language or row.language or DEFAULT for row in chosen]
            listened = {**readings.ceilings, "generated": readings.generated}
            sections.report(f"the recognizer listens: {', '.join(listened)}")
            written = {kind: judges.recognizer.hear(clips, _RATE, spoken) for kind, clips in listened.items()}
            scores |= _error_rates([row.text for row in chosen], written, seed=seed)
            is_assumed = language is None and not all(row.language for row in chosen)
            scores["languages"] = sorted(set(spoken))
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
    """Distance to the reader's own clip. Floors: noise, and another sentence's clip (shuffled)."""
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
    """Mean cosine with the reader's own clip. Ceilings: its round trip, and another clip of the same voice;
    floors: another voice's clip, and noise.
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
    """Cosine of each clip with the next clip of the same voice, or of another one."""
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
