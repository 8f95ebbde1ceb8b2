"""The quickstart data as token sources: what the mixture of a run draws from."""

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from trimask import config as configuration
from trimask import io, rng
from trimask.data.selection import QuickstartData
from trimask.data.source_names import EMOJI, SPEECHES, SPOKEN, TRIPLES
from trimask.data.tokens import Ragged, TokenSource
from trimask.datasets.quickstart import CaptionedImage, Utterance, load_images, load_speech, load_text
from trimask.errors import UserError
from trimask.media.encoded import pixels_at, waveform_at
from trimask.pixels import to_pixels
from trimask.prepare.passages import windows
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.transcript import transcript

logger = logging.getLogger(__name__)

Split = Literal["train", "composition", "validation", "test"]
Report = Callable[[str], None]
_VERSION = 2  # of how the data is encoded: 1 lost what sentences had beyond a window


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


def tokenize(
    data: QuickstartData, tokenizers: Tokenizers, split: Split, *, report: Report = lambda message: None
) -> dict[str, TokenSource]:
    """Encode one split into its sources: emoji, spoken, speeches, triples (those that the split has)."""
    images = pictures(split, data)
    bases = {row.base for row in images}
    # Held-out compositions are pictures alone: their concepts are spoken of in the training split.
    is_whole = split != "composition"
    speech = select_speech(readings(split, data), data, bases) if is_whole else []
    passages = [row.text for row in load_text(split)] if is_whole else []
    sources: list[TokenSource] = []
    cells = _encode_images(images, tokenizers, report)
    utterances = _encode_speech(speech, tokenizers, report)
    if images:
        captions = [tokenizers.text.encode(row.caption) for row in images]
        sources.append(_source(EMOJI, {"text": captions, "image": cells}, [row.base for row in images]))
    if speech:
        spelled = [tokenizers.text.encode(spoken_prompt(r.text, r.voice), is_spelled=True) for r in speech]
        keys = [row.id for row in speech]
        sources.append(_source(SPOKEN, {"text": spelled, "speech": utterances}, keys))
        said = {row.hexcode: number for number, row in enumerate(speech) if row.kind == "caption"}
        both = [(i, said[row.hexcode]) for i, row in enumerate(images) if row.hexcode in said]
        if both:
            codes = {
                "text": [tokenizers.text.encode(images[i].caption) for i, _ in both],
                "image": [cells[i] for i, _ in both],
                "speech": [utterances[j] for _, j in both],
            }
            sources.append(_source(TRIPLES, codes, [images[i].base for i, _ in both]))
    if passages:
        spans = _encode_text(passages, tokenizers, data.text_window, report)
        sources.append(_source(SPEECHES, {"text": spans}, list(range(len(spans)))))
    return {source.name: source for source in sources}


def cached_tokens(
    data: QuickstartData,
    tokenizers: Tokenizers,
    split: Split,
    folder: Path,
    *,
    report: Report = lambda message: None,
) -> dict[str, TokenSource]:
    """As `tokenize`, kept in `folder`: a resumed run reads what its first start encoded.

    What is damaged there is set aside and encoded again. For the process that writes the folder alone.
    """
    index = folder / f"{split}.json"
    try:
        found = kept_tokens(data, split, folder)
    except (ValueError, FileNotFoundError) as error:
        aside = io.set_aside(index)
        logger.warning("%s; it is encoded again (the old list is %s)", error, aside)
        found = None
    if found is not None:
        return found
    sources = tokenize(data, tokenizers, split, report=report)
    for name, source in sources.items():
        source.save(folder / f"{split}-{name}.safetensors")
    described = {"version": _VERSION, "data": configuration.to_dict(data), "sources": list(sources)}
    io.write_sealed(index, described)
    return sources


def kept_tokens(data: QuickstartData, split: Split, folder: Path) -> dict[str, TokenSource] | None:
    """What `cached_tokens` has left in `folder`; None if there is nothing of this `data`, encoded
    as it is today.

    Raises:
        UserError, FileNotFoundError: a file is damaged or gone.
    """
    index = folder / f"{split}.json"
    if not os.path.lexists(index):
        return None
    stored = io.read_sealed(index)
    names = stored.get("sources") if isinstance(stored, dict) else None
    if not isinstance(names, list) or not all(n in (EMOJI, SPOKEN, SPEECHES, TRIPLES) for n in names):
        raise UserError(f"{index} is no list of tokenized sources")
    if (stored.get("version"), stored.get("data")) != (_VERSION, configuration.to_dict(data)):
        return None
    sources = [TokenSource.load(folder / f"{split}-{name}.safetensors") for name in names]
    return {source.name: source for source in sources}


def _source(name: str, items: dict[str, list[Any]], keys: Sequence[str | int]) -> TokenSource:
    codes = {
        modality: Ragged.of([np.asarray(x).reshape(len(x), -1) for x in spans])
        for modality, spans in items.items()
    }
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return TokenSource(
        name=name, codes=codes, groups=np.array([numbers[key] for key in keys], dtype=np.int64)
    )


def _encode_text(
    passages: Sequence[str], tokenizers: Tokenizers, window: int, report: Report
) -> list[list[int]]:
    spans: list[list[int]] = []
    for number, text in enumerate(passages, 1):
        spans.extend(windows(text, tokenizers.text, window))
        report(f"encoding text {number}/{len(passages)}")
    return spans


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
