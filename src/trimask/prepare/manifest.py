"""The manifest of prepared data: what is in the folder, where it came from, and how to check it."""

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
_NAMED = 1000  # speakers whose recordings are counted one by one
_MEND = "the command that prepared the data writes it again"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """Examples, and codes per modality."""

    examples: int
    tokens: dict[str, int]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Speakers:
    """How many speakers are told apart, and the recordings of the commonest, by the tags of their voices."""

    number: int
    recordings: dict[str, int]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a prepared folder holds.

    Attributes:
        source, licence: as they were stated.
        tokenizers: SHA-256 of each tokenizer file, which lie in `tokenizers/`.
        input: fingerprint of the source (names, sizes and ends of files, or a commit).
        links_out: links in the source that lead out of it, and were followed.
        counts: split -> source -> how much.
        rejected: reason -> how many items; rejected.jsonl names them.
        splits: what was decided about splits against the source's own words; none in older folders.
        damaged: shards that `--verify` set aside; preparing again restores them.
        speakers: of all that was prepared; None: nobody is named, or an earlier version did not count.
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
            raise UserError("shards: one is named twice")
        if self.counts != count(self.shards):
            raise UserError("counts: not those of the shards")
        for entry in self.shards:
            if set(entry.tokens) != MODALITIES.get(entry.source, set(entry.tokens)):
                raise UserError(f"{entry.file}: {entry.source} of {sorted(entry.tokens)}")

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Raises UserError for a folder that is not prepared, not finished, or of another version."""
        path = folder / MANIFEST
        if not path.exists():
            what = (
                "is not finished: go on"
                if (folder / "parts").is_dir()
                else "holds no prepared data: make some"
            )
            raise UserError(f"{folder} {what} with `trimask prepare SOURCE --out {folder}`")
        stored = io.read_sealed(path, fix=_MEND)
        version = stored.get("format_version") if isinstance(stored, dict) else None
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path} has format version {version}, this program reads {FORMAT_VERSION}: prepare it again"
            )
        try:
            return from_dict(cls, stored)
        except ConfigError as error:
            raise UserError(f"{path} is damaged ({error}): {_MEND}") from error

    def save(self, folder: Path) -> None:
        """Write it, with the hash of itself, unless it stands there already; one without stays, since runs
        know it by its bytes.
        """
        stored = to_dict(self)
        if self.speakers is None:  # as earlier versions wrote it
            del stored["speakers"]
        try:
            before = io.read_json(folder / MANIFEST)
        except (FileNotFoundError, ValueError):  # none, or damaged
            before = None
        if before not in (stored, seals.seal(stored)):
            io.write_sealed(folder / MANIFEST, stored)

    def sources(self, folder: Path, split: str) -> dict[str, list[tuple[Path, ShardEntry]]]:
        """The shards of a split by source, in order."""
        found: dict[str, list[tuple[Path, ShardEntry]]] = {}
        for entry in self.shards:
            if entry.split == split:
                found.setdefault(entry.source, []).append((folder, entry))
        return found


def load_split(folders: Sequence[Path], split: str) -> dict[str, ShardedTokens]:
    """The sources of a split; those of one name in several folders are one source."""
    shards: dict[str, list[tuple[Path, ShardEntry]]] = {}
    for folder in folders:
        for name, entries in Manifest.load(folder).sources(folder, split).items():
            shards.setdefault(name, []).extend(entries)
    return {name: ShardedTokens(name, entries) for name, entries in shards.items()}


def count(shards: Iterable[ShardEntry]) -> dict[str, dict[str, Count]]:
    """Split -> source -> examples and codes."""
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
    """The shards, rejections and speakers of all parts, in order; rejected.jsonl is written beside."""
    shards: list[ShardEntry] = []
    reasons: Counter[str] = Counter()
    speakers: Counter[str] = Counter()
    is_counted = True
    with io.atomic_write(out / ".rejected.jsonl") as temporary, temporary.open("wb") as lines:
        for number in range(num_parts):
            record = read_record(out, number)
            if record is None:
                raise UserError(f"{record_path(out, number)} is not what was written: run the command again")
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
    named = _commonest(speakers) if speakers and is_counted else None
    return tuple(shards), dict(sorted(reasons.items())), named


def _commonest(recordings: Counter[str]) -> Speakers:
    """The commonest first; equally common ones in order of their letters."""
    ordered = sorted(recordings.items(), key=lambda item: (-item[1], item[0]))
    return Speakers(number=len(ordered), recordings=dict(ordered[:_NAMED]))


def damaged_shards(
    folder: Path, shards: Sequence[ShardEntry], report: Callable[[str], None] = lambda message: None
) -> list[str]:
    """The shards whose bytes are not those that were written, by name."""
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


def totals(counts: Mapping[str, Mapping[str, Count]]) -> int:
    """Examples of all splits and sources."""
    return sum(found.examples for sources in counts.values() for found in sources.values())
