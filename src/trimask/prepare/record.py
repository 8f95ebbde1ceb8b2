"""Records of finished parts, from which an interrupted preparation resumes."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from trimask import io
from trimask.config import from_dict, to_dict
from trimask.data.shards import ShardEntry

PARTS = "parts"
_HASH = "sha256"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PartRecord:
    """The result of a finished part, stored next to its shards."""

    part: int
    label: str
    shards: tuple[ShardEntry, ...]
    rejected: dict[str, int]
    speakers: dict[str, int] | None = None
    """number of recordings by voice tag; None: an earlier version did not count them"""

    @property
    def num_examples(self) -> int:
        return sum(entry.num_examples for entry in self.shards)


def record_path(out: Path, number: int) -> Path:
    return out / PARTS / f"{number:06d}.json"


def rejected_path(out: Path, number: int) -> Path:
    return out / "parts" / f"{number:06d}.rejected.jsonl"


def save_record(out: Path, record: PartRecord) -> None:
    """Write the record together with its hash."""
    stored = to_dict(record)
    io.write_json(record_path(out, record.part), {**stored, _HASH: _hash(stored)})


def load_record(out: Path, number: int) -> PartRecord | None:
    """Return the record of a part whose shards are all intact, else None: the part must be tokenized."""
    record = read_record(out, number)
    if record is None or not all(is_whole(out, entry) for entry in record.shards):
        return None
    return record


def read_record(out: Path, number: int) -> PartRecord | None:
    """Return the record of a part; None if it is missing or damaged."""
    try:
        stored = io.read_json(record_path(out, number))
        stated = stored.pop(_HASH, None) if isinstance(stored, dict) else None
        record = from_dict(PartRecord, stored)
    except (FileNotFoundError, ValueError):
        return None
    is_ours = stated == _hash(stored) and all(entry.part == number for entry in record.shards)
    return record if is_ours else None


def is_whole(folder: Path, entry: ShardEntry) -> bool:
    """Return whether the shard's bytes are those written. Raise UserError if it is a link."""
    path = entry.path(folder)
    return path.is_file() and path.stat().st_size == entry.num_bytes and io.sha256(path) == entry.sha256


def _hash(stored: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
