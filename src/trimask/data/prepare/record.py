"""What stands beside the shards of a finished part, by which interrupted work goes on."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from trimask import io
from trimask.config import from_dict
from trimask.data.shards import ShardEntry


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PartRecord:
    """What stands beside the shards of a finished part."""

    part: int
    label: str
    shards: tuple[ShardEntry, ...]
    rejected: dict[str, int]

    @property
    def num_examples(self) -> int:
        return sum(entry.num_examples for entry in self.shards)


def record_path(out: Path, number: int) -> Path:
    return out / "parts" / f"{number:06d}.json"


def rejected_path(out: Path, number: int) -> Path:
    return out / "parts" / f"{number:06d}.rejected.jsonl"


def load_record(out: Path, number: int) -> PartRecord | None:
    """The record of a part whose shards are all there, else None: the part is to be done."""
    path = record_path(out, number)
    if not path.exists():
        return None
    record = from_dict(PartRecord, io.read_json(path))
    is_whole = all(
        (out / e.file).exists() and (out / e.file).stat().st_size == e.num_bytes for e in record.shards
    )
    return record if is_whole else None
