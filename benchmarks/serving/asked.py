"""What the clients of the benchmark ask for, and what they make of the answers."""

import base64
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import soundfile

from trimask.generation.generate import Generator
from trimask.serve.canvas import LAST_DIGIT

WORDS = ("strawberry", "red apple", "cat face", "blue book", "good morning", "snowman", "it was the")
_VARYING = ("id", "created", "created_at")


@final
@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request: a JSON body, or the fields and the file of a form."""

    kind: str
    path: str
    body: dict[str, Any]
    file: tuple[str, bytes] | None = None

    @property
    def is_streamed(self) -> bool:
        return self.path == "/v1/canvas" or "stream" in self.body or "stream_format" in self.body


@final
class Givens:
    """Pictures and recordings to describe: the model's own."""

    def __init__(self, generator: Generator):
        self.pictures: list[str] = []
        self.recordings: list[bytes] = []
        for word in WORDS[:4]:
            file = io.BytesIO()
            generator.generate("text_to_image", word, num_steps=8).save(file, format="PNG")
            self.pictures.append(base64.b64encode(file.getvalue()).decode())
            waveform, rate = generator.generate("text_to_speech", word, num_steps=8)
            file = io.BytesIO()
            soundfile.write(file, waveform, rate, format="WAV", subtype="PCM_16")
            self.recordings.append(file.getvalue())


def ask_words(givens: Givens, number: int) -> list[Asked]:
    """A few words to a beginning: spans of up to 20 tokens, in as many steps."""
    found = []
    for seed in range(number):
        body = {"model": "quickstart", "prompt": WORDS[seed % len(WORDS)], "max_tokens": 4 + seed % 13}
        found.append(Asked(kind="words", path="/v1/completions", body=body | {"seed": seed}))
    return found


def ask_captions(givens: Givens, number: int) -> list[Asked]:
    """Captions of 24 tokens, in 24 steps, each with a picture of 64 positions before it."""
    found = []
    for seed in range(number):
        picture = givens.pictures[seed % len(givens.pictures)]
        body = {"task": "image_to_text", "image": picture, "seed": seed}
        found.append(Asked(kind="caption", path="/v1/canvas", body=body))
    return found


def ask_mixed(givens: Givens, number: int) -> list[Asked]:
    """All tasks, of many lengths and steps, streamed or not."""
    draw = random.Random(0)
    found = []
    for seed in range(number):
        steps, word = draw.choice((2, 4, 8, 16)), draw.choice(WORDS)
        stream = {"stream": True} if draw.random() < 0.3 else {}
        kind = seed % 8
        own = {"seed": seed, "num_steps": steps}
        if kind in (0, 1):
            body = {"model": "quickstart", "prompt": word, "max_tokens": draw.choice((6, 24, 64, 128)), **own}
            found.append(Asked(kind="text", path="/v1/completions", body=body | stream))
        elif kind == 2:
            body = {"model": "quickstart", "prompt": word, "suffix": " of the people", "max_tokens": 8, **own}
            found.append(Asked(kind="gap", path="/v1/completions", body=body | stream))
        elif kind == 3:
            body = {"prompt": word, "n": draw.choice((1, 1, 1, 4)), **own}
            previews = {"partial_images": 2} if stream else {}
            found.append(Asked(kind="picture", path="/v1/images/generations", body=body | stream | previews))
        elif kind == 4:
            body = {"model": "quickstart", "input": word, "voice": "default", "response_format": "wav", **own}
            found.append(Asked(kind="speech", path="/v1/audio/speech", body=body | {"stream_format": "sse"}))
        elif kind == 5:
            fields = {"model": "quickstart", "seed": str(seed), "num_steps": str(steps)}
            fields |= {"stream": "true"} if stream else {}
            file = ("file", givens.recordings[seed % len(givens.recordings)])
            found.append(Asked(kind="transcript", path="/v1/audio/transcriptions", body=fields, file=file))
        elif kind == 6:
            body = {"task": draw.choice(("joint", "triple")), **own}
            found.append(Asked(kind="canvas", path="/v1/canvas", body=body))
        else:
            picture = givens.pictures[seed % len(givens.pictures)]
            body = {"task": "image_to_text", "image": picture, **own}
            found.append(Asked(kind="caption", path="/v1/canvas", body=body))
    return found


@final
@dataclass(frozen=True, kw_only=True)
class Told:
    """All that an answer has of its result, without times and ids.

    Attributes:
        lines: its events, without confidences. Those of several results may come in any order: here they are
            sorted.
        confidences: in the order of `lines`.
        tokens: of its targets.
    """

    lines: Sequence[str]
    confidences: Sequence[float | None]
    tokens: int

    def is_like(self, other: "Told") -> bool:
        """Whether all is equal, byte for byte; but confidences, which are rounded, may differ by one in their
        last digit: products of larger matrices are rounded otherwise.
        """
        if self.lines != other.lines or len(self.confidences) != len(other.confidences):
            return False
        pairs = zip(self.confidences, other.confidences, strict=True)
        return all(
            a == b or (a is not None and b is not None and abs(a - b) < 1.5 * LAST_DIGIT) for a, b in pairs
        )


def read(asked: Asked, content: bytes) -> Told:
    """Read an answer. Raises ValueError if it is an error, or has one among its events."""
    if asked.is_streamed:
        lines = [line[6:] for line in content.decode().splitlines() if line.startswith("data: {")]
        events = [json.loads(line) for line in lines]
    else:
        events = [json.loads(content)]
    if any("error" in event for event in events):
        raise ValueError(str(events[-1])[:300])
    tokens = 0
    for event in events:
        usage = event.pop("usage", None) or {}
        tokens = max(tokens, usage.get("output_tokens", usage.get("completion_tokens", 0)))
        for name in _VARYING:
            event.pop(name, None)
    shares = [event.pop("confidence", ()) for event in events]
    told = sorted(zip([json.dumps(event, sort_keys=True) for event in events], shares, strict=True), key=str)
    lines, confidences = [line for line, _ in told], [share for _, each in told for share in each]
    if asked.kind in ("text", "gap", "words") and not tokens:
        text = "".join(choice["text"] for event in events for choice in event["choices"])
        tokens = int(np.ceil(len(text) / 4))  # a stream without usage: about as many
    return Told(lines=lines, confidences=confidences, tokens=tokens)
