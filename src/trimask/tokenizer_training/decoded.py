"""Decode the signals that a tokenizer is trained and measured on, once, into the run's directory."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trimask import io
from trimask.datasets.quickstart import load_images, load_speech
from trimask.errors import UserError
from trimask.media.encoded import pixels_at, waveform_at
from trimask.media.rejection import Rejected, Rejection
from trimask.prepare.decision import Decision
from trimask.prepare.decode import Decoder, read_part
from trimask.prepare.splits import decide, read_decisions
from trimask.sources.item import Item
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import join_plans, make_plan
from trimask.tokenizer_training.data import EmbeddedSignals, RawSignals, SignalData
from trimask.tokenizer_training.signals import Signal, Signals, SignalWriter

logger = logging.getLogger(__name__)

Kind = Literal["image", "speech"]
Report = Callable[[str], None]
TRAIN, COMPOSITION, UNSEEN = "train", "composition", "unseen"
_PARTS = (TRAIN, COMPOSITION, UNSEEN)
_PART_OF = {"train": TRAIN, "composition": COMPOSITION}
_DONE = "signals.json"
SPLITS = "splits"
"""The subfolder in which `raw_items` stores split decisions."""
_REPORT_EVERY = 20
_WHAT: Mapping[Kind, str] = {"image": "pictures", "speech": "recordings"}


def raw_signals(sources: Sequence[str], options: PrepareOptions) -> RawSignals:
    """Return the data of raw `sources`, with their current fingerprints.

    Raises:
        UserError, FileNotFoundError: a source does not exist or is empty.
    """
    fingerprints = tuple(make_plan(source, options).fingerprint for source in sources)
    return RawSignals(sources=tuple(sources), fingerprints=fingerprints, options=options)


def decode_signals(
    data: SignalData, kind: Kind, *, size: int, folder: Path, report: Report = lambda message: None
) -> dict[str, Signals]:
    """Decode `data`, or open what is already decoded.

    Args:
        size: pixels along each side, or samples per second.
        folder: where the signals are stored. Complete files are reused; damaged ones are set aside and made
            again.

    Returns:
        The non-empty parts by name: `train`, `unseen` (validation and test) and `composition`.

    Raises:
        UserError: a source has changed since the run began.
    """

    def make() -> dict[str, Any]:
        counts, rejected = _write(data, kind, size=size, folder=folder, report=report)
        return {"counts": counts, "rejected": rejected}

    def files(stored: Mapping[str, Any]) -> list[str]:
        return [_file(part) for part in _PARTS if stored["counts"][part]]

    return {Path(name).stem: found for name, found in load_or_make(folder / _DONE, make, files).items()}


def load_or_make(
    index: Path, make: Callable[[], dict[str, Any]], files: Callable[[Mapping[str, Any]], list[str]]
) -> dict[str, Signals]:
    """Open the signal files in the folder of `index`. If they are missing or damaged, make them first.

    Args:
        index: a JSON file with the hashes of the files and the result of `make`.
        make: writes the files.
        files: returns the names of the files to open, given the result of `make`.
    """

    def read() -> dict[str, Signals]:
        stored = io.read_sealed(index)
        try:
            hashes = stored.get("sha256", {})  # an earlier version wrote none
            return {name: Signals(index.parent / name, sha256=hashes.get(name)) for name in files(stored)}
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{index} is not an index of signals ({error!r})") from error

    if index.exists():
        try:
            return read()
        except (ValueError, FileNotFoundError) as error:
            logger.warning("%s; the signals are made again (the old index is %s)", error, io.set_aside(index))
    stored = make()
    hashes = {name: io.sha256(index.parent / name) for name in files(stored)}
    io.write_sealed(index, {**stored, "sha256": hashes})
    return read()


def training_signals(
    data: SignalData, kind: Kind, *, size: int, folder: Path, report: Report = lambda message: None
) -> Signals:
    """Return the training part of `decode_signals`.

    Raises:
        UserError: as `decode_signals`, or the data has no training signals of this kind.
    """
    parts = decode_signals(data, kind, size=size, folder=folder, report=report)
    if TRAIN not in parts:
        raise UserError(
            f"there are no {_WHAT[kind]} to train on: {folder / 'rejected.jsonl'} lists what was set "
            "aside and why"
        )
    return parts[TRAIN]


def _file(part: str) -> str:
    return f"{part}.arrow"


def _write(
    data: SignalData, kind: Kind, *, size: int, folder: Path, report: Report
) -> tuple[dict[str, int], int]:
    shape, dtype = ((size, size, 3), np.uint8) if kind == "image" else ((-1,), np.int16)
    rows = (
        _read_embedded(kind, size)
        if isinstance(data, EmbeddedSignals)
        else _read_raw(data, kind, size, folder, report)
    )
    num_rejected = 0
    report(f"decoding {_WHAT[kind]} 0")
    with ExitStack() as stack:
        writers = {
            part: stack.enter_context(SignalWriter(folder / _file(part), shape=shape, dtype=dtype))
            for part in _PARTS
        }
        lines = stack.enter_context(io.atomic_write(folder / "rejected.jsonl"))
        rejections = stack.enter_context(lines.open("w", encoding="utf-8"))
        for number, row in enumerate(rows, 1):
            if isinstance(row, Rejection):
                num_rejected += 1
                rejections.write(row.line())
            else:
                writers[row[0]].add(row[1])
            if number % _REPORT_EVERY == 0:
                report(f"decoding {_WHAT[kind]} {number:,}")
        counts = {part: writer.count for part, writer in writers.items()}
    return counts, num_rejected


def _read_embedded(kind: Kind, size: int) -> Iterator[tuple[str, Signal]]:
    parts = {TRAIN: ("train",), COMPOSITION: ("composition",), UNSEEN: ("validation", "test")}
    for part, splits in parts.items():
        for split in splits:
            if kind == "image":
                for row in load_images(split):
                    yield (
                        part,
                        Signal(key=row.hexcode, text=row.caption, speaker="", values=pixels_at(row, size)),
                    )
            elif part != COMPOSITION:
                for reading in load_speech(split):
                    # Measure on sentences only: single words are hard to understand for anyone.
                    if part == TRAIN or reading.kind == "sentence":
                        values = as_integers(waveform_at(reading, size))
                        yield (
                            part,
                            Signal(key=reading.id, text=reading.text, speaker=reading.voice, values=values),
                        )


def _read_raw(
    data: RawSignals, kind: Kind, size: int, folder: Path, report: Report
) -> Iterator[tuple[str, Signal] | Rejection]:
    decoder = Decoder(
        options=data.options,
        image_size=size if kind == "image" else None,
        sample_rate=size if kind == "speech" else None,
    )
    yield from _decode_items(raw_items(data, folder, report), decoder)


def raw_items(data: RawSignals, folder: Path, report: Report) -> Iterator[tuple[Item, Decision] | Rejection]:
    """Yield the items of raw sources, each with its split decision, and rejections.

    Splits are decided for all sources together, so a text or file in two sources is never in two splits.

    Args:
        folder: stores the decisions.

    Raises:
        UserError: a source has changed since the run began.
    """
    plans = [make_plan(source, data.options) for source in data.sources]
    for source, fingerprint, plan in zip(data.sources, data.fingerprints, plans, strict=True):
        if plan.fingerprint != fingerprint:
            raise UserError(f"{source} has changed since the run began: choose another --out")
    plan, place = join_plans(plans), folder / SPLITS
    decisions = decide(
        plan,
        data.options,
        place,
        on_survey=lambda counts: report(f"comparing texts and files {counts.items:,}"),
    )
    if summary := decisions.describe():
        report(summary)
    for part in plan.parts:
        part_decisions = read_decisions(place, part.number)
        for item in read_part(part, data.options):
            yield item if isinstance(item, Rejection) else (item, next(part_decisions))


def _decode_items(
    items: Iterable[tuple[Item, Decision] | Rejection], decoder: Decoder
) -> Iterator[tuple[str, Signal] | Rejection]:
    for found in items:
        if isinstance(found, Rejection):
            yield found
            continue
        item, decision = found
        try:
            decoded = decoder(item, decision)
        except Rejected as error:
            yield Rejection(key=item.key, reason=error.reason, detail=error.detail)
            continue
        values = decoded.pixels
        if decoded.waveform is not None:
            values = as_integers(decoded.waveform)
        if values is not None:
            speaker = decoded.speaker or ""
            signal = Signal(key=decoded.key, text=decoded.text, speaker=speaker, values=values)
            yield _PART_OF.get(decoded.split, UNSEEN), signal


def digest(rows: Signals) -> str:
    """Hash the keys of signals. Weights store the hash, so that a changed split is detected."""
    return hashlib.sha256(" ".join(sorted(rows.keys)).encode()).hexdigest()


def as_integers(waveform: np.ndarray) -> np.ndarray:
    """Convert samples in [-1, 1] to 16-bit integers."""
    return np.clip(np.rint(waveform * 32767), -32767, 32767).astype(np.int16)


def as_floats(samples: np.ndarray) -> np.ndarray:
    """Convert 16-bit samples to floats in [-1, 1]."""
    return samples.astype(np.float32) / 32767
