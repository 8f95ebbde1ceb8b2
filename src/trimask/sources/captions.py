"""The text of a picture or recording that no table names: in a file beside it, or the name of its folder."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from trimask.media.names import composed, names_alike, reader_of, same_name
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
"""What a folder of texts is called that stands beside one of pictures or recordings."""
_MICROPHONE = re.compile(r"_mic\d$")  # of VCTK: two recordings of one text


def caption_of(root: Path, path: Path, options: PrepareOptions) -> str | bytes | None:
    """The caption or transcript of the file at `path`; None where none is needed.

    Raises:
        Rejected: there is none, or it is too long.
    """
    if options.caption_from == "folder":
        return _folder_name(root, path)
    beside = caption_beside(path) or caption_in_parallel(root, path)
    if beside is None or (beside.is_symlink() and not options.follow_links):
        if not options.needs_text:
            return None
        detail = "no row of a table names it, and no .txt of its name is beside it or in a folder of texts"
        raise Rejected(Reason.NO_TEXT, f"{detail} (--caption-from folder takes the name of its folder)")
    size = beside.stat().st_size
    if size > options.limits.max_caption * 4:
        raise Rejected(Reason.LONG_TEXT, f"{size} bytes in {printable(beside.name)}")
    return beside.read_bytes()


def caption_beside(path: Path) -> Path | None:
    """The file with the text of `path`: `a.jpg.txt` before `a.txt`, or another of `SUFFIXES`."""
    alike = names_alike(path.parent)
    for base in (path.name, path.stem):
        for suffix in SUFFIXES:
            names = [name for name in alike.get(same_name(base + suffix), ()) if name != path.name]
            # Of names that differ in capitals alone, the one with its own.
            names.sort(key=lambda name: not composed(name).startswith(composed(base)))
            for name in names:
                if (path.parent / name).is_file():
                    return path.parent / name
    return None


def caption_in_parallel(root: Path, path: Path) -> Path | None:
    """The file with the text of `path` in a folder of texts beside one of those in which it stands, under the
    same names below it: `txt/p225/p225_001.txt` of `wav48/p225/p225_001_mic1.flac`.
    """
    found = _parallel(root, path)
    return None if found is None else found[0]


def speaker_of_folder(root: Path, path: Path) -> str | None:
    """Who speaks, where texts are in a folder of their own: the folder below that of the recordings; or the
    reader, in the folders of LibriTTS.
    """
    if (reader := reader_of(path)) is not None:
        return reader
    found = _parallel(root, path)
    folders = [] if found is None else [name for name in found[1] if split_name(name) is None]
    return folders[0] if folders else None


def _parallel(root: Path, path: Path) -> tuple[Path, tuple[str, ...]] | None:
    """The text, and the folders between those that stand beside one another and the files."""
    folders = path.relative_to(root).parts[:-1]
    names = dict.fromkeys((path.name, _MICROPHONE.sub("", path.stem) + path.suffix))
    for depth in range(len(folders)):
        parent, below = root.joinpath(*folders[:depth]), folders[depth + 1 :]
        alike = names_alike(parent)
        for word in sorted(PARALLEL - {folders[depth].lower()}):
            for sibling in alike.get(word, ()):
                folder = parent.joinpath(sibling, *below)
                if folder.is_dir():
                    texts = (caption_beside(folder / name) for name in names)
                    if text := next((text for text in texts if text is not None), None):
                        return text, below
    return None


def one_text_each(items: Iterable[Item | Rejection]) -> Iterator[Item | Rejection]:
    """The items; one with a list of texts becomes an example with each of them, in order."""
    for item in items:
        if isinstance(item, Rejection) or not isinstance(item.text, list | tuple) or not item.text:
            yield item
            continue
        for number, text in enumerate(item.text):
            yield replace(item, key=f"{item.key}#{number}", text=text)


def _folder_name(root: Path, path: Path) -> str:
    """The nearest folder that is not called after a split, as words."""
    for folder in path.relative_to(root).parts[-2::-1]:
        if split_name(folder) is None:
            return " ".join(folder.replace("_", " ").split())
    raise Rejected(Reason.NO_TEXT, "it stands in no folder whose name could be its caption")
