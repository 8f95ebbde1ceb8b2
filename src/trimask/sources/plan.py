"""Divide a source into parts, each read by one worker, in an order that depends on the source alone."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import final

from trimask.errors import UserError
from trimask.media.names import MEDIA, find_named, unread_kind
from trimask.media.rejection import Reason, first_line
from trimask.sources import archive, table
from trimask.sources.archive import Archive
from trimask.sources.columns import ColumnError, format_names
from trimask.sources.confined import run_confined
from trimask.sources.delimited_table import DELIMITED
from trimask.sources.files import MediaFiles, TextFiles
from trimask.sources.hub import HubData, current_revision, shards_of
from trimask.sources.hugging_face import HubShard, ParquetFile
from trimask.sources.inventory import fingerprint
from trimask.sources.item import Reader, SourceUnavailable, UnusedFile, printable
from trimask.sources.layouts import ROWS_PER_STRAY, Layout, is_table_of_text
from trimask.sources.links import Listing, list_source
from trimask.sources.options import PrepareOptions
from trimask.sources.stated import file_split, folder_split, split_name
from trimask.sources.table import TableRows
from trimask.sources.unreviewed import without_unreviewed
from trimask.tables.encoding import size_in_utf8

_FILES_PER_PART = 512
_ROWS_PER_PART = 512  # of a table that names files
_CHECKED_PARTS = 16  # of each kind
_TABLE_BYTES = 8_000_000  # of a table of text


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The unit of work. `split` is the split that the source names for the whole part, or None."""

    number: int
    reader: Reader
    split: str | None


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All parts of a source.

    Attributes:
        own_splits: splits named by files or folders of the source; they are kept, and no examples are drawn
            for them.
        fingerprint: a hash of the source's files (see `inventory`), or its commit on the hub.
        listing: the files of a local source; None for the hub.
    """

    parts: tuple[Part, ...]
    own_splits: frozenset[str]
    fingerprint: str
    listing: Listing | None


def make_plan(source: str, options: PrepareOptions) -> Plan:
    """Plan the parts of a file, a folder, or a data set on the hub (`owner/name[:configuration]`).

    Raises:
        ColumnError: a column is missing or ambiguous.
        FileNotFoundError, UserError: the source does not exist or is empty.
    """
    path = Path(source).absolute()  # workers may have another current folder
    if path.exists():
        listing = list_source(path, follow_links=options.follow_links)
        names = list(listing.names)
        readers = list(without_unreviewed(_readers(listing.root, names, options), names))
        readers += [
            (UnusedFile(name=printable(name), detail=printable(why)), None)
            for name, why in sorted(listing.set_aside.items())
        ]
        mark = fingerprint(listing.root, names)
    elif not _may_be_on_the_hub(source):
        near = get_close_matches(path.name, os.listdir(path.parent), 1) if path.parent.is_dir() else []
        there = f"{path.parent} has {near[0]!r}" if near else "a data set on the hub is called owner/name"
        raise FileNotFoundError(f"{source} does not exist ({there})")
    else:
        listing = None
        readers, mark = hub_readers(source, options)
    if not readers:
        raise UserError(f"{source} has no files: give a folder, a file, or a data set on the hub")
    _check_columns([reader for reader, _ in readers], options)
    parts = (Part(number=n, reader=reader, split=split) for n, (reader, split) in enumerate(readers))
    own = frozenset(split for _, split in readers if split is not None)
    return Plan(parts=tuple(parts), own_splits=own, fingerprint=mark, listing=listing)


def join_plans(plans: Sequence[Plan]) -> Plan:
    """Combine several plans into one. A split that any of the sources names is drawn from none of them."""
    parts = [part for plan in plans for part in plan.parts]
    return Plan(
        parts=tuple(replace(part, number=number) for number, part in enumerate(parts)),
        own_splits=frozenset(split for plan in plans for split in plan.own_splits),
        fingerprint=" ".join(plan.fingerprint for plan in plans),
        listing=None,
    )


def _may_be_on_the_hub(source: str) -> bool:
    """Return whether `source` looks like `owner/name` rather than a mistyped path in an existing folder."""
    is_path = source.startswith((".", "/", "~")) or source.endswith("/") or source.count("/") != 1
    return not is_path and not Path(source).parent.is_dir()


def hub_readers(source: str, options: PrepareOptions) -> tuple[list[tuple[Reader, str | None]], str]:
    """Return readers for the shards of each split of a data set on the hub, and its commit."""
    name, _, configuration = source.partition(":")
    named = HubData(dataset=name, configuration=configuration or None, revision=options.revision)
    (splits,) = run_confined(shards_of, named)
    found = replace(named, revision=current_revision(named))
    readers: list[tuple[Reader, str | None]] = []
    for split, num_shards in splits.items():
        for index in range(num_shards):
            reader = HubShard(data=found, split=split, index=index, num_shards=num_shards)
            readers.append((reader, split_name(split)))
    return readers, found.revision or name


def _readers(root: Path, names: list[str], options: PrepareOptions) -> Iterator[tuple[Reader, str | None]]:
    """Yield the readers of each file with its split; tables come first, since they claim media files."""
    # Only regular files: reading a pipe might never end, and a link may be broken.
    kinds = {name: _kind(name) if (root / name).is_file() else "other" for name in names}

    def of_kind(*wanted: str) -> tuple[str, ...]:
        return tuple(name for name in names if kinds[name] in wanted)

    layout = Layout(
        root=root,
        media=of_kind("media", "unread"),
        texts=of_kind("text"),
        options=options,
        has_others=bool(of_kind("table", "archive", "parquet")),
    )
    paths: set[str] = set()
    for name in of_kind("parquet"):
        paths |= _places_of_parquet(root, name, options)
        yield ParquetFile(root=root, name=name), file_split(name)
    for name in of_kind("archive"):
        yield Archive(root=root, name=name), file_split(name)
    nameless: list[str] = []
    for name in names:
        if kinds[name] == "table" or name in layout.lists:
            readers = list(_table_readers(root, name, options, paths, has_captions=bool(layout.captioned)))
            nameless += [] if readers else [name]
            for reader in readers:
                yield reader, file_split(name)
    named = frozenset(name for name in layout.media if str((root / name).resolve()) in paths)
    num_left = layout.num_left_below(named)
    for name in nameless:
        for reader in _text_table_readers(root, name, options, num_left[Path(name).parent.as_posix()]):
            yield reader, file_split(name)
    unused = dict(layout.unused_texts(named))
    unused |= {
        name: f"{Path(name).suffix} is not supported: save it as PNG or WAV" for name in of_kind("unread")
    }
    unused |= {caption: f"the text of {of}" for caption, of in layout.captions.items() if of in unused}
    others = (name for name in of_kind("other") if name not in layout.captions)
    unused |= dict.fromkeys(others, "a type of file that is not read")
    for name, detail in sorted(unused.items()):
        yield UnusedFile(name=printable(name), detail=printable(detail)), None
    for chosen, split in _chunks([name for name in of_kind("media") if name not in named], folder_split):
        yield MediaFiles(root=root, names=chosen), split
    used = layout.captions.keys() | layout.lists | unused.keys()
    for chosen, split in _chunks([name for name in layout.texts if name not in used], file_split):
        yield TextFiles(root=root, names=chosen), split


def _kind(name: str) -> str:
    lower = name.lower()
    suffix = Path(lower).suffix
    if lower.endswith(archive.SUFFIXES):
        return "archive"
    if suffix in table.JSON or (suffix in DELIMITED and suffix != ".txt"):
        return "table"
    if unread_kind(name) is not None:
        return "unread"
    return "media" if suffix in MEDIA else {".parquet": "parquet", ".txt": "text"}.get(suffix, "other")


def _table_readers(
    root: Path, name: str, options: PrepareOptions, paths: set[str], *, has_captions: bool
) -> Iterator[Reader]:
    """Yield readers for a table that names media files, and add their paths to `paths`; else none."""
    path = root / name
    try:
        if why := _why_without_rows(path):
            yield UnusedFile(name=printable(name), detail=why, reason=Reason.EMPTY)
            return
        media = table.media_columns(path, options, where=printable(name))
    except ColumnError:  # raised again by `_check_columns`
        media = ()
    except OSError as error:
        yield UnusedFile(name=printable(name), detail=first_line(error))
        return
    if media and (error := _missing_columns(root, name, options)) is not None:
        # A table of durations or boxes must not claim files that have captions.
        yield (
            UnusedFile(name=printable(name), detail=str(error))
            if has_captions
            else _ranges(root, name, [])[0]
        )
    elif media:
        starts = []
        for number, (offset, files) in enumerate(table.named_files(path, media)):
            starts += [offset] if number % _ROWS_PER_PART == 0 else []
            for file in files:
                paths |= _places(path.parent, file)
        yield from _ranges(root, name, starts)


def _why_without_rows(path: Path) -> str | None:
    """Return why a table has no rows to read, else None. Its missing columns must not stop preparation."""
    first = next((row for _, row in table.rows(path, 0, size_in_utf8(path))), None)
    if first is None:
        return "a table without rows"
    return (
        None if table.header(path) else f"no row that can be read: {getattr(first, 'detail', 'no columns')}"
    )


def _text_table_readers(root: Path, name: str, options: PrepareOptions, num_left: int) -> Iterator[Reader]:
    """Yield readers for a table that names no files, if it holds documents; else one that sets it aside.

    Args:
        num_left: number of pictures and recordings without text in its folder and below.
    """
    path = root / name
    size = size_in_utf8(path)
    if num_left:
        num_rows = sum(1 for _ in islice(table.rows(path, 0, size), ROWS_PER_STRAY * num_left + 1))
        if not is_table_of_text(name, num_rows, num_left):
            what = "a table next to pictures or recordings that names none of them"
            columns = format_names(table.header(path))
            detail = f"{what} (its columns are {columns}): give --image-column or --audio-column"
            yield UnusedFile(name=printable(name), detail=detail)
            return
    if table.is_cut_anywhere(path):
        yield from _ranges(root, name, list(range(0, size, _TABLE_BYTES)))
    else:
        offsets = (offset for offset, _ in table.rows(path, 0, size))
        yield from _ranges(root, name, list(islice(offsets, 0, None, _ROWS_PER_PART)))


def _missing_columns(root: Path, name: str, options: PrepareOptions) -> ColumnError | None:
    try:
        TableRows(root=root, name=name, start=0, stop=0).check(options)
    except ColumnError as error:
        return error
    return None


def _ranges(root: Path, name: str, starts: list[int]) -> list[TableRows]:
    size = size_in_utf8(root / name)
    ranges = zip(starts or [0], [*starts[1:], size], strict=True)
    return [TableRows(root=root, name=name, start=start, stop=stop) for start, stop in ranges]


def _places(folder: Path, file: str) -> set[str]:
    """Return the path of a row's file (as `file_within` finds it), if there is one."""
    found = find_named(folder, file)
    return set() if found is None else {str(found.resolve())}


def _places_of_parquet(root: Path, name: str, options: PrepareOptions) -> set[str]:
    """Return the paths of the files that a parquet file names; errors occur again when it is read."""
    try:
        files = ParquetFile(root=root, name=name).named_files(options)
        return {place for file in files for place in _places((root / name).parent, file)}
    except Exception:  # the library raises many types
        return set()


def _chunks(
    names: list[str], split_of: Callable[[str], str | None]
) -> Iterator[tuple[tuple[str, ...], str | None]]:
    by_split: dict[str | None, list[str]] = {}
    for name in names:
        by_split.setdefault(split_of(name), []).append(name)
    for split, chosen in by_split.items():
        for start in range(0, len(chosen), _FILES_PER_PART):
            yield tuple(chosen[start : start + _FILES_PER_PART]), split


def _check_columns(readers: list[Reader], options: PrepareOptions) -> None:
    """Raise `ColumnError` if none of the first parts of a kind fits the options; skip damaged parts."""
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
        except Exception:  # the library raises many types; the error is reported when the part is read
            continue
    has_tables = bool(fitting - {UnusedFile, MediaFiles, TextFiles})
    for kind, error in errors.items():
        # Loose files have no columns, which is accepted next to a table that has them. If media files fit
        # (--group-by image), documents next to them are grouped by their text.
        is_excused = has_tables if kind is MediaFiles else has_tables or MediaFiles in fitting
        if kind not in fitting and not (is_excused and kind in (MediaFiles, TextFiles)):
            raise error
