"""A source -> parts: what is read by one worker, in an order that depends on the source alone."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from trimask.data.prepare import archive, picture, recording, table
from trimask.data.prepare.archive import Archive
from trimask.data.prepare.columns import ColumnError
from trimask.data.prepare.files import MediaFiles, TextFiles
from trimask.data.prepare.hugging_face import HubShard, ParquetFile, current_revision, load_splits
from trimask.data.prepare.item import Reader, SourceUnavailable, UnusedFile, printable
from trimask.data.prepare.options import PrepareOptions
from trimask.data.prepare.rejection import first_line
from trimask.data.prepare.stated import file_split, folder_split, split_name
from trimask.data.prepare.table import TableRows
from trimask.data.prepare.unreviewed import without_unreviewed

MEDIA = picture.SUFFIXES | recording.SUFFIXES
_FILES_PER_PART = 512
_ROWS_PER_PART = 512  # of a table that names files
_CHECKED_PARTS = 16  # of each kind
_TABLE_BYTES = 8_000_000  # of a table of text


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The unit of work. `split`: the source's own name for where all of it belongs, if it has one."""

    number: int
    reader: Reader
    split: str | None


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All parts of a source.

    Attributes:
        own_splits: splits that the source names by its files or folders: they are kept, and not drawn.
        fingerprint: changes when the source does: names, sizes and times of its files, or a commit.
    """

    parts: tuple[Part, ...]
    own_splits: frozenset[str]
    fingerprint: str


def make_plan(source: str, options: PrepareOptions) -> Plan:
    """The parts of a file, a folder, or a data set on the hub (`owner/name` or `owner/name:configuration`).

    Raises:
        ColumnError: the columns cannot be told.
        FileNotFoundError, ValueError: there is no such source, or nothing in it.
    """
    path = Path(source).absolute()  # workers may stand in another folder
    if path.exists():
        root, names = _listing(path)
        readers = list(without_unreviewed(_readers(root, names, options), names))
        fingerprint = _fingerprint(root, names)
    elif source.startswith((".", "/", "~")) or source.endswith("/") or source.count("/") != 1:
        raise FileNotFoundError(f"{source} does not exist (a data set on the hub is called owner/name)")
    else:
        readers, fingerprint = hub_readers(source, options)
    if not readers:
        raise ValueError(f"{source} has no files: give a folder, a file, or a data set on the hub")
    _check_columns([reader for reader, _ in readers], options)
    parts = (Part(number=n, reader=reader, split=split) for n, (reader, split) in enumerate(readers))
    own = frozenset(split for _, split in readers if split is not None)
    return Plan(parts=tuple(parts), own_splits=own, fingerprint=fingerprint)


def hub_readers(source: str, options: PrepareOptions) -> tuple[list[tuple[Reader, str | None]], str]:
    """The shards of each split of a data set that `datasets.load_dataset` finds, and its commit."""
    name, _, configuration = source.partition(":")
    splits = load_splits(name, configuration or None, options.revision)
    revision = current_revision(name, options.revision)
    readers: list[tuple[Reader, str | None]] = []
    for split, stored in splits.items():
        own = split_name(str(split))
        for index in range(stored.num_shards):
            reader = HubShard(
                dataset=name,
                configuration=configuration or None,
                revision=revision,
                split=str(split),
                index=index,
                num_shards=stored.num_shards,
            )
            readers.append((reader, own))
    return readers, revision or name


def _listing(path: Path) -> tuple[Path, list[str]]:
    """The folder and the names of its files, sorted; hidden files are not listed."""
    if path.is_file():
        return path.parent, [path.name]
    names = []
    for folder, subfolders, files in os.walk(path):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        inside = Path(folder).relative_to(path)
        names += [(inside / name).as_posix() for name in files if not name.startswith(".")]
    return path, sorted(names)


def _fingerprint(root: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        status = (root / name).stat(follow_symlinks=False)
        digest.update(repr((name, status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()


def _readers(root: Path, names: list[str], options: PrepareOptions) -> Iterator[tuple[Reader, str | None]]:
    """Each file's readers: tables first, since they tell which pictures and recordings they name."""
    # A pipe would never end, a link may lead nowhere.
    kinds = {name: _kind(name) if (root / name).is_file() else "other" for name in names}
    media = [name for name in names if kinds[name] == "media"]
    stems = {name.rpartition(".")[0] for name in media}
    named: set[str] = set()
    texts: list[str] = []
    for name in names:
        if kinds[name] == "parquet":
            named |= _places_of_parquet(root, name, options)
            yield ParquetFile(root=root, name=name), file_split(name)
        elif kinds[name] == "archive":
            yield Archive(root=root, name=name), file_split(name)
        elif kinds[name] == "table":
            for reader in _table_readers(root, name, options, named, has_media=bool(media)):
                yield reader, file_split(name)
        elif kinds[name] == "text" and not media:
            texts.append(name)
        elif kinds[name] == "other" or (kinds[name] == "text" and name.rpartition(".")[0] not in stems):
            detail = "no kind of file that is read" if kinds[name] == "other" else "the caption of no file"
            yield UnusedFile(name=printable(name), detail=detail), None
    rest = [name for name in media if str((root / name).resolve()) not in named]
    for chosen, split in _chunks(rest, folder_split):
        yield MediaFiles(root=root, names=chosen), split
    for chosen, split in _chunks(texts, file_split):
        yield TextFiles(root=root, names=chosen), split


def _kind(name: str) -> str:
    lower = name.lower()
    suffix = Path(lower).suffix
    if lower.endswith(archive.SUFFIXES):
        return "archive"
    if suffix in table.DELIMITED or suffix in table.JSON_LINES:
        return "table"
    return "media" if suffix in MEDIA else {".parquet": "parquet", ".txt": "text"}.get(suffix, "other")


def _table_readers(
    root: Path, name: str, options: PrepareOptions, named: set[str], *, has_media: bool
) -> Iterator[Reader]:
    """Ranges of a table's rows; adds the files that it names to `named`."""
    path = root / name
    try:
        size = path.stat().st_size
        media = table.media_columns(path, options, where=printable(name))
    except ColumnError:  # raised again when the part is checked
        media = ()
    except OSError as error:
        yield UnusedFile(name=printable(name), detail=first_line(error))
        return
    if not media and has_media:
        yield UnusedFile(
            name=printable(name), detail="a table beside pictures or recordings that names no files"
        )
        return
    if not media and path.suffix.lower() in table.JSON_LINES:
        starts = list(range(0, size, _TABLE_BYTES))
    else:
        starts = []
        for number, (offset, files) in enumerate(table.named_files(path, media)):
            starts += [offset] if number % _ROWS_PER_PART == 0 else []
            for file in files:
                named |= _places(path.parent, file)
    for start, stop in zip(starts or [0], [*starts[1:], size], strict=True):
        yield TableRows(root=root, name=name, start=start, stop=stop)


def _places(folder: Path, file: str) -> set[str]:
    """Where a row's file may stand (as `file_within` looks for it)."""
    try:
        paths = [folder / place / file for place in ("", "images", "audio", "clips", "wavs")]
        return {str(path.resolve()) for path in paths if path.is_file()}
    except (OSError, ValueError):
        return set()


def _places_of_parquet(root: Path, name: str, options: PrepareOptions) -> set[str]:
    """Where the files stand that a parquet file names; one that cannot be read is met again by its reader."""
    try:
        files = ParquetFile(root=root, name=name).named_files(options)
        return {place for file in files for place in _places((root / name).parent, file)}
    except Exception:  # whatever its format's library raises
        return set()


def _chunks(names: list[str], split_of) -> Iterator[tuple[tuple[str, ...], str | None]]:
    by_split: dict[str | None, list[str]] = {}
    for name in names:
        by_split.setdefault(split_of(name), []).append(name)
    for split, chosen in by_split.items():
        for start in range(0, len(chosen), _FILES_PER_PART):
            yield tuple(chosen[start : start + _FILES_PER_PART]), split


def _check_columns(readers: list[Reader], options: PrepareOptions) -> None:
    """Raises `ColumnError` if no part of a kind fits, of the first ones; a damaged one says nothing."""
    errors: dict[type[Reader], ColumnError] = {}
    checked: Counter[type[Reader]] = Counter()
    fitting: set[type[Reader]] = set()
    for reader in readers:
        kind = type(reader)
        if kind in fitting or checked[kind] == _CHECKED_PARTS:
            continue
        checked[kind] += 1
        try:
            reader.check(options)
            fitting.add(kind)
        except SourceUnavailable:
            raise
        except ColumnError as error:
            errors.setdefault(kind, error)
        except Exception:  # whatever its format's library raises: it stands in the report once it is read
            continue
    has_tables = bool(fitting - {UnusedFile, MediaFiles, TextFiles})
    for kind, error in errors.items():
        # Loose files have no columns; beside a table that has them, they do without.
        # Pictures can be grouped by themselves; documents among them are grouped by their text.
        is_excused = has_tables if kind is MediaFiles else has_tables or MediaFiles in fitting
        if kind not in fitting and not (is_excused and kind in (MediaFiles, TextFiles)):
            raise error
