"""Items -> text, pixels and samples: what everything that reads raw data begins with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from jaxtyping import Float32, UInt8
from numpy import ndarray

from trimask import rng
from trimask.data.prepare.columns import ColumnError
from trimask.data.prepare.item import Item, Media, SourceUnavailable
from trimask.data.prepare.options import PrepareOptions
from trimask.data.prepare.passages import clean_text
from trimask.data.prepare.picture import decode_picture
from trimask.data.prepare.plan import STATED_SPLITS, Part
from trimask.data.prepare.recording import decode_recording
from trimask.data.prepare.rejection import Reason, Rejected, Rejection, first_line
from trimask.data.quickstart.splits import hash_fraction
from trimask.vocabulary.modality import Modality


def read_part(part: Part, options: PrepareOptions) -> Iterator[Item | Rejection]:
    """The part's items; what goes wrong with the file as a whole ends it with a rejection.

    Raises SourceUnavailable if a remote source fails.
    """
    items = part.reader.items(options)
    label, count = part.reader.label, 0
    while True:
        try:
            item = next(items, None)
        except SourceUnavailable:
            raise
        except ColumnError as error:
            yield Rejection(key=label, reason=Reason.COLUMNS, detail=str(error))
            return
        except Exception as error:  # each format's library has its own
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
    """An item as it is trained on.

    Attributes:
        group: examples of equal number are variants of one thing.
        text, language: "" where there is none and none is needed.
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
        own_split: where the source says that the part belongs.
        own_splits: splits that the source has itself: they are not drawn.
        image_size: pixels along each side; None leaves pictures out.
        sample_rate: in Hz; None leaves recordings out.
    """

    options: PrepareOptions
    own_split: str | None
    own_splits: frozenset[str]
    image_size: int | None
    sample_rate: int | None

    def __call__(self, item: Item) -> Decoded:
        """Raises Rejected for what is not to be trained on."""
        text = self._text(item)
        group = " ".join(text.lower().split()) if item.group is None else str(item.group)
        return Decoded(
            key=item.key,
            # Without a column that groups, each example is a thing of its own.
            group=rng.key(0, "key", item.key) if item.group is None else rng.key(0, "group", group),
            split=self._split(item, group or item.key),
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
        if self.image_size is None or Modality.IMAGE not in item.modalities:
            return None
        data = _bytes(item.image, self.options.limits.max_bytes, "picture")
        return decode_picture(data, size=self.image_size, limits=self.options.limits)

    def _waveform(self, item: Item, text: str) -> Float32[ndarray, "samples"] | None:
        if self.sample_rate is None or Modality.AUDIO not in item.modalities:
            return None
        return decode_recording(
            _bytes(item.audio, self.options.limits.max_bytes, "recording"),
            sample_rate=self.sample_rate,
            limits=self.options.limits,
            stated_rate=_rate(item.rate),
            num_characters=len(text),
        )

    def _split(self, item: Item, group: str) -> str:
        """The source's own split, else one by the hash of the group; a column of splits has the last word."""
        own = self.own_split
        if item.split is not None:
            own = STATED_SPLITS.get(str(item.split).strip().lower())
            if own is None:
                raise Rejected(
                    Reason.UNKNOWN_SPLIT, f"{str(item.split)!r:.80} is none of {', '.join(STATED_SPLITS)}"
                )
            return own
        if own in ("validation", "test"):
            return own
        position = hash_fraction("split", group)
        validation = 0.0 if "validation" in self.own_splits else self.options.validation
        test = 0.0 if "test" in self.own_splits else self.options.test
        if position < validation:
            return "validation"
        return "test" if position < validation + test else "train"


def _bytes(media: Media, limit: int, what: str) -> bytes:
    if media is None:
        raise Rejected(Reason.EMPTY, f"there is no {what}")
    if isinstance(media, bytes):
        return media
    try:
        size = media.stat().st_size
        if size > limit:
            raise Rejected(Reason.OVERSIZED, f"{size} bytes, the limit is {limit}")
        return media.read_bytes()
    except OSError as error:
        raise Rejected(Reason.MISSING_FILE, first_line(error)) from error


def _rate(value: object) -> int | object:
    """A rate as tables write it: "16000" is a number."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value or None
