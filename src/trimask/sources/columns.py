"""Which column holds the pictures, which the recordings, which the text."""

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
# The members of an archive are columns by their suffixes.
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
_SPEAKER_NAMES = ("speaker", "speaker_id", "speaker_name")  # the first that is there
_CLIENT = "client_id"  # of Common Voice, after those
GROUPS_OF_FILES = ("image", "audio")
"""What `--group-by` takes beside names of columns: the picture, the recording."""
_RATE_NAMES = ("sample_rate", "sampling_rate")


class ColumnError(UserError):
    """The columns that are needed cannot be told; the message lists those that there are."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Names of the columns that are read; without picture and recording, the text is what is trained on.

    Attributes:
        follows_links: whether a file that a column names may be a link.
        is_group_of_file: whether what groups is the picture or recording itself.
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
    """The columns of `where`, as stated in `options` or else by their names.

    Raises:
        ColumnError: a column is absent, or two could be meant.
    """
    text = _find("text", options.text_column, TEXT_NAMES, names, where)
    if text is None and options.needs_text:
        raise ColumnError(f"{where} has no column of text, only {listed(names)}: name one with --text-column")
    image = _find("image", options.image_column, IMAGE_NAMES, names, where)
    audio = _find("audio", options.audio_column, AUDIO_NAMES, names, where)
    media = tuple(name for name in (image, audio) if name is not None)
    is_group_of_file = groups_by_file(options, names, media)
    return Columns(
        text=text,
        image=image,
        audio=audio,
        speaker=_stated("speaker-column", options.speaker_column, names, where) or _speaker(names),
        language=_stated("language-column", options.language_column, names, where) or _language(names),
        group=None if is_group_of_file else _stated("group-by", options.group_by, names, where),
        split="split" if "split" in names else None,
        rate=next((name for name in _RATE_NAMES if name in names), None),
        follows_links=options.follow_links,
        is_group_of_file=is_group_of_file,
    )


def groups_by_file(options: PrepareOptions, names: Sequence[str], media: Sequence[str]) -> bool:
    """Whether `--group-by` means the pictures or recordings, which stand in (or are named by) `media`: by the
    word, where no other column of `names` is called so, or by one of these columns.
    """
    is_kind = options.group_by in GROUPS_OF_FILES and options.group_by not in names
    return bool(media) and (is_kind or options.group_by in media)


def find_file_column(names: Sequence[str], options: PrepareOptions, *, where: str) -> str | None:
    """The column of a table that names picture or sound files, if there is one."""
    stated = [name for name in (options.image_column, options.audio_column) if name is not None]
    if stated:
        return _stated("image-column or --audio-column", stated[0], names, where)
    by_name = [name for name in names if name.lower() in FILE_NAMES]
    if len(by_name) == 1:
        return by_name[0]
    if by_name:
        raise ColumnError(
            f"{where}: the columns {' and '.join(by_name)} could both name the files: "
            "choose with --image-column or --audio-column"
        )
    media = [name for name in names if name.lower() in IMAGE_NAMES | AUDIO_NAMES]
    return media[0] if len(media) == 1 else None


def _find(
    kind: str, stated: str | None, usual: frozenset[str], names: Sequence[str], where: str
) -> str | None:
    if stated is not None:
        return _stated(f"{kind}-column", stated, names, where)
    # A field of a nested object ("json.caption") is meant by its last part.
    found = [name for name in names if name.lower() in usual]
    found = found or [name for name in names if name.rpartition(".")[2].lower() in usual]
    if len(found) > 1:
        raise ColumnError(
            f"{where}: the columns {' and '.join(found)} could each be the {kind}: choose with "
            f"--{kind}-column (there are {listed(names)})"
        )
    return found[0] if found else None


def _language(names: Sequence[str]) -> str | None:
    return next((name for usual in _LANGUAGE_NAMES for name in names if name.lower() == usual), None)


def _speaker(names: Sequence[str]) -> str | None:
    pairs = ((name, usual) for usual in (*_SPEAKER_NAMES, _CLIENT) for name in names)
    found = next((name for name, usual in pairs if name.rpartition(".")[2].lower() == usual), None)
    if found is not None and found.lower().endswith(_CLIENT):
        tell_speakers(f"the column {found} (state another with --speaker-column)")
    return found


@functools.cache
def tell_speakers(where: str) -> None:
    """Say once, and not in each worker, what is taken for the names of speakers."""
    if multiprocessing.parent_process() is None:
        logger.warning("speakers are told by %s", where)


def _stated(option: str, name: str | None, names: Sequence[str], where: str) -> str | None:
    if name is not None and name not in names:
        raise ColumnError(f"{where} has no column {name!r} (--{option}), only {listed(names)}")
    return name


def listed(names: Sequence[str]) -> str:
    """The names in a message."""
    shown = ", ".join(names[:40]) or "none at all"
    return shown if len(names) <= 40 else f"{shown} and {len(names) - 40} more"
