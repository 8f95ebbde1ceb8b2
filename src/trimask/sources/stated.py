"""The split that a source itself states for an example: in a column, a file name or a folder name."""

import os
import re
from collections.abc import Iterable
from enum import IntFlag
from pathlib import Path, PurePosixPath
from typing import Any

from trimask.media.rejection import Reason, Rejected

SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("validation", "valid", "val", "dev"), "validation"
)
"""Names of files and folders of a split -> our name for it."""
STATED_SPLITS = SPLITS | {"composition": "composition"}
"""The same for a split column, which may also name `composition`: held-out variants of training examples."""
HELD_OUT = ("composition", "validation", "test")
"""Splits that are not trained on; an example in several of them belongs to the last."""

_KINDS = r"(metadata|captions|transcripts|images?|audio|clips|data)[-_.]"  # "metadata_train.csv"
_PARTS = r"([-_.](images?|audio|clips|wavs|data|set|split|clean|other))"  # "test-clean", "train_images"
_SPLIT_NAME = re.compile(
    rf"(?:{_KINDS})?(?P<split>{'|'.join(sorted(SPLITS, key=len, reverse=True))}){_PARTS}?([-_.]?\d.*)?",
    re.IGNORECASE,
)


class Note(IntFlag):
    """A contradiction in what the source states."""

    NONE = 0
    CONTRADICTION = 1
    """A table of one split names a file in the folder of another."""
    OVERRULED = 2
    """A column says `train` for an example that the name of a file or folder holds out."""


def split_name(name: str) -> str | None:
    """Return our name for the split that a file or folder is named after; None if it is not."""
    match = _SPLIT_NAME.fullmatch(name)
    return SPLITS[match["split"].lower()] if match else None


def folder_split(name: str) -> str | None:
    """Return the split of the outermost folder in `name` that is named after one."""
    found = (split_name(part) for part in PurePosixPath(name).parts[:-1])
    return next((split for split in found if split is not None), None)


def file_split(name: str) -> str | None:
    """Return the split of a file with many examples, by its own name or by its folders."""
    return split_name(PurePosixPath(name).name.partition(".")[0]) or folder_split(name)


def place_within(root: Path, path: Path) -> str:
    """Return the path of a file relative to the source, with ".." resolved and links not followed."""
    return Path(os.path.relpath(path, root)).as_posix()


def column_split(value: Any) -> str | None:
    """Return the split that the value of a split column names; None if it is blank.

    Raises:
        Rejected: the value names no split.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    split = STATED_SPLITS.get(str(value).strip().lower())
    if split is None:
        raise Rejected(Reason.UNKNOWN_SPLIT, f"{str(value)!r:.80} is not one of {', '.join(STATED_SPLITS)}")
    return split


def stated_split(column: Any, own: str | None, places: Iterable[str]) -> tuple[str | None, Note]:
    """Return the split that the source states for an example (None if it states none), and contradictions.

    A split column overrides everything else. Without one, the split is that of the table, archive or shard
    with the row, then that of the folder of a file that the row names; if they differ, a held-out one wins.

    Args:
        column: value of the split column.
        own: split of the table, archive or shard.
        places: paths, relative to the source, of the files that the row names.
    """
    folders = [split for split in map(folder_split, places) if split is not None]
    held = [split for split in (own, *folders) if split in HELD_OUT]
    stated = column_split(column)
    if stated is not None:
        return stated, Note.OVERRULED if stated == "train" and held else Note.NONE
    named = [split for split in (own, *folders) if split is not None]
    if not named:
        return None, Note.NONE
    return (held or named)[0], Note.CONTRADICTION if len(set(named)) > 1 else Note.NONE
