"""Read the rows of a JSON file that is one document.

It may be an array of objects, an object with such an array, an object of captions by file name, or COCO
annotations.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from trimask.media.names import find_named, media_kind
from trimask.media.rejection import Reason, Rejected
from trimask.tables.encoding import open_utf8, size_in_utf8
from trimask.tables.json_values import JsonError, JsonText, elements, members
from trimask.tables.lines import bounded_lines

_MARK = b"\xef\xbb\xbf"
_NUM_NAMES = 16  # keys examined to recognize captions by file name
_LINE = 1_000_000  # bytes examined to distinguish JSON lines from one document
Row = Mapping[str, Any] | Rejected


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """The kind of a document and the position of its rows.

    Attributes:
        kind: `list`: an array of objects or texts; `captions`: an object, file -> caption; `coco`: an array
            of annotations that refer to pictures by id; `object`: a single row.
        start: byte offset of the first row.
        files: for COCO, picture id -> file.
    """

    kind: Literal["list", "captions", "coco", "object"]
    start: int
    files: Mapping[Any, str]


def is_document(path: Path) -> bool:
    """Return whether a `.json` file is one document, rather than one object per line."""
    lines = (line for _, line in bounded_lines(path, 0, min(size_in_utf8(path), _LINE), _LINE))
    first = next((line for line in lines if line is None or line.strip()), b"")
    if first is None:
        return True
    first = first.removeprefix(_MARK).strip()
    if next((True for line in lines if line is None or line.strip()), False):
        is_begun = first.startswith(b"[") and not _is_json(first)
        return is_begun or (first.startswith(b"{") and first.endswith((b"{", b"[", b",", b":")))
    return first.startswith((b"[", b"{"))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def document_rows(path: Path, start: int, stop: int) -> Iterator[tuple[int, Row]]:
    """Yield (offset, row) for the rows that begin in [start, stop); `start` is 0 or the offset of a row."""
    status = path.stat()
    try:
        document = _document(path, size_in_utf8(path), status.st_mtime_ns)
        with JsonText(path, max(start, document.start)) as text:
            for offset, value in _values(document, text):
                if offset >= stop:
                    return
                yield offset, _row(value, document)
    except JsonError as error:
        if error.offset < stop:
            detail = f"invalid JSON at byte {error.offset}, the rest is not read: {error}"
            yield error.offset, Rejected(Reason.MALFORMED_ROW, detail)


def _values(document: Document, text: JsonText) -> Iterator[tuple[int, Any]]:
    if document.kind in ("list", "coco"):
        yield from elements(text)
    elif document.kind == "captions":
        for offset, name in members(text):
            yield offset, {"file_name": name, "text": text.value()}
    else:
        text.peek()
        yield text.offset, text.value()


def _row(value: Any, document: Document) -> Row:
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, dict):
        return Rejected(Reason.MALFORMED_ROW, f"{type(value).__name__} instead of an object")
    if document.kind != "coco":
        return value
    file = document.files.get(value.get("image_id"))
    if file is None:
        detail = f"image_id {value.get('image_id')!r:.80} is not in `images`"
        return Rejected(Reason.MISSING_FILE, detail)
    return {"file_name": file} | {name: found for name, found in value.items() if name != "file_name"}


@functools.lru_cache(maxsize=4)
def _document(path: Path, _size: int, _time: int) -> Document:
    with open_utf8(path) as file:
        start = len(_MARK) if file.read(3) == _MARK else 0
    with JsonText(path, start) as text:
        if text.take("["):
            text.peek()
            return Document(kind="list", start=text.offset, files={})
        text.expect("{[")
        text.peek()
        inside = text.offset
        lists, files, others = _lists(text)
    if "annotations" in lists and files:
        prefix = _folder_of(path, next(iter(files.values())))
        files = {number: prefix + name for number, name in files.items()}
        return Document(kind="coco", start=lists["annotations"], files=files)
    if len(lists) == 1:
        return Document(kind="list", start=next(iter(lists.values())), files={})
    if others and all(media_kind(name) is not None or find_named(path.parent, name) for name in others):
        return Document(kind="captions", start=inside, files={})
    return Document(kind="object", start=start, files={})


def _lists(text: JsonText) -> tuple[dict[str, int], dict[Any, str], list[str]]:
    """Scan an object.

    Returns:
        The byte offsets of its arrays of objects, by key; the files in `images`, by id; and the first of its
        other keys.
    """
    lists: dict[str, int] = {}
    files: dict[Any, str] = {}
    others: list[str] = []
    for _, name in members(text):
        if text.peek() != "[":
            text.value()
            others += [name] if len(others) < _NUM_NAMES else []
            continue
        text.expect("[")
        text.peek()
        start, is_of_objects = text.offset, False
        for _, value in elements(text):
            is_of_objects |= isinstance(value, dict)
            if name == "images" and isinstance(value, dict) and isinstance(value.get("file_name"), str):
                number = value.get("id")
                if isinstance(number, int | str):
                    files[number] = value["file_name"]
        if is_of_objects:
            lists[name] = start
        elif len(others) < _NUM_NAMES:
            others.append(name)
    return lists, files, others


def _folder_of(path: Path, first: str) -> str:
    """Return the folder of COCO's pictures, relative to that of the annotations; "" if not found.

    For example, `../train2017/` for `annotations/captions_train2017.json`.
    """
    part = path.stem.rpartition("_")[2]
    for folder in ("", "../"):
        for place in ("", "images/", f"{part}/", f"images/{part}/"):
            if (path.parent / folder / place / first).is_file():
                return folder + place
    return ""
