"""Find the files that tables name, despite differences in spelling.

A name written on another system may differ in the composition of accents (NFC, NFD), in case, in slashes and
backslashes, or lack its suffix.
"""

import functools
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from trimask.media import picture, recording

UNREAD_PICTURES = frozenset(
    {".svg", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".eps", ".ico", ".tga", ".ppm"}
)
UNREAD_RECORDINGS = frozenset({".m4a", ".aac", ".wma", ".amr", ".webm", ".mp4", ".mov", ".mkv", ".avi"})
MEDIA = picture.SUFFIXES | recording.SUFFIXES
FOLDERS = ("", "images", "audio", "clips", "wavs", "wav")
"""Folders, relative to a table, in which data sets keep the files that the table names."""
_NUMBERED = re.compile(r"#\d+$")  # "dog.jpg#0": one of several captions


def name_key(name: str) -> str:
    """Normalize a name: names that differ only in case or in the composition of accents have equal keys."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def compose_accents(name: str) -> str:
    """Compose the accents of a name (NFC)."""
    return unicodedata.normalize("NFC", name)


def names_by_key(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the names in a folder by `name_key`, those of media also by stem; cached until it changes."""
    return _names_by_key(folder, folder.stat().st_mtime_ns)


def find_named(folder: Path, name: str) -> Path | None:
    """Find the file that `name` refers to, in `folder` or one of `FOLDERS`; None if it is not unique."""
    try:
        return _find(folder, name) or _find(folder, _NUMBERED.sub("", name))
    except (OSError, ValueError):  # the name is too long or contains a NUL
        return None


def media_kind(name: object) -> Literal["image", "audio"] | None:
    """Return the kind of media that a file's suffix indicates, if its format is supported."""
    suffix = Path(name).suffix.lower() if isinstance(name, str) else ""
    return "image" if suffix in picture.SUFFIXES else "audio" if suffix in recording.SUFFIXES else None


def unread_kind(name: object) -> Literal["image", "audio"] | None:
    """Return the kind of media that a file's suffix indicates, if its format is not supported."""
    suffix = Path(name).suffix.lower() if isinstance(name, str) else ""
    return "image" if suffix in UNREAD_PICTURES else "audio" if suffix in UNREAD_RECORDINGS else None


def kind_within(folder: Path, name: object) -> Literal["image", "audio"] | None:
    """Return the kind of media by the suffix of `name`, or else of the file in `folder` that it refers to."""
    kind = media_kind(name)
    if kind is None and isinstance(name, str) and name and (found := find_named(folder, name)):
        return media_kind(found.name)
    return kind


def refers_to_media(folder: Path, name: str) -> bool:
    """Return whether `name` refers to an existing picture or recording."""
    found = find_named(folder, name)
    return found is not None and media_kind(found.name) is not None


def _find(folder: Path, name: str) -> Path | None:
    for place in FOLDERS:
        path = folder / place / name
        if path.is_file():
            return path
    parts = name.replace("\\", "/").split("/")
    if not name.strip() or ".." in parts or Path(name).is_absolute():
        return None
    parts = [part for part in parts if part not in ("", ".")]
    for place in FOLDERS:
        found = _walk(folder, [place, *parts] if place else parts)
        if found is not None:
            return found
    return None


def _walk(folder: Path, parts: list[str]) -> Path | None:
    if not parts or not folder.is_dir():
        return None
    for part in parts[:-1]:
        folder_names = names_by_key(folder).get(name_key(part), ())
        folder_names = [found for found in folder_names if (folder / found).is_dir()]
        if len(folder_names) != 1:
            return None
        folder /= folder_names[0]
    alike = names_by_key(folder)
    for names in (alike.get(name_key(parts[-1]), ()), alike.get(_stem_key(parts[-1]), ())):
        files = [found for found in names if (folder / found).is_file()]
        # Of names that differ only in case, prefer the exact one.
        exact = [found for found in files if compose_accents(found).startswith(compose_accents(parts[-1]))]
        files = exact if len(files) > 1 else files
        if len(files) == 1:
            return folder / files[0]
    return None


def _stem_key(name: str) -> str:
    return "/" + name_key(name)  # cannot collide with a file name, which has no slash


@functools.lru_cache(maxsize=64)
def _names_by_key(folder: Path, _time: int) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(folder.iterdir()):
        keys = [name_key(path.name)]
        if path.suffix.lower() in MEDIA:
            keys.append(_stem_key(path.name[: -len(path.suffix)]))
        for key in keys:
            found[key] = (*found.get(key, ()), path.name)
    return found


def reader_of(path: Path) -> str | None:
    """Return the reader of a recording in the layout of LibriSpeech, else None.

    That is READER/CHAPTER/READER-CHAPTER-0000.flac, with underscores in LibriTTS.
    """
    chapter, reader = path.parent.name, path.parent.parent.name
    is_named = reader and path.stem.startswith((f"{reader}-{chapter}-", f"{reader}_{chapter}_"))
    return reader if is_named else None
