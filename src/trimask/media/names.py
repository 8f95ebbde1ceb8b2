"""Names of files as tables and people write them -> the file that is meant.

A name that was typed elsewhere may have its accents composed otherwise (NFC, NFD), other capitals,
backslashes between folders, or no suffix.
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
"""Where data sets keep the files that a table beside these folders names."""
_NUMBERED = re.compile(r"#\d+$")  # "dog.jpg#0": one of several captions


def name_key(name: str) -> str:
    """Equal for names that differ in capitals, or in how their accents are composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def compose_accents(name: str) -> str:
    """The name with its accents composed."""
    return unicodedata.normalize("NFC", name)


def names_by_key(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """The names in a folder by `name_key`."""
    return _names_by_key(folder, folder.stat().st_mtime_ns)


def find_named(folder: Path, name: str) -> Path | None:
    """The file that `name` means, in `folder` or the subfolders in which data sets keep their files."""
    try:
        return _find(folder, name) or _find(folder, _NUMBERED.sub("", name))
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return None


def media_kind(name: object) -> Literal["image", "audio"] | None:
    """What a file is by its name."""
    suffix = Path(name).suffix.lower() if isinstance(name, str) else ""
    return "image" if suffix in picture.SUFFIXES else "audio" if suffix in recording.SUFFIXES else None


def unread_kind(name: object) -> Literal["image", "audio"] | None:
    """The same for a kind of file that is not read."""
    suffix = Path(name).suffix.lower() if isinstance(name, str) else ""
    return "image" if suffix in UNREAD_PICTURES else "audio" if suffix in UNREAD_RECORDINGS else None


def kind_within(folder: Path, name: object) -> Literal["image", "audio"] | None:
    """What a file is, by its name or by that of the file which is meant."""
    kind = media_kind(name)
    if kind is None and isinstance(name, str) and name and (found := find_named(folder, name)):
        return media_kind(found.name)
    return kind


def refers_to_media(folder: Path, name: str) -> bool:
    """Whether `name` means a picture or recording that is there."""
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
        # Of names that differ in capitals alone, the one with those that were asked for.
        exact = [found for found in files if compose_accents(found).startswith(compose_accents(parts[-1]))]
        files = exact if len(files) > 1 else files
        if len(files) == 1:
            return folder / files[0]
    return None


def _stem_key(name: str) -> str:
    return "/" + name_key(name)  # no name of a file has a slash


@functools.lru_cache(maxsize=64)
def _names_by_key(folder: Path, _time: int) -> Mapping[str, tuple[str, ...]]:
    # Pictures and recordings also without their suffix.
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(folder.iterdir()):
        keys = [name_key(path.name)]
        if path.suffix.lower() in MEDIA:
            keys.append(_stem_key(path.name[: -len(path.suffix)]))
        for key in keys:
            found[key] = (*found.get(key, ()), path.name)
    return found


def reader_of(path: Path) -> str | None:
    """Who reads the recording, where it stands as LibriSpeech has it: READER/CHAPTER/READER-CHAPTER-0000.flac
    (LibriTTS: with underscores).
    """
    chapter, reader = path.parent.name, path.parent.parent.name
    is_named = reader and path.stem.startswith((f"{reader}-{chapter}-", f"{reader}_{chapter}_"))
    return reader if is_named else None
