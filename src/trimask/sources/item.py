"""The output of readers: encoded items, and rejections of rows and files that could not be read."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from trimask.media.arrays import as_wav, is_array
from trimask.media.names import find_named, reader_of
from trimask.media.rejection import Reason, Rejected, Rejection
from trimask.sources.columns import Columns
from trimask.sources.links import is_within
from trimask.sources.options import PrepareOptions
from trimask.sources.stated import place_within

Media = bytes | Path | None


class SourceUnavailable(RuntimeError):
    """A remote source cannot be reached at the moment. Preparation stops; no items are set aside for it."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One example before decoding.

    Attributes:
        key: the file and the position in it.
        modalities: those that the item must have; if one is missing, the item is rejected.
        text: caption, transcript or document: `str`, bytes, or whatever else the source has there.
        group, speaker, language, split, rate: values of the columns with these meanings.
        is_group_of_file: whether examples of one file form a group, rather than those of one text.
        places: paths of its files relative to the source; their folders may name a split.
    """

    key: str
    modalities: frozenset[str]
    text: Any
    image: Media = None
    speech: Media = None
    group: Any = None
    speaker: Any = None
    language: Any = None
    split: Any = None
    rate: Any = None
    is_group_of_file: bool = False
    places: tuple[str, ...] = ()


class Reader(ABC):
    """A part of the input that one worker reads from beginning to end. Each reading gives the same items."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The name of the part in reports."""

    @property
    def num_expected(self) -> int | None:
        """The number of items, if it is known before reading; else None."""
        return None

    @abstractmethod
    def check(self, options: PrepareOptions) -> None:
        """Raise `ColumnError` if the options do not fit the columns of the source."""

    @abstractmethod
    def items(self, options: PrepareOptions) -> Iterator[Item | Rejection]:
        """Yield the items in order. May raise any exception of the file format's library."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class UnusedFile(Reader):
    """A file without training data; it yields one rejection that says why."""

    name: str
    detail: str
    reason: Reason = Reason.UNUSED_FILE

    @property
    def label(self) -> str:
        return self.name

    @property
    def num_expected(self) -> int | None:
        return 0

    def check(self, options: PrepareOptions) -> None:
        pass

    def items(self, options: PrepareOptions) -> Iterator[Item | Rejection]:
        yield Rejection(key=self.name, reason=self.reason, detail=self.detail)


def item_of_row(values: Mapping[str, Any], columns: Columns, *, key: str, root: Path, folder: Path) -> Item:
    """Convert a table row to an item. File names are relative to `folder` and must stay within `root`.

    Raises:
        Rejected: a file is missing, or a value is no picture or recording.
    """
    modalities = {"text"}
    media: dict[str, Media] = {}
    places: list[str] = []
    for modality, name in (("image", columns.image), ("speech", columns.audio)):
        if name is not None:
            modalities.add(modality)
            value = value_at(values, name)
            found = _media(value, root, folder, follow_links=columns.follows_links)
            media[modality] = found
            places += _places(value, found, root)
    return Item(
        key=key,
        modalities=frozenset(modalities),
        text=value_at(values, columns.text),
        group=normalize_value(value_at(values, columns.group)),
        speaker=normalize_value(value_at(values, columns.speaker))
        if columns.speaker
        else _reader(media.get("speech")),
        language=normalize_value(value_at(values, columns.language)),
        split=normalize_value(value_at(values, columns.split)),
        rate=normalize_value(value_at(values, columns.rate)),
        is_group_of_file=columns.is_group_of_file,
        places=tuple(places),
        **media,
    )


def _reader(recording: Media) -> str | None:
    return reader_of(recording) if isinstance(recording, Path) else None


def value_at(values: Mapping[str, Any], name: str | None) -> Any:
    """Return the value of a column; "json.caption" is the field `caption` of the object in column `json`."""
    if name is None or name in values:
        return values.get(name) if name is not None else None
    outer, _, inner = name.partition(".")
    value = values.get(outer)
    return value.get(inner) if isinstance(value, Mapping) else None


def normalize_value(value: Any) -> Any:
    """Normalize a value: whole floats to `int`, and NaN and blank strings to None.

    A column of whole numbers with missing values is often stored as floats, with 3.0 for 3.
    """
    if isinstance(value, float):
        return None if value != value else int(value) if value.is_integer() else value
    return None if isinstance(value, str) and not value.strip() else value


def column_names(values: Mapping[str, Any]) -> list[str]:
    """Return the column names of a row, with fields of objects as `object.field`."""
    names: list[str] = []
    for name, value in values.items():
        names.append(str(name))
        if isinstance(value, Mapping) and "bytes" not in value:
            names += [f"{name}.{inner}" for inner in value]
    return names


def file_within(root: Path, folder: Path, name: str, *, follow_links: bool = True) -> Path:
    """Find the file `name` in `folder` or in the subfolders where data sets usually keep their files.

    The file may be a link that leads out of `root`, as in a hub's cache: the user created it, whereas the
    name, which is untrusted, must not lead out.

    Raises:
        Rejected: there is no such file, or it is outside `root`.
    """
    path = find_named(folder, name)
    if path is None:
        what = "URLs are not downloaded: give local files" if "://" in name else "there is no such file"
        raise Rejected(Reason.MISSING_FILE, f"{name[:200]!r}: {what}")
    if not is_within(root, path, follow_links=follow_links):
        raise Rejected(Reason.MISSING_FILE, f"{name!r} is outside the source, or is a link")
    return path


def printable(name: str) -> str:
    """Make a file name valid text: bytes that are not UTF-8 are written as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _places(value: Any, media: Media, root: Path) -> list[str]:
    """Return the path of a row's file relative to the source; of embedded bytes, the stored relative path."""
    if isinstance(media, Path):
        return [place_within(root, media)]
    path = value.get("path") if isinstance(value, Mapping) else None
    is_relative = isinstance(path, str) and "://" not in path and not path.startswith("/")
    return [path] if isinstance(path, str) and is_relative else []


def _media(value: Any, root: Path, folder: Path, *, follow_links: bool) -> Media:
    if isinstance(value, Mapping):
        if is_array(value):
            return as_wav(value)
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return file_within(root, folder, value, follow_links=follow_links)
    raise Rejected(Reason.CORRUPT, f"{type(value).__name__} instead of an encoded picture or recording")
