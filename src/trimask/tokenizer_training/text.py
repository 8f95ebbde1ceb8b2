"""Train and measure a text tokenizer."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from trimask import io, locks
from trimask.config import to_dict
from trimask.data.source_names import IMAGES, TEXT
from trimask.datasets.quickstart import load_images, load_text
from trimask.errors import UserError
from trimask.media.rejection import Rejected, Rejection
from trimask.prepare.decode import Decoder
from trimask.prepare.manifest import REJECTED, TOKENIZERS, load_split
from trimask.tokenizer_training.data import EmbeddedSignals, RawSignals, SignalData
from trimask.tokenizer_training.decoded import SPLITS, TRAIN, UNSEEN, Report, raw_items
from trimask.tokenizers.bundle import SHIPPED, Tokenizers, parts
from trimask.tokenizers.text import TextTokenizer
from trimask.training.loop import TrainResult
from trimask.training.run_directory import open_run

WEIGHTS, FIGURES = "text.json", "report.json"
LEFTOVERS = (REJECTED, SPLITS)
"""Files that a run writes before training starts; a new run may replace them."""
_NUM_BYTES = 256
_SAMPLED = 300  # examples of each source
_LEAST = 1000  # bytes of different texts needed for a measurement
_MEASURED = 2_000_000  # characters measured in each part


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TextTokenizerRun:
    """Configures a run that trains a text tokenizer: everything that determines its vocabulary.

    Attributes:
        vocabulary_size: number of tokens, including the 256 bytes. A larger one makes texts shorter, and the
            model's embedding and output layer larger.
        caption_repeats: how often each caption counts. Captions are few compared with documents but similar
            to prompts; if they are repeated, their words get merges [D]. Transcripts are spelled, so they are
            not used.
    """

    data: SignalData = EmbeddedSignals()
    vocabulary_size: int = 1024
    caption_repeats: int = 8

    def __post_init__(self) -> None:
        if self.vocabulary_size <= _NUM_BYTES:
            raise UserError(f"vocabulary_size {self.vocabulary_size}: give more than the {_NUM_BYTES} bytes")
        if self.caption_repeats < 1:
            raise UserError(f"caption_repeats {self.caption_repeats}: give at least 1")

    @property
    def num_merges(self) -> int:
        return self.vocabulary_size - _NUM_BYTES


def train_text_tokenizer(
    config: TextTokenizerRun,
    out: Path,
    *,
    recipe: str,
    resume: bool = False,
    report: Report = lambda message: None,
) -> TrainResult:
    """Train a text tokenizer in the directory `out`: `text.json`, and `report.json` with bytes per token.

    Raises:
        UserError: there is no text to train on, or too little for the vocabulary.
    """
    began = time.monotonic()
    with locks.lock(out):
        open_run(out, {"recipe": recipe, "run": config}, resume=resume, leftovers=LEFTOVERS)
        measured: dict[str, list[str]] = {TRAIN: [], UNSEEN: []}
        tokenizer = TextTokenizer.train(
            _training_texts(config, out, measured, report), config.vocabulary_size
        )
        if not measured[TRAIN]:
            raise UserError("the data has no text to train on: give documents or captions")
        if tokenizer.vocabulary_size < config.vocabulary_size:
            raise UserError(
                f"the texts suffice for only {tokenizer.vocabulary_size:,} of {config.vocabulary_size:,} "
                f"tokens: add text, or give --vocabulary-size {tokenizer.vocabulary_size}"
            )
        tokenizer.save(out / WEIGHTS)
        shipped = TextTokenizer.load(parts(SHIPPED)["text"])
        io.write_json(
            out / FIGURES,
            {
                "format": "trimask text tokenizer report",
                "data": to_dict(config.data),
                "vocabulary_size": tokenizer.vocabulary_size,
                "bytes_per_token": bytes_per_token(tokenizer, measured),
                "bytes_per_token_of_the_shipped_one": bytes_per_token(shipped, measured),
            },
        )
        return TrainResult(steps=config.num_merges, seconds=time.monotonic() - began, stopped="finished")


def bytes_per_token(tokenizer: TextTokenizer, texts: dict[str, list[str]]) -> dict[str, float]:
    """Return the UTF-8 bytes per token for each non-empty part of the texts."""
    return {
        part: round(
            sum(len(text.encode()) for text in some) / sum(len(tokenizer.encode(text)) for text in some), 3
        )
        for part, some in texts.items()
        if some
    }


def bytes_per_token_of_prepared(folder: Path) -> float | None:
    """Return the UTF-8 bytes per token in prepared data; None if it has too little text.

    A few hundred different documents and captions of the training split are measured. Transcripts are
    spelled, so they are ignored.
    """
    sources = load_split([folder], "train")
    codec = Tokenizers.load(folder / TOKENIZERS).text
    seen: set[tuple[int, ...]] = set()
    for name in (TEXT, IMAGES):
        source = sources.get(name)
        for index in range(0, 0 if source is None else len(source), max(len(source or ()) // _SAMPLED, 1)):
            assert source is not None
            seen.add(tuple(source.example(index)["text"][:, 0].tolist()))
    num_bytes = sum(len(codec.decode(list(ids)).encode()) for ids in seen)
    return num_bytes / sum(map(len, seen)) if num_bytes >= _LEAST else None


def _training_texts(
    config: TextTokenizerRun, out: Path, measured: dict[str, list[str]], report: Report
) -> Iterator[str]:
    """Yield the training texts, with captions repeated; append the first texts of each part to `measured`."""
    sizes = dict.fromkeys(measured, 0)
    number = 0
    report("reading texts 0")
    for part, text, is_caption in _texts(config.data, out, report):
        if sizes[part] < _MEASURED:
            measured[part].append(text)
            sizes[part] += len(text)
        if part != TRAIN:
            continue
        number += 1
        if number % 200 == 0:
            report(f"reading texts {number:,}")
        yield from [text] * (config.caption_repeats if is_caption else 1)
    report("learning merges")


def _texts(data: SignalData, out: Path, report: Report) -> Iterable[tuple[str, str, bool]]:
    """Yield (part, text, whether it is a caption) for all texts except transcripts."""
    if isinstance(data, EmbeddedSignals):
        for part, splits in {TRAIN: ("train",), UNSEEN: ("validation", "test")}.items():
            for split in splits:
                yield from ((part, row.text, False) for row in load_text(split))
                yield from ((part, row.caption, True) for row in load_images(split))
    else:
        yield from _raw_texts(data, out, report)


def _raw_texts(data: RawSignals, out: Path, report: Report) -> Iterator[tuple[str, str, bool]]:
    decoder = Decoder(options=data.options, image_size=None, sample_rate=None)
    with io.atomic_write(out / REJECTED) as path, path.open("w", encoding="utf-8") as lines:
        for item in raw_items(data, out, report):
            if isinstance(item, Rejection):
                lines.write(item.line())
                continue
            encoded, decision = item
            try:
                decoded = decoder(encoded, decision)
            except Rejected as error:
                lines.write(Rejection(key=encoded.key, reason=error.reason, detail=error.detail).line())
                continue
            is_spelled = "speech" in encoded.modalities and "image" not in encoded.modalities
            if decoded.text and not is_spelled:
                part = TRAIN if decoded.split == "train" else UNSEEN
                yield part, decoded.text, "image" in encoded.modalities
