"""The embedded data as examples: what of it a run takes, and its codes."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch

from trimask import rng
from trimask.data.selection import QuickstartData
from trimask.data.shards import Example
from trimask.data.source_names import EMOJI, SPEECHES, SPOKEN, TRIPLES
from trimask.datasets.quickstart import CaptionedImage, Utterance, load_images, load_speech, load_text
from trimask.datasets.quickstart.reader import Passage
from trimask.media.encoded import pixels_at, waveform_at
from trimask.pixels import to_pixels
from trimask.prepare.passages import windows
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.tokenizer import TextCodec
from trimask.vocabulary.transcript import transcript

Split = Literal["train", "composition", "validation", "test"]
Report = Callable[[str], None]


def spoken_prompt(text: str, voice: str) -> str:
    """What stands for an utterance in the text span: the reader's name, then the words in lower case [D]."""
    return transcript(text, voice)


def select_concepts(images: Sequence[CaptionedImage], data: QuickstartData) -> list[CaptionedImage]:
    """The images of `data`: concepts taken in turn from each group, in a fixed order, so that any number is a
    balanced choice.
    """
    kept = [row for row in images if data.has_flags or row.group != "flags"]
    by_group: dict[str, list[str]] = defaultdict(list)
    for row in kept:
        if row.base not in by_group[row.group]:
            by_group[row.group].append(row.base)
    for bases in by_group.values():
        bases.sort(key=lambda base: rng.key(0, "concept", base))
    ranked = sorted(
        (rank, group, base) for group, bases in by_group.items() for rank, base in enumerate(bases)
    )
    chosen = {base for _, _, base in ranked[: data.num_concepts]}
    return [row for row in kept if row.base in chosen and (data.has_variants or row.hexcode == row.base)]


def pictures(split: Split, data: QuickstartData) -> list[CaptionedImage]:
    """The images of a split that `data` chooses. Compositions are those of the concepts chosen for training:
    what is new in them is the combination alone."""
    rows = load_images(split)
    if split != "composition":
        return select_concepts(rows, data)
    known = {row.base for row in select_concepts(load_images("train"), data)}
    return [row for row in rows if row.base in known]


def readings(split: Split, data: QuickstartData) -> list[Utterance]:
    """The readings of a split that `data` may choose from."""
    if data.readings is None or split != "train":
        return load_speech(split)
    return load_speech(split, folder=data.readings)


def select_speech(rows: Sequence[Utterance], data: QuickstartData, bases: set[str]) -> list[Utterance]:
    """Captions of the chosen concepts, and the first `num_sentences` sentences, in the chosen voices."""
    spoken = [row for row in rows if row.voice in data.voices]
    captions = [row for row in spoken if row.kind == "caption" and row.base in bases]
    sentences = sorted(
        (row for row in spoken if row.kind == "sentence"), key=lambda row: rng.key(0, "sentence", row.id)
    )
    return captions + sentences[: data.num_sentences]


def encode(
    data: QuickstartData, tokenizers: Tokenizers, split: Split, *, report: Report = lambda message: None
) -> dict[str, list[Example]]:
    """Encode one split into the examples of its sources: emoji, spoken, triples, speeches (those that it
    has).
    """
    images = pictures(split, data)
    bases = {row.base for row in images}
    # Held-out compositions are pictures alone: their concepts are spoken of in the training split.
    is_whole = split != "composition"
    speech = select_speech(readings(split, data), data, bases) if is_whole else []
    passages = load_text(split) if is_whole else []
    cells = _encode_images(images, tokenizers, report)
    captions = [_column(tokenizers.text.encode(row.caption)) for row in images]
    utterances = _encode_speech(speech, tokenizers, report)
    spelled = [
        _column(tokenizers.text.encode(spoken_prompt(r.text, r.voice), is_spelled=True)) for r in speech
    ]
    said = {row.hexcode: number for number, row in enumerate(speech) if row.kind == "caption"}
    both = [(i, said[row.hexcode]) for i, row in enumerate(images) if row.hexcode in said]
    sources = {
        EMOJI: _examples(
            [row.hexcode for row in images],
            [row.base for row in images],
            {"text": captions, "image": cells},
        ),
        SPOKEN: _examples(
            [row.id for row in speech],
            [row.id for row in speech],
            {"text": spelled, "speech": utterances},
        ),
        TRIPLES: _examples(
            [images[i].hexcode for i, _ in both],
            [images[i].base for i, _ in both],
            {
                "text": [captions[i] for i, _ in both],
                "image": [cells[i] for i, _ in both],
                "speech": [utterances[j] for _, j in both],
            },
        ),
        SPEECHES: _encode_text(passages, tokenizers.text, data.text_window, report),
    }
    return {name: examples for name, examples in sources.items() if examples}


def _examples(
    keys: Sequence[str], groups: Sequence[str], codes: Mapping[str, Sequence[np.ndarray]]
) -> list[Example]:
    """Groups are numbered in the order in which they come."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return [
        Example(key=key, group=numbers[group], codes={name: each[i] for name, each in codes.items()})
        for i, (key, group) in enumerate(zip(keys, groups, strict=True))
    ]


def _column(ids: Sequence[int]) -> np.ndarray:
    return np.asarray(ids, dtype=np.int64).reshape(-1, 1)


def _encode_text(passages: Sequence[Passage], codec: TextCodec, window: int, report: Report) -> list[Example]:
    """Each window counts by itself."""
    examples: list[Example] = []
    for number, row in enumerate(passages, 1):
        for place, ids in enumerate(windows(row.text, codec, window)):
            key = f"{row.id}#{place}"
            examples.append(Example(key=key, group=len(examples), codes={"text": _column(ids)}))
        report(f"encoding text {number}/{len(passages)}")
    return examples


@torch.inference_mode()
def _encode_images(
    rows: Sequence[CaptionedImage], tokenizers: Tokenizers, report: Report
) -> list[np.ndarray]:
    codes: list[np.ndarray] = []
    for start in range(0, len(rows), 64):
        pixels = np.stack([pixels_at(row, tokenizers.image.image_size) for row in rows[start : start + 64]])
        codes.extend(tokenizers.image.encode(to_pixels(pixels)).numpy())
        report(f"encoding images {len(codes)}/{len(rows)}")
    return codes


@torch.inference_mode()
def _encode_speech(rows: Sequence[Utterance], tokenizers: Tokenizers, report: Report) -> list[np.ndarray]:
    codes: list[np.ndarray] = []
    for row in rows:
        waveform = torch.from_numpy(waveform_at(row, tokenizers.speech.sample_rate))
        codes.append(tokenizers.speech.encode(waveform).numpy())
        if len(codes) % 50 == 0 or len(codes) == len(rows):
            report(f"encoding speech {len(codes)}/{len(rows)}")
    return codes
