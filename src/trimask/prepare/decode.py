"""Decode items into text, pixels and audio samples."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from jaxtyping import Float32, UInt8
from numpy import ndarray

from trimask import rng
from trimask.media.picture import decode_picture
from trimask.media.recording import decode_recording
from trimask.media.regular import read_bounded
from trimask.media.rejection import Reason, Rejected, Rejection, first_line
from trimask.prepare.decision import Decision
from trimask.prepare.identity import file_node
from trimask.prepare.passages import clean_text
from trimask.sources.captions import expand_text_lists
from trimask.sources.columns import ColumnError
from trimask.sources.item import Item, Media, SourceUnavailable
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import Part
from trimask.sources.stated import column_split


def read_part(part: Part, options: PrepareOptions) -> Iterator[Item | Rejection]:
    """Yield the items of a part, with one rejection at the end if its file cannot be read further.

    Raises:
        SourceUnavailable: a remote source fails.
    """
    items = expand_text_lists(part.reader.items(options))
    label, count = part.reader.label, 0
    while True:
        try:
            item = next(items, None)
        except SourceUnavailable:
            raise
        except ColumnError as error:
            yield Rejection(key=label, reason=Reason.COLUMNS, detail=str(error))
            return
        except Exception as error:  # each format's library raises its own types
            detail = f"after {count} items: {first_line(error)}"
            yield Rejection(key=label, reason=Reason.UNREADABLE_FILE, detail=detail)
            return
        if item is None:
            return
        count += 1
        yield item


@final
@dataclass(kw_only=True, slots=True)
class Decoded:
    """A decoded item.

    Attributes:
        group: examples with equal numbers are variants of one thing.
        text, language: "" if absent and not needed.
        pixels: RGB; None if the item has no picture or pictures are left out.
        waveform: mono, full scale ±1; None if the item has no recording or recordings are left out.
    """

    key: str
    group: int
    split: str
    text: str
    speaker: str | None
    language: str
    pixels: UInt8[ndarray, "size size 3"] | None
    waveform: Float32[ndarray, "samples"] | None


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Decoder:
    """Decodes the items of one part.

    Attributes:
        image_size: pixels along each side; None skips pictures.
        sample_rate: in Hz; None skips recordings.
    """

    options: PrepareOptions
    image_size: int | None
    sample_rate: int | None

    def __call__(self, item: Item, decision: Decision) -> Decoded:
        """Decode an item. Raise Rejected if it cannot be used or is set aside by `decision`."""
        text = self._text(item)
        column_split(item.split)
        decision.check()
        return Decoded(
            key=item.key,
            group=self._group(item),
            split=decision.split,
            text=text,
            speaker=None if item.speaker is None else str(item.speaker),
            language=item.language.strip() if isinstance(item.language, str) else "",
            pixels=self._pixels(item),
            waveform=self._waveform(item, text),
        )

    def _text(self, item: Item) -> str:
        try:
            limits, text = self.options.limits, clean_text(item.text)
        except Rejected:
            if self.options.needs_text:
                raise
            return ""
        is_pair = len(item.modalities) > 1
        if is_pair and len(text := text.strip()) > limits.max_caption:
            raise Rejected(Reason.LONG_TEXT, f"{len(text)} characters, the limit is {limits.max_caption}")
        if not is_pair and len(text) > limits.max_bytes:
            raise Rejected(Reason.OVERSIZED, f"{len(text)} characters, the limit is {limits.max_bytes}")
        return text

    def _pixels(self, item: Item) -> UInt8[ndarray, "size size 3"] | None:
        if self.image_size is None or "image" not in item.modalities:
            return None
        data = _bytes(item.image, self.options.limits.max_bytes, "picture")
        return decode_picture(data, size=self.image_size, limits=self.options.limits)

    def _waveform(self, item: Item, text: str) -> Float32[ndarray, "samples"] | None:
        if self.sample_rate is None or "speech" not in item.modalities:
            return None
        return decode_recording(
            _bytes(item.speech, self.options.limits.max_bytes, "recording"),
            sample_rate=self.sample_rate,
            limits=self.options.limits,
            stated_rate=_rate(item.rate),
            num_characters=len(text),
        )

    def _group(self, item: Item) -> int:
        """Return the number of the item's group; without a group, each item has its own."""
        if item.group is not None:
            return rng.key(0, "group", str(item.group))
        if item.is_group_of_file:
            is_by_audio = self.options.group_by == "audio" or item.image is None
            media = item.speech if is_by_audio and item.speech is not None else item.image
            if number := file_node(media, self.options.limits.max_bytes):
                return rng.key(0, "file", number)
        return rng.key(0, "key", item.key)


def _bytes(media: Media, limit: int, what: str) -> bytes:
    if media is None:
        raise Rejected(Reason.EMPTY, f"there is no {what}")
    if isinstance(media, bytes):
        return media
    try:
        return read_bounded(media, limit)
    except OSError as error:
        raise Rejected(Reason.MISSING_FILE, first_line(error)) from error


def _rate(value: object) -> object:
    """Convert a rate written as text in a table, such as "16000" or "16000.0", to a number."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}(\.0*)?\s*", value):
        return int(float(value))
    return value or None
