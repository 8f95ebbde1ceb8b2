"""Tokenize one part into shards: a pure function of the part, the tokenizers and the options."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO, final, runtime_checkable

import numpy as np
import torch

from trimask import io, rng
from trimask.data.shards import Example, ShardEntry, write_shard
from trimask.data.source_names import IMAGES, SPEECH, TEXT, TRIPLES
from trimask.media.rejection import Reason, Rejected, Rejection, first_line
from trimask.pixels import to_pixels
from trimask.prepare.decision import Decision
from trimask.prepare.decode import Decoded, Decoder, read_part
from trimask.prepare.passages import windows
from trimask.prepare.record import PartRecord, rejected_path, save_record
from trimask.prepare.splits import read_decisions
from trimask.prepare.tally import Tally
from trimask.sources.item import Item
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import Part
from trimask.vocabulary.tokenizer import ImageCodec, SpeechCodec, TextCodec
from trimask.vocabulary.transcript import transcript, voice_tag

_BATCH = 32  # items encoded together


@runtime_checkable
class Codecs(Protocol):
    """The tokenizers of a model."""

    @property
    def text(self) -> TextCodec: ...
    @property
    def image(self) -> ImageCodec: ...
    @property
    def speech(self) -> SpeechCodec: ...


def tokenize_part(part: Part, codecs: Codecs, options: PrepareOptions, out: Path) -> PartRecord:
    """Write the shards of `part` and its rejections into `out`, then its record, which marks it as finished.

    Raises:
        OSError: the files cannot be written.
        SourceUnavailable: a remote source fails.
    """
    rejected = rejected_path(out, part.number)
    with io.atomic_write(rejected) as temporary, temporary.open("w", encoding="utf-8") as lines:
        decoder = Decoder(
            options=options,
            image_size=codecs.image.image_size,
            sample_rate=codecs.speech.sample_rate,
        )
        writer = _Writer(part, codecs, options, decoder, read_decisions(out, part.number), out, lines)
        with Tally(out, part.number) as tally:
            for item in read_part(part, options):
                writer.add(item)
                if not isinstance(item, Rejection):
                    tally.add()
            writer.finish()
    if not writer.reasons:
        rejected.unlink()
    record = PartRecord(
        part=part.number,
        label=part.reader.label,
        shards=tuple(writer.shards),
        rejected=dict(sorted(writer.reasons.items())),
        speakers=dict(sorted(writer.speakers.items())),
    )
    save_record(out, record)
    return record


@final
@dataclass(slots=True)
class _Writer:
    part: Part
    codecs: Codecs
    options: PrepareOptions
    decoder: Decoder
    decisions: Iterator[Decision]
    out: Path
    lines: TextIO
    reasons: Counter[str] = field(default_factory=Counter)
    speakers: Counter[str] = field(default_factory=Counter)
    waiting: list[Decoded] = field(default_factory=list)
    open: dict[tuple[str, str], list[Example]] = field(default_factory=dict)
    num_codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    numbers: Counter[tuple[str, str]] = field(default_factory=Counter)
    shards: list[ShardEntry] = field(default_factory=list)

    def add(self, item: Item | Rejection) -> None:
        """Encode a document immediately; queue a pair or triple for its batch."""
        if isinstance(item, Rejection):
            self._reject(item)
            return
        decision = next(self.decisions)
        try:
            decoded = self.decoder(item, decision)
        except Rejected as error:
            self._reject(Rejection(key=item.key, reason=error.reason, detail=error.detail))
            return
        if decoded.pixels is None and decoded.waveform is None:
            self._encode_document(decoded)
            return
        self.waiting.append(decoded)
        if len(self.waiting) == _BATCH:
            self._encode()

    def finish(self) -> None:
        self._encode()
        for split, source in sorted(self.open):
            self._close(split, source)

    def _reject(self, rejection: Rejection) -> None:
        self.reasons[rejection.reason.value] += 1
        self.lines.write(rejection.line())

    @torch.inference_mode()
    def _encode(self) -> None:
        waiting, self.waiting = self.waiting, []
        pixels = [item.pixels for item in waiting if item.pixels is not None]
        cells: list[np.ndarray] = []
        if pixels:
            cells = list(self.codecs.image.encode(to_pixels(np.stack(pixels))).cpu().numpy())
        for item in waiting:
            image = cells.pop(0) if item.pixels is not None else None
            try:
                self._encode_pair(item, image)
            except Rejected as error:
                self._reject(Rejection(key=item.key, reason=error.reason, detail=error.detail))

    def _encode_document(self, item: Decoded) -> None:
        for number, ids in enumerate(windows(item.text, self.codecs.text, self.options.text_window)):
            place = f"{item.key}#{number}"
            codes = {"text": _column(ids)}
            self._add(item.split, TEXT, Example(key=place, group=rng.key(0, "key", place), codes=codes))

    def _encode_pair(self, item: Decoded, image: np.ndarray | None) -> None:
        pair: dict[str, dict[str, np.ndarray]] = {}
        if image is not None:
            caption = _column(self.codecs.text.encode(item.text))
            pair[IMAGES] = {"text": caption, "image": image}
        if item.waveform is not None:
            said = _column(self.codecs.text.encode(transcript(item.text, item.speaker), is_spelled=True))
            pair[SPEECH] = {"text": said, "speech": self._frames(item.waveform)}
            if item.speaker and (tag := voice_tag(item.speaker)):
                self.speakers[tag] += 1
        if len(pair) == 2:
            pair[TRIPLES] = {**pair[IMAGES], "speech": pair[SPEECH]["speech"]}
        for source, codes in pair.items():
            spoken = item.language if source == SPEECH else ""
            self._add(
                item.split, source, Example(key=item.key, group=item.group, codes=codes, language=spoken)
            )

    def _frames(self, waveform: np.ndarray) -> np.ndarray:
        try:
            frames = self.codecs.speech.encode(torch.from_numpy(waveform)).cpu().numpy()
        except ValueError as error:
            raise Rejected(Reason.CORRUPT, f"the tokenizer rejects it: {first_line(error)}") from error
        if not len(frames):
            raise Rejected(Reason.DURATION, f"{len(waveform)} samples are too few for one frame")
        return frames

    def _add(self, split: str, source: str, example: Example) -> None:
        place = (split, source)
        self.open.setdefault(place, []).append(example)
        self.num_codes[place] += example.num_codes
        if self.num_codes[place] >= self.options.shard_codes:
            self._close(*place)

    def _close(self, split: str, source: str) -> None:
        place = (split, source)
        examples = self.open.pop(place)
        file = f"{split}/{source}-{self.part.number:06d}-{self.numbers[place]:03d}.safetensors"
        self.numbers[place] += 1
        self.num_codes[place] = 0
        self.shards.append(write_shard(self.out, file, source=source, split=split, examples=examples))


def _column(ids: list[int]) -> np.ndarray:
    return np.asarray(ids, dtype=np.int64).reshape(-1, 1)
