"""What a source itself says about the split of an example: by a column, by its files' names, by folders."""

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
"""What files and folders of a split are called -> what we call it."""
STATED_SPLITS = SPLITS | {"composition": "composition"}
"""The same for a column of splits, which may also name held-out variants of what is trained on."""
HELD_OUT = ("composition", "validation", "test")
"""The splits that are not trained on; of two that claim one thing, the later has it."""

_KINDS = r"(metadata|captions|transcripts|images?|audio|clips|data)[-_.]"  # "metadata_train.csv"
_PARTS = r"([-_.](images?|audio|clips|wavs|data|set|split|clean|other))"  # "test-clean", "train_images"
_SPLIT_NAME = re.compile(
    rf"(?:{_KINDS})?(?P<split>{'|'.join(sorted(SPLITS, key=len, reverse=True))}){_PARTS}?([-_.]?\d.*)?",
    re.IGNORECASE,
)


class Note(IntFlag):
    """Where the source contradicts itself."""

    NONE = 0
    CONTRADICTION = 1
    """A table of one split names a file in the folder of another."""
    OVERRULED = 2
    """A column trains on what a file's or folder's name holds out."""


def split_name(name: str) -> str | None:
    """What we call the split that a file or folder is named after, if it is."""
    match = _SPLIT_NAME.fullmatch(name)
    return SPLITS[match["split"].lower()] if match else None


def folder_split(name: str) -> str | None:
    """The split of the outermost folder of `name` that is called after one."""
    found = (split_name(part) for part in PurePosixPath(name).parts[:-1])
    return next((split for split in found if split is not None), None)


def file_split(name: str) -> str | None:
    """The split of a file that holds many examples: by its own name, or its folders'."""
    return split_name(PurePosixPath(name).name.partition(".")[0]) or folder_split(name)


def place_within(root: Path, path: Path) -> str:
    """Where a file stands in the source, as it was named: links are not followed, ".." is resolved."""
    return Path(os.path.relpath(path, root)).as_posix()


def column_split(value: Any) -> str | None:
    """The split that a column names.

    Raises:
        Rejected: it names something else.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    split = STATED_SPLITS.get(str(value).strip().lower())
    if split is None:
        raise Rejected(Reason.UNKNOWN_SPLIT, f"{str(value)!r:.80} is none of {', '.join(STATED_SPLITS)}")
    return split


def stated_split(column: Any, own: str | None, places: Iterable[str]) -> tuple[str | None, Note]:
    """Where the source says that an example belongs.

    A column of splits has the last word. Without one, the table, archive or shard that holds the row says
    it, then the folder of the file that the row names; where these two contradict each other, what is held
    out is held out.

    Args:
        column: value of the column of splits.
        own: split of the table, archive or shard.
        places: of the files that the row names, within the source.
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
