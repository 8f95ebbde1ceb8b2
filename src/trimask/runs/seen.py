"""Measure the prompt statistics of a run's data once, and store them beside the weights."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from trimask import io, rng
from trimask.config import from_dict, to_dict
from trimask.data.choice import choose
from trimask.data.mixture import Component
from trimask.data.selection import QuickstartData
from trimask.data.source import ExampleSource
from trimask.errors import UserError
from trimask.generation.prompts import Seen, SeenTexts, find_closing, find_opening, normalize_prompt
from trimask.runs.embedded import pictures, readings, select_speech
from trimask.vocabulary.tokenizer import TextCodec
from trimask.vocabulary.transcript import is_transcript, parse_transcript

SEEN = "seen.json"
_TEXTS = 50_000  # texts of a kind to read, at most
_WORDS = 20_000  # most common words to keep
_OPENINGS = 1000
_VOICES = 10_000
_MOST = 0.95  # share of texts ending with a mark that makes it the rule
_OFTEN = 0.05  # share of texts beginning with an article that makes articles usual
_LOWER = 0.8  # share of texts without capitals that makes lower case the rule
_EXAMPLES = 8
_LONGEST_EXAMPLE = 40  # characters
_REPORT_EVERY = 20_000
_FIX = "remove it and resume the run, which writes it again"


def fit_seen(
    sources: Mapping[str, ExampleSource],
    components: Collection[Component],
    text: TextCodec,
    *,
    seed: int,
    report: Callable[[str], None] = lambda message: None,
) -> Seen:
    """Measure what a run on `components` sees of `sources`, its training split.

    Transcripts are the texts beside speech alone, captions those beside any other modality, a user's own
    included; at most 50,000 of each source are read, and the 20,000 most common words of each kind kept.
    Voices are counted over all recordings.
    """
    used = {name: sources[name] for name in sorted({c.source for c in components} & sources.keys())}
    paired = [s for s in used.values() if "text" in s.num_codes and len(s.num_codes) > 1]
    captioned = [s for s in paired if not is_transcript(s.num_codes)]
    spoken = [s for s in paired if is_transcript(s.num_codes)]

    def read(kind: str, chosen: list[ExampleSource]) -> Iterable[str]:
        for source in chosen:
            for number, index in enumerate(choose(source, _TEXTS, seed)):
                if number and number % _REPORT_EVERY == 0:
                    report(f"reading {kind} {number:,}")
                yield text.decode(source.example(index)["text"][:, 0].tolist())

    said = (parse_transcript(each)[1] for each in read("transcripts", spoken))
    is_all = all(len(source) <= _TEXTS for source in captioned)
    is_all_said = all(len(source) <= _TEXTS for source in spoken)
    return Seen(
        tasks=_tasks(components),
        captions=measure_spelling(read("captions", captioned), is_all=is_all),
        transcripts=measure_spelling(said, is_all=is_all_said),
        voices=_voices(spoken, text, report),
    )


def fit_seen_of_embedded(data: QuickstartData, components: Collection[Component]) -> Seen:
    """Measure the embedded data like `fit_seen`, without tokenizing it."""
    images = pictures("train", data)
    speech = select_speech(readings("train", data), data, {row.base for row in images})
    voices = Counter(row.voice for row in speech)
    return Seen(
        tasks=_tasks(components),
        captions=measure_spelling(row.caption for row in images),
        transcripts=measure_spelling(row.text.lower() for row in speech),
        voices={voice: voices[voice] for voice in _commonest(voices, _VOICES)},
    )


def _tasks(components: Collection[Component]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(component.task for component in components))


def measure_spelling(texts: Iterable[str], *, is_all: bool = True) -> SeenTexts | None:
    """Measure how `texts` are spelled; None if there are none. `is_all`: whether these are all texts."""
    words: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    openings: Counter[str] = Counter()
    distinct: dict[str, int] = {}  # number of words
    num_texts = num_lower = longest = 0
    for text in texts:
        own = text.split()
        if not own:
            continue
        distinct[text] = len(own)
        num_texts += 1
        num_lower += text == text.lower()
        longest = max(longest, len(normalize_prompt(text)))
        words.update(own)
        ends[find_closing(own[-1])] += 1
        opened = find_opening(text)
        if opened is not None:
            openings[opened] += 1
    if not num_texts:
        return None
    end, num_ends = max(ends.items(), key=lambda item: (item[1], item[0]))
    has_articles = openings.total() >= max(_OFTEN * num_texts, 2)
    return SeenTexts(
        words=tuple(_commonest(words, _WORDS)),
        is_whole=is_all and len(words) <= _WORDS,
        is_lower=num_lower >= _LOWER * num_texts,
        closing=end if num_ends >= _MOST * num_texts else "",
        has_articles=has_articles,
        openings=() if has_articles else tuple(sorted(_commonest(openings, _OPENINGS))),
        longest=longest,
        examples=_choose_examples(distinct),
    )


def _choose_examples(distinct: Mapping[str, int]) -> tuple[str, ...]:
    """Choose a few texts by a hash of each, from the shorter half of `distinct` (text -> number of words)."""
    short = sorted(distinct, key=lambda text: (distinct[text], rng.key(0, "example", text)))
    short = [text for text in short[: max(len(short) // 2, _EXAMPLES)] if len(text) <= _LONGEST_EXAMPLE]
    return tuple(sorted(short, key=lambda text: rng.key(0, "example", text))[:_EXAMPLES])


def _voices(
    spoken: Collection[ExampleSource], text: TextCodec, report: Callable[[str], None]
) -> dict[str, int]:
    """Count the recordings of each voice. Only the part before the first colon is decoded, once per distinct
    value.
    """
    colon = text.encode(":", is_spelled=True)
    heads: Counter[tuple[int, ...]] = Counter()
    for source in spoken:
        for number in range(len(source)):
            ids = source.example(number)["text"][:, 0]
            ends = np.flatnonzero(ids == colon[0])
            heads[tuple(ids[: int(ends[0]) + 1].tolist() if len(ends) else ())] += 1
            if number and number % _REPORT_EVERY == 0:
                report(f"counting voices {number:,}/{len(source):,}")
    voices: Counter[str] = Counter()
    for ids, count in heads.items():
        voice = parse_transcript(text.decode(list(ids)))[0]
        if voice is not None:
            voices[voice] += count
    return {voice: voices[voice] for voice in _commonest(voices, _VOICES)}


def _commonest(counts: Counter[str], most: int) -> list[str]:
    """Return at most `most` keys, most common first, ties in alphabetical order."""
    return sorted(counts, key=lambda name: (-counts[name], name))[:most]


def save_seen(folder: Path, seen: Seen) -> None:
    io.write_sealed(folder / SEEN, to_dict(seen))


def load_seen(folder: Path) -> Seen:
    """Load what `save_seen` wrote; an empty `Seen` if nothing was stored."""
    path = folder / SEEN
    if not os.path.lexists(path):
        return Seen()
    stored = io.read_sealed(path, fix=_FIX)
    try:
        return from_dict(Seen, stored)
    except ValueError as error:
        raise UserError(f"{path}: {error}; {_FIX}") from error
