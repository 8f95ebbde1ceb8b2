"""The text of a picture or recording that no table names: in a file beside it, or the name of its folder."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from trimask.data.prepare.item import Item, printable
from trimask.data.prepare.names import composed, names_alike, same_name
from trimask.data.prepare.options import PrepareOptions
from trimask.data.prepare.rejection import Reason, Rejected, Rejection
from trimask.data.prepare.stated import split_name

SUFFIXES = (".txt", ".caption", ".lab", ".normalized.txt")


def caption_of(root: Path, path: Path, options: PrepareOptions) -> str | bytes | None:
    """The caption or transcript of the file at `path`; None where none is needed.

    Raises:
        Rejected: there is none, or it is too long.
    """
    if options.caption_from == "folder":
        return _folder_name(root, path)
    beside = caption_beside(path)
    if beside is None or (beside.is_symlink() and not options.follow_links):
        if not options.needs_text:
            return None
        detail = "no row of a table names it, and there is no .txt of its name beside it"
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
