"""Read loose files: pictures and recordings with captions, and text documents."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from trimask.media import picture, recording
from trimask.media.rejection import Reason, Rejected, Rejection, first_line
from trimask.sources.captions import caption_of, speaker_of_folder
from trimask.sources.columns import GROUPS_OF_FILES, ColumnError, warn_speaker_source
from trimask.sources.item import Item, Reader, printable
from trimask.sources.options import PrepareOptions
from trimask.sources.stated import place_within
from trimask.tables.encoding import size_in_utf8
from trimask.tables.lines import bounded_lines


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class MediaFiles(Reader):
    """Pictures and recordings, each with its text in another file or in the name of its folder."""

    root: Path
    names: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{printable(self.names[0])} and {len(self.names) - 1} more"

    @property
    def num_expected(self) -> int | None:
        return len(self.names)

    def check(self, options: PrepareOptions) -> None:
        stated = {"group-by": options.group_by, "speaker-column": options.speaker_column}
        for option, column in {**stated, "language-column": options.language_column}.items():
            is_by_file = option == "group-by" and column in GROUPS_OF_FILES
            if column is not None and not is_by_file:
                raise ColumnError(
                    f"{self.root} has files without a table, so there is no column {column!r} (--{option}): "
                    "add a metadata.csv next to them"
                )

        recordings = (name for name in self.names if Path(name).suffix.lower() in recording.SUFFIXES)
        first = next(recordings, None)
        if first is not None and (name := speaker_of_folder(self.root, self.root / first)) is not None:
            warn_speaker_source(f"folders ({printable(name)} of {printable(first)})")

    def items(self, options: PrepareOptions) -> Iterator[Item | Rejection]:
        for name in self.names:
            try:
                yield self._item(self.root / name, printable(name), options)
            except Rejected as error:
                yield Rejection(key=printable(name), reason=error.reason, detail=error.detail)
            except OSError as error:
                yield Rejection(key=printable(name), reason=Reason.MISSING_FILE, detail=first_line(error))

    def _item(self, path: Path, key: str, options: PrepareOptions) -> Item:
        is_image = path.suffix.lower() in picture.SUFFIXES
        return Item(
            key=key,
            modalities=frozenset({"text", "image" if is_image else "speech"}),
            text=caption_of(self.root, path, options),
            image=path if is_image else None,
            speech=None if is_image else path,
            speaker=None if is_image else speaker_of_folder(self.root, path),
            # Pictures of one class share its name but show different things.
            is_group_of_file=options.group_by is not None or options.caption_from == "folder",
            places=(place_within(self.root, path),),
        )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TextFiles(Reader):
    """Text files; each document is a file, a paragraph (between blank lines) or a line."""

    root: Path
    names: tuple[str, ...]

    @property
    def label(self) -> str:
        return printable(self.names[0]) + (f" and {len(self.names) - 1} more" if self.names[1:] else "")

    @property
    def num_expected(self) -> int | None:
        return len(self.names)

    def check(self, options: PrepareOptions) -> None:
        if options.group_by is not None:
            raise ColumnError(f"text files have no column {options.group_by!r} (--group-by): leave it out")

    def items(self, options: PrepareOptions) -> Iterator[Item | Rejection]:
        for name in self.names:
            try:
                yield from _documents(self.root / name, printable(name), options)
            except OSError as error:
                yield Rejection(key=printable(name), reason=Reason.MISSING_FILE, detail=first_line(error))


def _documents(path: Path, key: str, options: PrepareOptions) -> Iterator[Item | Rejection]:
    limit, size = options.limits.max_bytes, path.stat().st_size
    if options.sample_by != "document":
        yield from _pieces(path, key, by_line=options.sample_by == "line", limit=limit)
    elif size > limit:
        detail = f"{size} bytes, the limit is {limit}: use --sample-by paragraph or --sample-by line"
        yield Rejection(key=key, reason=Reason.OVERSIZED, detail=detail)
    else:
        yield Item(key=key, modalities=frozenset({"text"}), text=path.read_bytes())


def _pieces(path: Path, key: str, *, by_line: bool, limit: int) -> Iterator[Item | Rejection]:
    """Yield the non-blank lines or paragraphs of a file, holding at most `limit` bytes in memory."""
    held: list[bytes] = []
    began, size = 0, 0

    def piece() -> Item | Rejection:
        place = f"{key}@{began}"
        if size > limit:
            return Rejection(key=place, reason=Reason.OVERSIZED, detail=f"more than {limit} bytes")
        return Item(key=place, modalities=frozenset({"text"}), text=b"".join(held).rstrip(b"\r\n"))

    for offset, line in bounded_lines(path, 0, size_in_utf8(path), limit):
        is_blank = line is not None and not line.strip()
        if size and (is_blank or by_line):
            yield piece()
            held, size = [], 0
        if not is_blank:
            began = began if size else offset
            size += limit + 1 if line is None else len(line)
            held = [] if line is None or size > limit else [*held, line]
    if size:
        yield piece()
