"""The manifest of prepared data: the content of the folder, its origin, and the hashes to check it."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from trimask import io, seals
from trimask.config import ConfigError, from_dict, to_dict
from trimask.data.shards import ShardedTokens, ShardEntry
from trimask.data.source_names import MODALITIES
from trimask.errors import UserError
from trimask.prepare.record import is_whole, read_record, record_path, rejected_path
from trimask.prepare.splits import Decisions
from trimask.sources.options import PrepareOptions

MANIFEST = "manifest.json"
REJECTED = "rejected.jsonl"
TOKENIZERS = "tokenizers"
FORMAT_VERSION = 2
_CORRUPT = ".corrupt"
_NAMED = 1000  # most speakers listed with their number of recordings
_REMEDY = "run the command that prepared the data again"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """Examples, and codes per modality."""

    examples: int
    tokens: dict[str, int]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Speakers:
    """The number of speakers, and the recordings of each of the most frequent ones, by voice tag."""

    number: int
    recordings: dict[str, int]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The content of a prepared folder.

    Attributes:
        source, licence: as given by the user.
        tokenizers: SHA-256 of each file in `tokenizers/`.
        input: fingerprint of the source (names, sizes and ends of files, or a commit).
        links_out: number of followed links that lead out of the source.
        counts: split -> source -> number of examples and codes.
        rejected: reason -> number of items; rejected.jsonl lists them.
        splits: how splits were decided; None in folders of earlier versions.
        damaged: shards that `--verify` set aside; preparing again restores them.
        speakers: None if no recording names its speaker, or an earlier version did not count them.
    """

    format_version: int
    source: str
    licence: str | None
    options: PrepareOptions
    tokenizers: dict[str, str]
    input: str
    num_parts: int
    counts: dict[str, dict[str, Count]]
    rejected: dict[str, int]
    shards: tuple[ShardEntry, ...]
    splits: Decisions | None = None
    damaged: tuple[str, ...] = ()
    links_out: int = 0
    speakers: Speakers | None = None

    def __post_init__(self) -> None:
        if len({entry.file for entry in self.shards}) < len(self.shards):
            raise UserError("shards: a file is listed twice")
        if self.counts != count(self.shards):
            raise UserError("counts: they differ from the sums over the shards")
        for entry in self.shards:
            expected = MODALITIES.get(entry.source, set(entry.tokens))
            if set(entry.tokens) != expected:
                found = f"{sorted(entry.tokens)} instead of {sorted(expected)}"
                raise UserError(f"{entry.file}: source {entry.source!r} has {found}")

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read the manifest of a folder.

        Raises:
            UserError: the folder is not prepared, unfinished, damaged, or of another format version.
        """
        path = folder / MANIFEST
        if not path.exists():
            what = (
                "is not finished: continue"
                if (folder / "parts").is_dir()
                else "holds no prepared data: create it"
            )
            raise UserError(f"{folder} {what} with `trimask prepare SOURCE --out {folder}`")
        stored = io.read_sealed(path, fix=_REMEDY)
        version = stored.get("format_version") if isinstance(stored, dict) else None
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path} has format version {version}, this program reads {FORMAT_VERSION}: prepare it again"
            )
        try:
            return from_dict(cls, stored)
        except ConfigError as error:
            raise UserError(f"{path} is damaged ({error}): {_REMEDY}") from error

    def save(self, folder: Path) -> None:
        """Write the manifest with its own hash, unless the folder has an equal one.

        An equal manifest without a hash, of an earlier version, is kept: runs identify it by its bytes.
        """
        stored = to_dict(self)
        if self.speakers is None:  # as in earlier versions
            del stored["speakers"]
        try:
            before = io.read_json(folder / MANIFEST)
        except (FileNotFoundError, ValueError):  # absent or damaged
            before = None
        if before not in (stored, seals.seal(stored)):
            io.write_sealed(folder / MANIFEST, stored)

    def sources(self, folder: Path, split: str) -> dict[str, list[tuple[Path, ShardEntry]]]:
        """Return the shards of a split by source, in order, each with its folder."""
        found: dict[str, list[tuple[Path, ShardEntry]]] = {}
        for entry in self.shards:
            if entry.split == split:
                found.setdefault(entry.source, []).append((folder, entry))
        return found


def load_split(folders: Sequence[Path], split: str) -> dict[str, ShardedTokens]:
    """Open the sources of a split by name; sources of the same name in several folders are concatenated."""
    shards: dict[str, list[tuple[Path, ShardEntry]]] = {}
    for folder in folders:
        for name, entries in Manifest.load(folder).sources(folder, split).items():
            shards.setdefault(name, []).extend(entries)
    return {name: ShardedTokens(name, entries) for name, entries in shards.items()}


def count(shards: Iterable[ShardEntry]) -> dict[str, dict[str, Count]]:
    """Count examples and codes: split -> source -> counts."""
    examples: Counter[tuple[str, str]] = Counter()
    tokens: dict[tuple[str, str], Counter[str]] = {}
    for entry in shards:
        place = (entry.split, entry.source)
        examples[place] += entry.num_examples
        tokens.setdefault(place, Counter()).update(entry.tokens)
    counts: dict[str, dict[str, Count]] = {}
    for split, source in sorted(examples):
        place = (split, source)
        found = Count(examples=examples[place], tokens=dict(sorted(tokens[place].items())))
        counts.setdefault(split, {})[source] = found
    return counts


def collect(out: Path, num_parts: int) -> tuple[tuple[ShardEntry, ...], dict[str, int], Speakers | None]:
    """Combine the records of all parts and write rejected.jsonl.

    Returns:
        The shards in order of parts, the number of rejected items by reason, and the speakers.

    Raises:
        UserError: the record of a part is missing or damaged.
    """
    shards: list[ShardEntry] = []
    reasons: Counter[str] = Counter()
    speakers: Counter[str] = Counter()
    is_counted = True
    with io.atomic_write(out / ".rejected.jsonl") as temporary, temporary.open("wb") as lines:
        for number in range(num_parts):
            record = read_record(out, number)
            if record is None:
                raise UserError(f"{record_path(out, number)} is missing or damaged: run the command again")
            shards.extend(record.shards)
            reasons.update(record.rejected)
            speakers.update(record.speakers or {})
            is_counted &= record.speakers is not None
            if record.rejected:
                lines.write(rejected_path(out, number).read_bytes())
    new, old = out / ".rejected.jsonl", out / REJECTED
    if old.exists() and io.sha256(old) == io.sha256(new):
        new.unlink()
    else:
        os.replace(new, old)
    named = _rank_speakers(speakers) if speakers and is_counted else None
    return tuple(shards), dict(sorted(reasons.items())), named


def _rank_speakers(recordings: Counter[str]) -> Speakers:
    """Sort speakers by number of recordings, most first, then by tag."""
    ordered = sorted(recordings.items(), key=lambda item: (-item[1], item[0]))
    return Speakers(number=len(ordered), recordings=dict(ordered[:_NAMED]))


def find_damaged_shards(
    folder: Path, shards: Sequence[ShardEntry], report: Callable[[str], None] = lambda message: None
) -> list[str]:
    """Return the names of the shards whose bytes differ from those written."""
    damaged = []
    for number, entry in enumerate(shards, 1):
        if not is_whole(folder, entry):
            damaged.append(entry.file)
        report(f"checking shards {number}/{len(shards)}")
    return damaged


def set_aside(folder: Path, manifest: Manifest, damaged: Sequence[str]) -> Manifest:
    """Rename damaged shards to *.corrupt and write a manifest without them; preparing again restores them."""
    for entry in manifest.shards:
        if entry.file in set(damaged):
            path = entry.path(folder)
            if path.exists():
                os.replace(path, path.with_name(path.name + _CORRUPT))
            record_path(folder, entry.part).unlink(missing_ok=True)
    shards = tuple(entry for entry in manifest.shards if entry.file not in set(damaged))
    names = tuple(sorted({*manifest.damaged, *damaged}))
    changed = replace(manifest, shards=shards, counts=count(shards), damaged=names)
    changed.save(folder)
    return changed


def total_examples(counts: Mapping[str, Mapping[str, Count]]) -> int:
    """Return the number of examples in all splits and sources."""
    return sum(found.examples for sources in counts.values() for found in sources.values())
