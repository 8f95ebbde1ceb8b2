"""Find the text of a picture or recording that no table names: a file next to it, or its folder's name."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from trimask.media.names import compose_accents, name_key, names_by_key, reader_of
from trimask.media.rejection import Reason, Rejected, Rejection
from trimask.sources.item import Item, printable
from trimask.sources.options import PrepareOptions
from trimask.sources.stated import split_name

SUFFIXES = (".txt", ".caption", ".lab", ".normalized.txt")
PARALLEL = frozenset({"txt", "text", "texts", "caption", "captions", "lab", "labels"}) | {
    "transcript",
    "transcripts",
    "transcription",
    "transcriptions",
}
"""Names of folders with texts, parallel to a folder of pictures or recordings."""
_MICROPHONE = re.compile(r"_mic\d$")  # VCTK has two recordings of each text


def caption_of(root: Path, path: Path, options: PrepareOptions) -> str | bytes | None:
    """Return the caption or transcript of the file at `path`; None if it has none and needs none.

    Raises:
        Rejected: the text is missing or too long.
    """
    if options.caption_from == "folder":
        return _folder_name(root, path)
    beside = caption_beside(path) or caption_in_parallel(root, path)
    if beside is None or (beside.is_symlink() and not options.follow_links):
        if not options.needs_text:
            return None
        detail = "no table row names it, and no .txt file of the same name is next to it or in a text folder"
        raise Rejected(Reason.NO_TEXT, f"{detail} (--caption-from folder uses the name of its folder)")
    size = beside.stat().st_size
    if size > options.limits.max_caption * 4:
        raise Rejected(Reason.LONG_TEXT, f"{size} bytes in {printable(beside.name)}")
    return beside.read_bytes()


def caption_beside(path: Path) -> Path | None:
    """Return the text file next to `path`: `a.jpg.txt` before `a.txt`, or another of `SUFFIXES`."""
    alike = names_by_key(path.parent)
    for base in (path.name, path.stem):
        for suffix in SUFFIXES:
            names = [name for name in alike.get(name_key(base + suffix), ()) if name != path.name]
            # Of names that differ only in case, prefer the one with the same case.
            names.sort(key=lambda name: not compose_accents(name).startswith(compose_accents(base)))
            for name in names:
                if (path.parent / name).is_file():
                    return path.parent / name
    return None


def caption_in_parallel(root: Path, path: Path) -> Path | None:
    """Return the text file of `path` in a parallel folder of texts with the same subfolders.

    For example, `txt/p225/p225_001.txt` for `wav48/p225/p225_001_mic1.flac`.
    """
    found = _find_parallel_text(root, path)
    return None if found is None else found[0]


def speaker_of_folder(root: Path, path: Path) -> str | None:
    """Return the speaker that the folders of a recording name; None if they name none.

    This is the reader in a folder tree such as LibriTTS's, or else, if the texts are in a parallel folder,
    the subfolder that both share.
    """
    if (reader := reader_of(path)) is not None:
        return reader
    found = _find_parallel_text(root, path)
    folders = [] if found is None else [name for name in found[1] if split_name(name) is None]
    return folders[0] if folders else None


def _find_parallel_text(root: Path, path: Path) -> tuple[Path, tuple[str, ...]] | None:
    """Return the text file in a parallel folder, and the subfolders that both trees share."""
    folders = path.relative_to(root).parts[:-1]
    names = dict.fromkeys((path.name, _MICROPHONE.sub("", path.stem) + path.suffix))
    for depth in range(len(folders)):
        parent, below = root.joinpath(*folders[:depth]), folders[depth + 1 :]
        alike = names_by_key(parent)
        for word in sorted(PARALLEL - {folders[depth].lower()}):
            for sibling in alike.get(word, ()):
                folder = parent.joinpath(sibling, *below)
                if folder.is_dir():
                    texts = (caption_beside(folder / name) for name in names)
                    if text := next((text for text in texts if text is not None), None):
                        return text, below
    return None


def expand_text_lists(items: Iterable[Item | Rejection]) -> Iterator[Item | Rejection]:
    """Yield the items, replacing one that has a list of texts by one item for each text, in order."""
    for item in items:
        if isinstance(item, Rejection) or not isinstance(item.text, list | tuple) or not item.text:
            yield item
            continue
        for number, text in enumerate(item.text):
            yield replace(item, key=f"{item.key}#{number}", text=text)


def _folder_name(root: Path, path: Path) -> str:
    """Return the name of the nearest folder that is not named after a split, as words."""
    for folder in path.relative_to(root).parts[-2::-1]:
        if split_name(folder) is None:
            return " ".join(folder.replace("_", " ").split())
    raise Rejected(Reason.NO_TEXT, "it is in no folder whose name could be its caption")
