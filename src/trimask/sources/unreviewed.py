"""Tables that nobody may train on unasked: what listeners refused, or nobody has checked yet."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from trimask.sources.hugging_face import ParquetFile
from trimask.sources.item import Reader, UnusedFile, printable
from trimask.sources.table import TableRows

_REFUSED = {"invalidated": "clips that listeners refused"}
_BESIDE_VALIDATED = {
    "other": "clips that listeners have not agreed on",
    "reported": "sentences that readers complained of",
    "unvalidated_sentences": "sentences that nobody has checked",
}


def unreviewed_tables(names: Sequence[str]) -> dict[str, str]:
    """Of the files of a source, the tables that are called as Common Voice's are, and what they hold.

    All but `invalidated` are such tables only beside `validated`. A source that is one table is read: it was
    asked for.
    """
    every = set(names)
    found: dict[str, str] = {}
    for path in map(PurePosixPath, names if len(every) > 1 else ()):
        known = _REFUSED
        if path.with_stem("validated").as_posix() in every:
            known = _REFUSED | _BESIDE_VALIDATED
        if path.stem.lower() in known:
            found[path.as_posix()] = known[path.stem.lower()]
    return found


def without_unreviewed(
    readers: Iterable[tuple[Reader, str | None]], names: Sequence[str]
) -> Iterator[tuple[Reader, str | None]]:
    """The readers of a source's files, with one that sets it aside for each table of `unreviewed_tables`."""
    unreviewed = unreviewed_tables(names)
    told: set[str] = set()
    for reader, split in readers:
        if not isinstance(reader, TableRows | ParquetFile) or reader.name not in unreviewed:
            yield reader, split
        elif reader.name not in told:
            told.add(reader.name)
            detail = f"{unreviewed[reader.name]}: set aside with the files that it names; to read it, name it"
            yield UnusedFile(name=printable(reader.name), detail=f"{detail} itself as the source"), None
