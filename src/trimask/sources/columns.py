"""Find the columns with pictures, recordings and text."""

import functools
import logging
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from trimask.errors import UserError
from trimask.media import picture, recording
from trimask.sources.options import PrepareOptions

logger = logging.getLogger(__name__)

_FILE_WORDS = ("path", "file", "name", "filename", "filepath")
# The columns of an archive are the suffixes of its members.
IMAGE_NAMES = (
    frozenset({"image", "img", "picture", "photo"})
    | {suffix.removeprefix(".") for suffix in picture.SUFFIXES}
    | {f"image_{word}" for word in _FILE_WORDS}
)
AUDIO_NAMES = (
    frozenset({"audio", "speech", "recording"})
    | {suffix.removeprefix(".") for suffix in recording.SUFFIXES}
    | {f"audio_{word}" for word in _FILE_WORDS}
)
TEXT_NAMES = frozenset(
    {"text", "txt", "caption", "captions", "prompt", "sentence", "transcript", "transcription"}
)
FILE_NAMES = frozenset({"file_name", "filename", "file", "file_path", "filepath", "path"})
_LANGUAGE_NAMES = ("language", "lang", "locale")
_SPEAKER_NAMES = ("speaker", "speaker_id", "speaker_name")  # in order of preference
_CLIENT = "client_id"  # of Common Voice; used if none of those is there
GROUPS_OF_FILES = ("image", "audio")
"""Values of `--group-by` that are not columns: examples of one picture or recording are a group."""
_RATE_NAMES = ("sample_rate", "sampling_rate")


class ColumnError(UserError):
    """A needed column is missing or ambiguous; the message lists the columns that exist."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Names of the columns to read. Without picture and recording, each text is a document.

    Attributes:
        follows_links: whether a file that a column names may be a link.
        is_group_of_file: whether examples of one picture or recording form a group.
    """

    text: str | None
    image: str | None = None
    audio: str | None = None
    speaker: str | None = None
    language: str | None = None
    group: str | None = None
    split: str | None = None
    rate: str | None = None
    follows_links: bool = True
    is_group_of_file: bool = False


def find_columns(names: Sequence[str], options: PrepareOptions, *, where: str) -> Columns:
    """Find the columns among `names`, as given in `options` or else by their usual names.

    Args:
        where: the name of the table, for messages.

    Raises:
        ColumnError: a column is missing, or several are candidates.
    """
    text = _find_column("text", options.text_column, TEXT_NAMES, names, where)
    if text is None and options.needs_text:
        raise ColumnError(
            f"{where} has no text column, only {format_names(names)}: name one with --text-column"
        )
    image = _find_column("image", options.image_column, IMAGE_NAMES, names, where)
    audio = _find_column("audio", options.audio_column, AUDIO_NAMES, names, where)
    media = tuple(name for name in (image, audio) if name is not None)
    is_group_of_file = groups_by_file(options, names, media)
    return Columns(
        text=text,
        image=image,
        audio=audio,
        speaker=_require_column("speaker-column", options.speaker_column, names, where)
        or _find_speaker(names),
        language=_require_column("language-column", options.language_column, names, where)
        or _find_language(names),
        group=None if is_group_of_file else _require_column("group-by", options.group_by, names, where),
        split="split" if "split" in names else None,
        rate=next((name for name in _RATE_NAMES if name in names), None),
        follows_links=options.follow_links,
        is_group_of_file=is_group_of_file,
    )


def groups_by_file(options: PrepareOptions, names: Sequence[str], media: Sequence[str]) -> bool:
    """Return whether `--group-by` refers to the picture or recording itself.

    It does if it is one of the columns `media` that hold or name them, or "image" or "audio" where no column
    of `names` has that name.
    """
    is_kind = options.group_by in GROUPS_OF_FILES and options.group_by not in names
    return bool(media) and (is_kind or options.group_by in media)


def find_file_column(names: Sequence[str], options: PrepareOptions, *, where: str) -> str | None:
    """Return the column of a table that names picture or audio files, if there is one."""
    stated = [name for name in (options.image_column, options.audio_column) if name is not None]
    if stated:
        return _require_column("image-column or --audio-column", stated[0], names, where)
    by_name = [name for name in names if name.lower() in FILE_NAMES]
    if len(by_name) == 1:
        return by_name[0]
    if by_name:
        raise ColumnError(
            f"{where}: columns {' and '.join(by_name)} could each name the files: "
            "choose with --image-column or --audio-column"
        )
    media = [name for name in names if name.lower() in IMAGE_NAMES | AUDIO_NAMES]
    return media[0] if len(media) == 1 else None


def _find_column(
    kind: str, stated: str | None, usual: frozenset[str], names: Sequence[str], where: str
) -> str | None:
    if stated is not None:
        return _require_column(f"{kind}-column", stated, names, where)
    # A field of a nested object ("json.caption") is matched by its last part.
    found = [name for name in names if name.lower() in usual]
    found = found or [name for name in names if name.rpartition(".")[2].lower() in usual]
    if len(found) > 1:
        raise ColumnError(
            f"{where}: columns {' and '.join(found)} could each be the {kind}: choose with "
            f"--{kind}-column (its columns are {format_names(names)})"
        )
    return found[0] if found else None


def _find_language(names: Sequence[str]) -> str | None:
    return next((name for usual in _LANGUAGE_NAMES for name in names if name.lower() == usual), None)


def _find_speaker(names: Sequence[str]) -> str | None:
    pairs = ((name, usual) for usual in (*_SPEAKER_NAMES, _CLIENT) for name in names)
    found = next((name for name, usual in pairs if name.rpartition(".")[2].lower() == usual), None)
    if found is not None and found.lower().endswith(_CLIENT):
        warn_speaker_source(f"the column {found} (choose another with --speaker-column)")
    return found


@functools.cache
def warn_speaker_source(where: str) -> None:
    """Log once, in the main process only, where the names of speakers come from."""
    if multiprocessing.parent_process() is None:
        logger.warning("speakers are identified by %s", where)


def _require_column(option: str, name: str | None, names: Sequence[str], where: str) -> str | None:
    if name is not None and name not in names:
        raise ColumnError(f"{where} has no column {name!r} (--{option}), only {format_names(names)}")
    return name


def format_names(names: Sequence[str]) -> str:
    """Format names for a message."""
    shown = ", ".join(names[:40]) or "none at all"
    return shown if len(names) <= 40 else f"{shown} and {len(names) - 40} more"
