"""The results and derived values of a study in files of lines, appended as they come."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

from trimask.errors import UserError
from trimask.io import atomic_write
from trimask.reading import read_text
from trimask.seals import parse_json, seal, unseal
from trimask.studies.trial import Result

logger = logging.getLogger(__name__)

RESULTS = "results.jsonl"
DERIVED = "derived.jsonl"


@final
class SealedLines:
    """A file of sealed JSON objects, one a line. Reading changes nothing: an incomplete last line (a crash,
    or a write in progress) is left out, and removed by the next `append`.

    Args:
        torn: what follows from an incomplete last line, for a warning.
    """

    def __init__(self, path: Path, *, torn: str) -> None:
        self.path = path
        self._torn = torn
        self._whole: str | None = None  # the complete part of the file, if it ends in a torn line

    def read(self) -> list[str]:
        """Return the complete lines."""
        if not os.path.lexists(self.path):
            return []
        lines = read_text(self.path, errors="replace").split("\n")
        torn = lines.pop()  # text after the last line feed: empty in a complete file
        if torn:
            logger.warning("%s ends in a torn line, which is left out: %s", self.path, self._torn)
            self._whole = "".join(line + "\n" for line in lines)
        return lines

    def append(self, value: Mapping[str, Any]) -> None:
        """Append an object and flush it to disk. For the process that has locked the folder."""
        line = json.dumps(seal(value), allow_nan=False)
        if self._whole is not None:
            with atomic_write(self.path) as temporary:
                temporary.write_text(self._whole, encoding="utf-8")
            self._whole = None
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())


@final
class Results:
    """The results in `folder`, by trial name."""

    def __init__(self, folder: Path) -> None:
        self._lines = SealedLines(folder / RESULTS, torn="its trial runs again")
        found = [self._result(number, line) for number, line in enumerate(self._lines.read(), 1)]
        self.by_name = {result.name: result for result in found}

    def add(self, result: Result) -> None:
        """Append a result and flush it to disk. For the process that has locked the folder."""
        self._lines.append(asdict(result))
        self.by_name[result.name] = result

    def _result(self, number: int, line: str) -> Result:
        try:
            return _result(unseal(parse_json(line), self._lines.path))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{self._lines.path}, line {number}: not a result, or changed since it was written: put back "
                "what was there, or remove the line, and its trial runs again"
            ) from error


def _result(stored: Any) -> Result:
    """Parse a stored result. UserError or TypeError if it is invalid."""
    found = Result(**stored)
    factors, figures = found.factors, found.figures
    if not isinstance(factors, dict) or not all(type(each) in (str, int, float) for each in factors.values()):
        raise UserError("no factors")
    if type(found.fingerprint) is not str or type(found.seconds) not in (int, float):
        raise UserError("no fingerprint or no seconds")
    if not isinstance(figures, dict) or not all(
        type(f) in (int, float, type(None)) for f in figures.values()
    ):
        raise UserError("no figures")
    return found


@final
class DerivedValues:
    """The derived values in `folder`, by name: stored once, each with its time and hashes of the results that
    were there.
    """

    def __init__(self, folder: Path) -> None:
        self._lines = SealedLines(folder / DERIVED, torn="its value is derived again")
        found = [self._record(number, line) for number, line in enumerate(self._lines.read(), 1)]
        self._records = {record["name"]: record for record in found}

    @property
    def values(self) -> dict[str, Any]:
        return {name: record["value"] for name, record in self._records.items()}

    @property
    def times(self) -> dict[str, str]:
        """When each was stored (UTC, ISO 8601)."""
        return {name: record["time"] for name, record in self._records.items()}

    def sources(self, name: str) -> tuple[str, ...]:
        """Return the names of the results that were there when the value was derived."""
        return tuple(self._records[name]["results"])

    def add(self, name: str, value: Any, results: Mapping[str, Result]) -> None:
        """Store a value derived from `results`. For the process that has locked the folder.

        Raises:
            UserError: `value` is not JSON.
        """
        assert name not in self._records
        try:
            plain = parse_json(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"the derived value {name} is not JSON ({error}): return numbers, texts, lists and objects"
            ) from error
        record = {
            "name": name,
            "value": plain,
            "results": {each: hash_result(result) for each, result in results.items()},
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._lines.append(record)
        self._records[name] = record

    def check(self, results: Mapping[str, Result]) -> None:
        """Raise UserError if a result that a value was derived from is gone or has changed."""
        for name, record in self._records.items():
            for trial, digest in record["results"].items():
                if trial in results and hash_result(results[trial]) == digest:
                    continue
                state = "has changed" if trial in results else "is gone"
                raise UserError(
                    f"the derived value {name} came from the result of {trial}, which {state}: put the "
                    f"result back; or remove the value's line in {self._lines.path} and the results of the "
                    "trials that it decided; or choose another --out"
                )

    def _record(self, number: int, line: str) -> dict[str, Any]:
        kinds = {"name": str, "results": dict, "time": str}
        try:
            record = unseal(parse_json(line), self._lines.path)
        except ValueError as error:
            raise UserError(f"{self._lines.path}, line {number}: {error}") from error
        is_whole = isinstance(record, dict) and "value" in record
        if not is_whole or not all(isinstance(record.get(key), kind) for key, kind in kinds.items()):
            raise UserError(
                f"{self._lines.path}, line {number}: not a derived value; put back what was there, or choose "
                "another --out"
            )
        return record


def hash_result(result: Result) -> str:
    """Hash of a result without its duration, which differs between repetitions."""
    facts = {name: value for name, value in asdict(result).items() if name != "seconds"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
