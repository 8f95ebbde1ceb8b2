"""Rejections: items that are set aside, with reasons."""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import final


class Reason(StrEnum):
    """The reason why an item is set aside."""

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
    """A line of rejected.jsonl. `key` identifies the item in the source, as `Example.key` does."""

    key: str
    reason: Reason
    detail: str

    def line(self) -> str:
        # ASCII, since file names may contain bytes that are not valid text.
        return json.dumps({"key": self.key, "reason": self.reason.value, "detail": self.detail}) + "\n"


@final
class Rejected(Exception):
    """Raised when one item cannot be used; only this item is set aside."""

    def __init__(self, reason: Reason, detail: str):
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def first_line(error: BaseException) -> str:
    """Format a library's error in one line of at most 200 characters, for a report."""
    # Memory addresses would make each report different.
    text = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "", " ".join(str(error).split())).strip()
    return (text if len(text) <= 200 else text[:199] + "…") or type(error).__name__
