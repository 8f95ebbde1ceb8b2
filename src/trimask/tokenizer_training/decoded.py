"""What a tokenizer trains on and is measured on: decoded once, kept in the run's directory."""

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
"""Where `raw_items` keeps what it decided, in a folder of its own."""
_REPORT_EVERY = 20
_WHAT: Mapping[Kind, str] = {"image": "pictures", "speech": "recordings"}


def raw_signals(sources: Sequence[str], options: PrepareOptions) -> RawSignals:
    """The data of raw `sources`, with their fingerprints as of now.

    Raises:
        UserError, FileNotFoundError: a source that is not there, or has nothing in it.
    """
    fingerprints = tuple(make_plan(source, options).fingerprint for source in sources)
    return RawSignals(sources=tuple(sources), fingerprints=fingerprints, options=options)


def signals(
    data: SignalData, kind: Kind, *, size: int, folder: Path, report: Report = lambda message: None
) -> dict[str, Signals]:
    """The parts of `data` that there are, by name: `train`, `unseen` (what validation and test hold), and
    `composition` where the data has such a split.

    Args:
        size: pixels along each side, or samples a second.
        folder: where they are kept; what is complete there is not decoded again. What is damaged is set aside
            and made again.

    Raises:
        UserError: a source has changed since it was named.
    """

    def make() -> dict[str, Any]:
        counts, rejected = _write(data, kind, size=size, folder=folder, report=report)
        return {"counts": counts, "rejected": rejected}

    def files(stored: Mapping[str, Any]) -> list[str]:
        return [_file(part) for part in _PARTS if stored["counts"][part]]

    return {Path(name).stem: found for name, found in kept_signals(folder / _DONE, make, files).items()}


def kept_signals(
    index: Path, make: Callable[[], dict[str, Any]], files: Callable[[Mapping[str, Any]], list[str]]
) -> dict[str, Signals]:
    """Files of signals beside `index`, which holds their hashes and what `make` said of them; made by `make`
    if they are not there, and again, once, if they are damaged.

    Args:
        files: the names of those that are read, from what `make` said.
    """

    def read() -> dict[str, Signals]:
        stored = io.read_sealed(index)
        try:
            hashes = stored.get("sha256", {})  # an earlier version wrote none
            return {name: Signals(index.parent / name, sha256=hashes.get(name)) for name in files(stored)}
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{index} is no list of signals ({error!r})") from error

    if index.exists():
        try:
            return read()
        except (ValueError, FileNotFoundError) as error:
            logger.warning("%s; made again (the old list is %s)", error, io.set_aside(index))
    stored = make()
    hashes = {name: io.sha256(index.parent / name) for name in files(stored)}
    io.write_sealed(index, {**stored, "sha256": hashes})
    return read()


def training_signals(
    data: SignalData, kind: Kind, *, size: int, folder: Path, report: Report = lambda message: None
) -> Signals:
    """The part of `signals` that is trained on.

    Raises:
        UserError: as `signals`, or there is nothing of this kind to train on.
    """
    parts = signals(data, kind, size=size, folder=folder, report=report)
    if TRAIN not in parts:
        raise UserError(
            f"there are no {_WHAT[kind]} to train on; {folder / 'rejected.jsonl'} says what was set "
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
        _embedded(kind, size) if isinstance(data, EmbeddedSignals) else _raw(data, kind, size, folder, report)
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


def _embedded(kind: Kind, size: int) -> Iterator[tuple[str, Signal]]:
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
                    # Single words are hard to understand for anyone: measured are sentences.
                    if part == TRAIN or reading.kind == "sentence":
                        values = as_integers(waveform_at(reading, size))
                        yield (
                            part,
                            Signal(key=reading.id, text=reading.text, speaker=reading.voice, values=values),
                        )


def _raw(
    data: RawSignals, kind: Kind, size: int, folder: Path, report: Report
) -> Iterator[tuple[str, Signal] | Rejection]:
    decoder = Decoder(
        options=data.options,
        image_size=size if kind == "image" else None,
        sample_rate=size if kind == "speech" else None,
    )
    yield from _decoded(raw_items(data, folder, report), decoder)


def raw_items(data: RawSignals, folder: Path, report: Report) -> Iterator[tuple[Item, Decision] | Rejection]:
    """The items of raw sources, each with what was decided about its split; `folder` keeps the decisions.

    Splits are decided of all sources together: what stands in two of them does not lie in two splits.

    Raises:
        UserError: a source has changed since it was named.
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
    if told := decisions.describe():
        report(told)
    for part in plan.parts:
        decided_of_part = read_decisions(place, part.number)
        for item in read_part(part, data.options):
            yield item if isinstance(item, Rejection) else (item, next(decided_of_part))


def _decoded(
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
    """Names a set of signals by their keys: weights carry it, so that a changed split is noticed."""
    return hashlib.sha256(" ".join(sorted(rows.keys)).encode()).hexdigest()


def as_integers(waveform: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as 16-bit integers."""
    return np.clip(np.rint(waveform * 32767), -32767, 32767).astype(np.int16)


def as_floats(samples: np.ndarray) -> np.ndarray:
    """16-bit samples in [-1, 1]."""
    return samples.astype(np.float32) / 32767
