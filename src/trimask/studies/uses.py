"""The results of another study, given to one that needs them: checked, and copied into its folder."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from trimask import modules
from trimask.errors import UserError
from trimask.io import atomic_write
from trimask.seals import SEAL, seal
from trimask.studies.description import STUDY, read_study
from trimask.studies.known import UsedStudy
from trimask.studies.question import Question
from trimask.studies.store import DERIVED, RESULTS, DerivedValues, Results, hash_result

USED = "used"
"""The folder of the copies, each under the name that the study needs it by."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A folder with the results of another study, and the hash of what was read of it."""

    folder: Path
    study: UsedStudy
    hash: str

    @classmethod
    def read(cls, folder: Path) -> "Source":
        """Read a study's folder. UserError if it holds none, a file is damaged, or there is no result."""
        name = modules.label(read_study(folder)["request"]["study"])
        results, derived = Results(folder).by_name, DerivedValues(folder)
        derived.check(results)
        if not results:
            raise UserError(f"{folder} has no result yet: run its study first, `trimask study run {name}`")
        facts = {
            "study": name,
            "results": {each: hash_result(result) for each, result in results.items()},
            "derived": derived.values,
        }
        study = UsedStudy(study=name, results=results, derived=derived.values)
        return cls(folder=folder, study=study, hash=seal(facts)[SEAL])


def find_sources(
    study: Question[Any], given: Mapping[str, Path], out: Path | None, *, name: str
) -> dict[str, Source]:
    """Find what `study` needs: the folders `given`, or the copies that `out` keeps since its first start.

    Args:
        name: of the study, for messages.

    Raises:
        UserError: something needed is missing, is another study, or is not what `out` was begun with; or
            something is given that is not needed.
    """
    needs = study.needs
    for each in given:
        if each not in needs:
            known = f"it needs {', '.join(needs)}" if needs else "it needs none: leave --uses out"
            raise UserError(f"--uses {each}: {name} needs no study under this name; {known}")
    found: dict[str, Source] = {}
    for each, needed in needs.items():
        kept = None if out is None else out / USED / each
        has_copy = kept is not None and (kept / STUDY).is_file()
        folder = given.get(each, kept if has_copy else None)
        if folder is None:
            raise UserError(
                f"{name} needs the results of the study {needed}: run `trimask study run {needed} --out "
                f"{each}`, then give its folder: --uses {each}={each}"
            )
        source = Source.read(folder)
        if source.study.study != modules.label(needed):
            raise UserError(
                f"--uses {each}={folder}: it holds the study {source.study.study}, and {name} needs {needed}"
            )
        if has_copy and kept is not None and source.hash != Source.read(kept).hash:
            raise UserError(
                f"--uses {each}={folder}: its results are not those that {out} was begun with: leave it out "
                f"to go on with the copy in {kept}, or choose another --out"
            )
        found[each] = source
    return found


def keep_sources(sources: Mapping[str, Source], out: Path) -> None:
    """Copy into `out` the files of `sources` that are not there yet.

    Raises:
        UserError: one has changed since it was read.
    """
    for name, source in sources.items():
        kept = out / USED / name
        if (kept / STUDY).is_file():
            continue
        kept.mkdir(parents=True, exist_ok=True)
        for file in (RESULTS, DERIVED, STUDY):  # the last one marks a whole copy
            if (source.folder / file).is_file():
                with atomic_write(kept / file) as temporary:
                    shutil.copyfile(source.folder / file, temporary)
        if Source.read(kept).hash != source.hash:
            (kept / STUDY).unlink()
            raise UserError(f"{source.folder} is being written: wait until its study has ended")


def used_studies(sources: Mapping[str, Source]) -> dict[str, UsedStudy]:
    return {name: source.study for name, source in sources.items()}
