"""What is set aside, and why."""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import final


class Reason(StrEnum):
    """Why an item is not trained on."""

    EMPTY = "empty"
    CORRUPT = "corrupt"
    OVERSIZED = "oversized"
    TOO_SMALL = "too_small"
    BLANK = "blank"
    SILENT = "silent"
    DURATION = "duration"
    SAMPLE_RATE = "sample_rate"
    RANGE = "range"
    EMPTY_TEXT = "empty_text"
    LONG_TEXT = "long_text"
    NOT_UTF8 = "not_utf8"
    NO_TEXT = "no_text"
    MISSING_FILE = "missing_file"
    MALFORMED_ROW = "malformed_row"
    UNKNOWN_SPLIT = "unknown_split"
    HELD_OUT = "held_out"
    REPEATED = "repeated"
    UNREADABLE_FILE = "unreadable_file"
    COLUMNS = "columns"
    UNUSED_FILE = "unused_file"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """A line of rejected.jsonl. `key` says where the item stands, as `Example.key` does."""

    key: str
    reason: Reason
    detail: str

    def line(self) -> str:
        # ASCII: names of files may hold bytes that are no text.
        return json.dumps({"key": self.key, "reason": self.reason.value, "detail": self.detail}) + "\n"


@final
class Rejected(Exception):
    """Raised while one item is looked at; it alone is set aside."""

    def __init__(self, reason: Reason, detail: str):
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def first_line(error: BaseException) -> str:
    """What a library says went wrong, short enough for a report."""
    # An address in memory would make each report another.
    text = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "", " ".join(str(error).split())).strip()
    return (text if len(text) <= 200 else text[:199] + "…") or type(error).__name__
