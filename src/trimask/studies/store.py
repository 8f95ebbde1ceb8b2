"""The results of a study in one file of lines, appended as they come, for resuming and reporting."""

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

from trimask.errors import UserError
from trimask.io import atomic_write
from trimask.reading import read_text
from trimask.seals import parse_json, seal, unseal
from trimask.studies.trial import Result

logger = logging.getLogger(__name__)

RESULTS = "results.jsonl"


@final
class Results:
    """The results in `folder`, by trial name. Reading changes nothing: an incomplete last line (a crash, or a
    write in progress) is ignored, and removed by the next `add`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESULTS
        self._whole: str | None = None  # length of the complete part of the file
        self.by_name = {result.name: result for result in self._read()}

    def add(self, result: Result) -> None:
        """Append a result and flush it to disk. For the process that has locked the folder."""
        line = json.dumps(seal(asdict(result)), allow_nan=False)
        if self._whole is not None:
            with atomic_write(self._path) as temporary:
                temporary.write_text(self._whole, encoding="utf-8")
            self._whole = None
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.by_name[result.name] = result

    def _read(self) -> list[Result]:
        if not os.path.lexists(self._path):
            return []
        lines = read_text(self._path, errors="replace").split("\n")
        torn = lines.pop()  # text after the last line feed: empty in a complete file
        if torn:
            logger.warning("%s ends in a torn line, which is left out: its trial runs again", self._path)
            self._whole = "".join(line + "\n" for line in lines)
        return [self._result(number, line) for number, line in enumerate(lines, 1)]

    def _result(self, number: int, line: str) -> Result:
        try:
            return _result(unseal(parse_json(line), self._path))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{self._path}, line {number}: not a result; remove the line, and its trial runs again"
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
