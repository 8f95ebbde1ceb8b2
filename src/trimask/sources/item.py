"""What readers give: items, still encoded, and rejections of what could not be read."""

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
    """A remote source cannot be reached now: nothing is set aside for that."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One example before anything of it is decoded.

    Attributes:
        key: file, and the place within it.
        modalities: what the item is to have; a picture that is not there is a fault of the item.
        text: caption, transcript or document: `str`, bytes, or whatever else stood there.
        group, speaker, language, split, rate: of the columns that say so.
        is_group_of_file: whether examples of one file belong together, rather than those of one text.
        places: of its files within the source, whose folders may name a split.
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
    """A part of the input that one worker reads from beginning to end. Always gives the same items."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What reports call it."""

    @property
    def num_expected(self) -> int | None:
        """How many items there may be, where that is known before anything is read."""
        return None

    @abstractmethod
    def check(self, options: PrepareOptions) -> None:
        """Raises `ColumnError` if the options do not fit the columns that are there."""

    @abstractmethod
    def items(self, options: PrepareOptions) -> Iterator[Item | Rejection]:
        """The items in order. May raise whatever its file format's library does: the rest is then lost."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class UnusedFile(Reader):
    """A file that holds nothing to train on."""

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
    """The item of a table's row. Names of files are taken from `folder`, and never lead out of `root`.

    Raises:
        Rejected: a file that is missing, or a value that is no picture or recording.
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
        group=plain(value_at(values, columns.group)),
        speaker=plain(value_at(values, columns.speaker)) if columns.speaker else _reader(media.get("speech")),
        language=plain(value_at(values, columns.language)),
        split=plain(value_at(values, columns.split)),
        rate=plain(value_at(values, columns.rate)),
        is_group_of_file=columns.is_group_of_file,
        places=tuple(places),
        **media,
    )


def _reader(recording: Media) -> str | None:
    return reader_of(recording) if isinstance(recording, Path) else None


def value_at(values: Mapping[str, Any], name: str | None) -> Any:
    """The value of a column; "json.caption" is the field `caption` of the object in column `json`."""
    if name is None or name in values:
        return values.get(name) if name is not None else None
    outer, _, inner = name.partition(".")
    value = values.get(outer)
    return value.get(inner) if isinstance(value, Mapping) else None


def plain(value: Any) -> Any:
    """A value as it was meant: in a column of numbers with gaps 3 stands as 3.0, and nothing as NaN or ""."""
    if isinstance(value, float):
        return None if value != value else int(value) if value.is_integer() else value
    return None if isinstance(value, str) and not value.strip() else value


def column_names(values: Mapping[str, Any]) -> list[str]:
    """The columns of a row, with the fields of objects as `object.field`."""
    names: list[str] = []
    for name, value in values.items():
        names.append(str(name))
        if isinstance(value, Mapping) and "bytes" not in value:
            names += [f"{name}.{inner}" for inner in value]
    return names


def file_within(root: Path, folder: Path, name: str, *, follow_links: bool = True) -> Path:
    """The file `name` of `folder`, or of the subfolders in which data sets keep their files. It may be a link
    that leads out of `root`, as in a hub's cache: the user put that there, and the name does not lead out.

    Raises:
        Rejected: there is none, or it lies outside `root`.
    """
    path = find_named(folder, name)
    if path is None:
        what = "nothing is fetched from an address" if "://" in name else "there is no such file"
        raise Rejected(Reason.MISSING_FILE, f"{name[:200]!r}: {what}")
    if not is_within(root, path, follow_links=follow_links):
        raise Rejected(Reason.MISSING_FILE, f"{name!r} lies outside the source, or is a link")
    return path


def printable(name: str) -> str:
    """A file name as valid text: bytes that are no UTF-8 are written as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _places(value: Any, media: Media, root: Path) -> list[str]:
    """Where the file of a row stands in the source; of an embedded one, where it stood, if that is told."""
    if isinstance(media, Path):
        return [place_within(root, media)]
    path = value.get("path") if isinstance(value, Mapping) else None
    is_told = isinstance(path, str) and "://" not in path and not path.startswith("/")
    return [path] if isinstance(path, str) and is_told else []


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
