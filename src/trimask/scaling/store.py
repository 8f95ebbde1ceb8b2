"""The results of a study in one file of lines, kept as they come: what a study resumes from and what a report
is made of.
"""

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import final

from trimask.io import atomic_write
from trimask.scaling.trial import Result
from trimask.seals import parse_json, seal, unseal

logger = logging.getLogger(__name__)

RESULTS = "results.jsonl"


@final
class Results:
    """The results in `folder`, by the names of their trials. A torn last line (from a crash) is cut off."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESULTS
        self.by_name = {result.name: result for result in self._read()}

    def add(self, result: Result) -> None:
        """Keeps a result; on the disk when this returns."""
        line = json.dumps(seal(asdict(result)), allow_nan=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.by_name[result.name] = result

    def _read(self) -> list[Result]:
        if not self._path.exists():
            return []
        text = self._path.read_text(encoding="utf-8", errors="replace")
        lines = text.split("\n")
        torn = lines.pop()  # what follows the last line feed: empty in a whole file
        if torn:
            logger.warning("%s ends in a torn line, which is cut off: its trial runs again", self._path)
            with atomic_write(self._path) as temporary:
                temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return [self._result(number, line) for number, line in enumerate(lines, 1)]

    def _result(self, number: int, line: str) -> Result:
        try:
            return Result(**unseal(parse_json(line), self._path))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self._path}, line {number}: not a result; remove the line, and its trial runs again"
            ) from error
