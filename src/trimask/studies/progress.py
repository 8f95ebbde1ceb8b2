"""A study in progress: its results, its derived values, and what follows from them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

from trimask.errors import UserError
from trimask.studies.findings import Findings
from trimask.studies.known import Known, UsedStudy
from trimask.studies.question import Question
from trimask.studies.store import DerivedValues, Results
from trimask.studies.trial import AnyTrial, Result


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A study with its results and derived values so far, and the studies that it uses."""

    study: Question[Any]
    results: Results
    derived: DerivedValues
    used: Mapping[str, UsedStudy] = field(default_factory=dict)

    @classmethod
    def read(
        cls, study: Question[Any], out: Path | None, used: Mapping[str, UsedStudy] = MappingProxyType({})
    ) -> "Progress":
        """Read what `out` holds of `study`; nothing if it is None or not there."""
        study.check()
        folder = Path(os.devnull) if out is None else out  # which holds no file
        return cls(study=study, results=Results(folder), derived=DerivedValues(folder), used=used)

    @property
    def known(self) -> Known:
        return Known(derived=self.derived.values, used=self.used, times=self.derived.times)

    def trials(self) -> tuple[AnyTrial, ...]:
        """Return all trials known to be needed, done or not."""
        done = self.results.by_name
        found = (*self.study.trials(done), *self.study.further_trials(done, self.known))
        names = [trial.name for trial in found]
        if len(set(names)) < len(names):
            name = next(name for name in names if names.count(name) > 1)
            raise UserError(f"two trials are {name}: give each its own factors, and each value once")
        return found

    def pending(self) -> list[AnyTrial]:
        """Return the trials without a result."""
        return [trial for trial in self.trials() if trial.name not in self.results.by_name]

    def done(self) -> list[Result]:
        """Return the results in the order of the study's trials."""
        by_name = self.results.by_name
        return [by_name[trial.name] for trial in self.trials() if trial.name in by_name]

    def findings(self) -> Findings:
        return self.study.findings_given(self.done(), self.known)

    def find_other_result(self) -> str | None:
        """Return the name of the first trial whose result is of another configuration."""
        by_name = self.results.by_name
        for trial in self.trials():
            if trial.name in by_name and by_name[trial.name].fingerprint != trial.fingerprint:
                return trial.name
        return None

    def derive(self) -> None:
        """Store the values that the results determine by now. For the process that has locked the folder."""
        while True:
            found = self.study.derive(self.results.by_name, self.known)
            new = {name: value for name, value in found.items() if name not in self.derived.values}
            if not new:
                return
            for name, value in new.items():
                self.derived.add(name, value, self.results.by_name)
