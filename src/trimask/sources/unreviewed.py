"""Skip tables of Common Voice with clips and sentences that reviewers rejected or have not checked."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from trimask.sources.hugging_face import ParquetFile
from trimask.sources.item import Reader, UnusedFile, printable
from trimask.sources.table import TableRows

_REJECTED = {"invalidated": "clips that reviewers rejected"}
_BESIDE_VALIDATED = {
    "other": "clips that reviewers have not agreed on",
    "reported": "sentences that readers reported",
    "unvalidated_sentences": "sentences that nobody has reviewed",
}


def unreviewed_tables(names: Sequence[str]) -> dict[str, str]:
    """Find tables named like Common Voice's unreviewed ones: name -> what it holds.

    Except for `invalidated`, such a name counts only next to a `validated` table. A source that is a single
    table is always read, since the user asked for it.
    """
    every = set(names)
    found: dict[str, str] = {}
    for path in map(PurePosixPath, names if len(every) > 1 else ()):
        known = _REJECTED
        if path.with_stem("validated").as_posix() in every:
            known = _REJECTED | _BESIDE_VALIDATED
        if path.stem.lower() in known:
            found[path.as_posix()] = known[path.stem.lower()]
    return found


def without_unreviewed(
    readers: Iterable[tuple[Reader, str | None]], names: Sequence[str]
) -> Iterator[tuple[Reader, str | None]]:
    """Replace the readers of each table in `unreviewed_tables` by one reader that sets it aside."""
    unreviewed = unreviewed_tables(names)
    reported: set[str] = set()
    for reader, split in readers:
        if not isinstance(reader, TableRows | ParquetFile) or reader.name not in unreviewed:
            yield reader, split
        elif reader.name not in reported:
            reported.add(reader.name)
            detail = f"{unreviewed[reader.name]}: set aside with the files that it names"
            detail += "; to use it, give this table as the source"
            yield UnusedFile(name=printable(reader.name), detail=detail), None
