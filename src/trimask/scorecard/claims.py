"""Check a scorecard against bounds that a model which has learned meets and a broken one cannot."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# Bits per token that the right condition must save; a model that ignores its condition saves none.
_GAIN = {"text_to_image": 0.2, "image_to_text": 0.05, "text_to_speech": 0.05, "speech_to_text": 0.05}
_TIMES_CHANCE = 20
_UNCLAIMED = ("joint", "triple")


class Claim(NamedTuple):
    """A value compared with a bound; `name` says on which side of it the value must be.

    It passes if the whole 95 % interval is on that side; a value without an interval does not pass.
    """

    name: str
    value: float
    bound: float
    passed: bool


def check_claims(scores: Mapping[str, Any]) -> list[Claim]:
    """Check the bounds on a scorecard that `score` made; bounds on missing scores are left out."""
    return [
        *_likelihood(scores.get("likelihood", [])),
        *_images(scores.get("images", {})),
        *_captions(scores.get("captions", {}).get("seen")),
        *_speech(scores.get("speech", {})),
        *_text(scores.get("text")),
    ]


def _above(name: str, estimate: Mapping[str, float], bound: float) -> Claim:
    return Claim(
        f"{name} above {bound:.3g}", estimate["value"], bound, estimate.get("low", -math.inf) > bound
    )


def _below(name: str, estimate: Mapping[str, float], bound: float) -> Claim:
    return Claim(
        f"{name} below {bound:.3g}", estimate["value"], bound, estimate.get("high", math.inf) < bound
    )


def _likelihood(rows: list[Mapping[str, Any]]) -> Iterator[Claim]:
    for row in rows:
        is_text = row["task"] == "text"
        if (row["split"] == "train") is is_text or row["task"] in _UNCLAIMED:
            continue
        name = f"{row['task']} ({row['split']}): "
        yield _below(
            f"{name}NELBO, bits per {row['modality']} token, unigram", row["conditional"], row["unigram"]
        )
        if not is_text:
            bound = _GAIN[row["task"]]
            yield _above(f"{name}bits saved over the hidden condition", row["gain_over_unconditional"], bound)
            yield _above(f"{name}bits saved over a wrong condition", row["gain_over_shuffled"], bound)


def _images(scores: Mapping[str, Any]) -> Iterator[Claim]:
    for name in ("seen", "composition"):
        here = scores.get(name)
        if here:
            made = here["generated"]
            chance = made["chance"]["top1"]
            # In a small gallery chance is high: require no more than 0.5.
            bound = min(_TIMES_CHANCE * chance, 0.5)
            yield _above(
                f"images, {name}: own picture nearest, {bound / chance:.0f} × chance", made["top1"], bound
            )
            yield _below(
                f"images, {name}: place of the own picture (0 first, 0.5 chance)", made["rank_fraction"], 0.25
            )
    if scores.get("seen"):
        yield _above("image tokenizer: own picture nearest", scores["seen"]["ceiling"]["top1"], 0.5)


def _captions(scores: Mapping[str, Any] | None) -> Iterator[Claim]:
    if scores:
        for floor in ("floor_constant", "floor_shuffled"):
            yield _above(
                f"captions of seen images: word F1, {floor}", scores["word_f1"], scores[floor]["value"]
            )


def _speech(scores: Mapping[str, Any]) -> Iterator[Claim]:
    heard = scores.get("transcripts", {}).get("seen")
    if heard:
        yield _below(
            "transcripts of seen clips: character error rate, shuffled",
            heard["character_error_rate"],
            heard["floor_shuffled"]["value"],
        )
    said = scores.get("generated", {}).get("seen")
    if not said:
        return
    yield _above("speech of seen sentences: length over the reader's", said["duration_ratio"], 0.6)
    yield _below("speech of seen sentences: length over the reader's", said["duration_ratio"], 1.6)
    floor = said.get("shuffled_word_error_rate")
    if floor:
        for name in ("round_trip", "generated"):
            yield _below(
                f"speech of seen sentences, {name}: word error rate, shuffled",
                said[f"{name}_word_error_rate"],
                floor.get("low", -math.inf),
            )


def _text(scores: Mapping[str, Any] | None) -> Iterator[Claim]:
    if scores:
        middle = (scores["noise"]["known_words"]["value"] + scores["real"]["known_words"]["value"]) / 2
        yield _above(
            "text: share of known words, half-way from noise to real text",
            scores["samples"]["known_words"],
            middle,
        )
