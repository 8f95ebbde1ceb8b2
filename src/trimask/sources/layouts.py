"""Classify the text files of a source as captions, documents, lists of media, or unused.

The decision depends on each file's folder: documents next to a single picture stay documents, and captions
whose pictures are missing do not become documents.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import final

from trimask.media.names import name_key, unread_kind
from trimask.sources.captions import caption_beside, caption_in_parallel
from trimask.sources.delimited_table import is_list_of_files
from trimask.sources.options import PrepareOptions

_ABOUT = re.compile(
    r"(readme|licen[cs]e|copying|notice|changelog|attribution|credits|authors|citation)\b.*", re.IGNORECASE
)
ROWS_PER_STRAY = 10  # a table with more rows than this for each picture without text holds documents


@final
@dataclass(frozen=True)
class Layout:
    """The pictures, recordings and `.txt` files of a source.

    Attributes:
        media: includes files in formats that are not supported.
        has_others: whether there are tables, archives or parquet files.
    """

    root: Path
    media: tuple[str, ...]
    texts: tuple[str, ...]
    options: PrepareOptions
    has_others: bool

    @cached_property
    def beside(self) -> dict[str, str]:
        """Picture or recording -> its text file, next to it or in a parallel folder."""
        paths = ((name, self.root / name) for name in self.media)
        found = ((name, caption_beside(path) or caption_in_parallel(self.root, path)) for name, path in paths)
        return {
            name: beside.relative_to(self.root).as_posix() for name, beside in found if beside is not None
        }

    @cached_property
    def captions(self) -> dict[str, str]:
        """Text file -> the picture or recording that it describes, preferably in a supported format."""
        found: dict[str, str] = {}
        for name, caption in self.beside.items():
            if caption not in found or unread_kind(found[caption]):
                found[caption] = name
        return found

    @cached_property
    def lists(self) -> frozenset[str]:
        """Text files that are tables of pictures or recordings with their texts."""
        if not self.media:
            return frozenset()
        texts = (name for name in self.texts if name not in self.captions)
        return frozenset(name for name in texts if is_list_of_files(self.root / name))

    @cached_property
    def captioned(self) -> frozenset[str]:
        """Pictures and recordings whose text does not come from a table."""
        if self.options.caption_from == "folder":
            return frozenset(self.media)
        return frozenset(self.beside)

    def unused_texts(self, named: frozenset[str]) -> Iterator[tuple[str, str]]:
        """Yield (name, reason) for the text files that are not documents.

        Args:
            named: pictures and recordings that tables name.
        """
        free = [name for name in self.texts if name not in self.captions and name not in self.lists]
        num_texts = Counter(_folder(name) for name in free)
        with_captions = {_folder(name) for name in self.captioned} if self.captions else set()
        stems = {_stem(name): name for name in self.media if name not in self.captioned and name not in named}
        for name in free:
            folder = _folder(name)
            if _ABOUT.fullmatch(PurePosixPath(name).name) and (self.has_others or self.media):
                yield name, "a file about the data"
            elif folder in with_captions:
                yield name, "a caption without its picture or recording"
            elif _stem(name) in stems and _folder(stems[_stem(name)]) != folder:
                yield name, f"has the name of {stems[_stem(name)]}, but is not in the same folder"
            elif self.num_below[folder] >= num_texts[folder]:
                detail = "a text that matches none of the pictures or recordings in its folder"
                yield name, f"{detail}: put documents into a folder of their own"

    def num_left_below(self, named: frozenset[str]) -> Counter[str]:
        """Count pictures and recordings without text: folder -> those in it and below."""
        left = (name for name in self.media if name not in named and name not in self.captioned)
        return Counter(folder for name in left for folder in _folders(name))

    @cached_property
    def num_below(self) -> Counter[str]:
        """Folder -> number of pictures and recordings in it and below."""
        return Counter(folder for name in self.media for folder in _folders(name))


def is_table_of_text(name: str, num_rows: int, num_left: int) -> bool:
    """Return whether a table that names no files holds documents, rather than captions without their files.

    Args:
        num_rows: number of rows; counting may stop after `ROWS_PER_STRAY * num_left + 1`.
        num_left: number of pictures and recordings without text in its folder and below.
    """
    is_metadata = PurePosixPath(name).stem.lower() == "metadata"
    return not num_left or (not is_metadata and num_rows > ROWS_PER_STRAY * num_left)


def _folder(name: str) -> str:
    return PurePosixPath(name).parent.as_posix()


def _folders(name: str) -> Iterable[str]:
    return (folder.as_posix() for folder in PurePosixPath(name).parents)


def _stem(name: str) -> str:
    return name_key(PurePosixPath(name).stem)
