"""Run the trials of a study in any number of processes; finished trials never run again."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import torch

from trimask import io, locks, modules, parallel
from trimask.config import from_dict, to_dict
from trimask.devices import describe
from trimask.errors import UserError
from trimask.studies.budget import Budget
from trimask.studies.catalog import purpose, resolve_study
from trimask.studies.description import STUDY, format_command, read_description, read_study
from trimask.studies.findings import Findings
from trimask.studies.progress import Progress
from trimask.studies.question import Question
from trimask.studies.report import describe_derived, write_report
from trimask.studies.trial import AnyTrial, Result
from trimask.studies.uses import find_sources, keep_sources, used_studies
from trimask.training.loop import NonFiniteLoss

_FUNCTION = "function"  # key of the function that returned the study, in the form of a stored class
_TOKENS, _TRIALS = "tokens", "trials"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class StudyProgress:
    """Progress over the trials known to be needed. `cost` is proportional to their time."""

    num_done: int
    num_trials: int
    cost_done: int
    cost: int
    newest: Result | None


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Measuring(parallel.Work[AnyTrial, Result]):
    """Runs a trial in a temporary folder, removed once its metrics are stored."""

    study: Question[Any]
    out: Path
    threads: int

    def __call__(self, item: AnyTrial) -> Result:
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        folder = self.out / _TRIALS / item.name
        began = time.monotonic()
        try:
            figures = self.study.measure(item, folder, self.out / _TOKENS)
        except NonFiniteLoss:
            figures = {}  # divergence is a result
        finally:
            torch.set_num_threads(threads)
        seconds = time.monotonic() - began
        shutil.rmtree(folder, ignore_errors=True)
        return Result(
            factors=item.factors,
            fingerprint=item.fingerprint,
            seconds=round(seconds, 2),
            figures={name: value if abs(value) < float("inf") else None for name, value in figures.items()},
        )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class DescribeDevice(parallel.Work[bool, dict[str, Any]]):
    """Describes the device that a trial gets, and its machine; the CPU if trials don't use a GPU."""

    def __call__(self, item: bool) -> dict[str, Any]:
        return describe(None if item else torch.device("cpu"))


def run_study(
    study: Question[Any],
    out: Path,
    *,
    request: Mapping[str, Any],
    engine: parallel.Engine,
    code: str | None = None,
    threads: int = 1,
    uses: Mapping[str, Path] = MappingProxyType({}),
    budget: Budget | None = None,
    report: Callable[[str], None] = lambda message: None,
    on_progress: Callable[[StudyProgress], None] = lambda progress: None,
) -> list[Result]:
    """Run all trials of `study` without a result in `out`, or those that `budget` has time for. `request`
    records how it was called, and `code` names the study's function, if that is another one than the
    requested (`find_own_copy`).

    The study may have more trials than when `out` was created: each result is checked against its own trial.
        `threads` per trial must stay the same, since it determines the order of float additions, and so must
        the kind of device. The number of parallel trials has no effect.

    Args:
        uses: folders of the studies that this one needs, by its names for them; not needed again once `out`
            has copies of their results.

    Raises:
        UserError: `out` holds another kind of study, a result of another configuration, or a derived value
            whose results have changed; or what `uses` gives does not fit.
        OSError: no space, no permission; finished results are kept.
    """
    sources = find_sources(study, uses, out, name=modules.label(request["study"]))
    environment = engine.run_one(DescribeDevice(), study.uses_gpu)
    described = {
        "request": dict(request),
        "threads": threads,
        "type": type(study).__name__,
        "weights": study.weights,
        "device": device_kind(environment),
        "uses": {name: {"study": each.study.study, "hash": each.hash} for name, each in sources.items()},
        "study": to_dict(study),
        _FUNCTION: {"type": _tag_function(code or request["study"], is_short=request["short"])},
    }
    with _claim(out, described):
        progress = Progress.read(study, out, used_studies(sources))
        _check_results(progress, described, out)  # before anything is written
        described["request"] = _recall_uses(request, out)
        # First, since without it nobody may write into a folder that is not empty: a start that is stopped
        # while it copies goes on.
        io.write_sealed(out / STUDY, {**described, "environment": environment})
        io.keep_modules(described, out)
        keep_sources(sources, out)
        study.make_tokens(out / _TOKENS, report)
        work = Measuring(study=study, out=out.resolve(), threads=threads)
        progress.derive()
        on_progress(_count(progress, None))
        while progress.pending():
            num_before = len(progress.results.by_name)
            for result in engine.run(work, _starts(progress, budget), ahead=0):
                progress.results.add(result)
                progress.derive()
                on_progress(_count(progress, result))
            if len(progress.results.by_name) == num_before:
                break  # the budget is used
        return progress.done()


def _recall_uses(request: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Return `request` with the folders of other studies that an earlier start named, for the report."""
    before = read_description(out / STUDY)["request"].get("uses", {}) if (out / STUDY).is_file() else {}
    return {**request, "uses": {**before, **request.get("uses", {})}}


def device_kind(environment: Mapping[str, Any]) -> str:
    """Return what results depend on beside the threads: the name of the GPU, or `cpu`."""
    return "cpu" if environment["device"] == "cpu" else environment["device_name"]


def _starts(progress: Progress, budget: Budget | None) -> Iterable[AnyTrial]:
    """Return the trials to start: all that are missing, longest first so that all workers end at about the
    same time, or what the budget has time for.
    """
    if budget is not None:
        return budget.start(progress)
    return sorted(progress.pending(), key=progress.study.estimate_cost, reverse=True)


def find_study(out: Path) -> tuple[str, str]:
    """Return the name of the study in `out` as it was requested, and the name of its function: for a user's
    study that in the copy of its file, which is loaded.

    Raises:
        UserError: `out` holds no study, or the copy is missing or has changed.
    """
    stored = read_study(out)
    name = stored["request"]["study"]
    if not modules.is_own(name) or _FUNCTION not in stored:
        return name, name
    modules.load_all(stored, out)
    copy = stored[_FUNCTION]["type"].rpartition(":")[0]
    path = out / modules.MODULES / copy
    return name, f"{path}:{name.rpartition(':')[2]}" if path.is_file() else name


def find_own_copy(name: str, out: Path) -> str | None:
    """Find the study `name` of the user's file in the copy that `out` keeps of it, and load the copy. None if
    there is none, or the file has not changed since.

    Raises:
        UserError: the copy is missing or has changed.
    """
    if not (out / STUDY).is_file():
        return None
    stored = read_description(out / STUDY)
    copy = modules.find_changed_copy(name, stored)
    if copy is None or modules.label(stored["request"]["study"]) != modules.label(name):
        return None
    modules.load_all(stored, out)
    return f"{out / modules.MODULES / copy}:{name.rpartition(':')[2]}"


def read_progress(
    study: Question[Any], out: Path | None, *, code: str, is_short: bool, uses: Mapping[str, Path]
) -> Progress:
    """Return what `out` holds of `study`; nothing if it is None or not there yet. Nothing is written.

    Args:
        code: name of the study's function.

    Raises:
        UserError: another study, a result of another configuration, or a derived value whose results have
            changed; or a study that is needed is missing.
    """
    sources = find_sources(study, uses, out, name=modules.label(code))
    progress = Progress.read(study, out, used_studies(sources))
    if out is not None and (out / STUDY).is_file():
        described = {
            "type": type(study).__name__,
            "weights": study.weights,
            "study": to_dict(study),
            _FUNCTION: {"type": _tag_function(code, is_short=is_short)},
        }
        _check_kind(read_description(out / STUDY), described, out)
        _check_results(progress, described, out)
    return progress


def has_results_of(study: Question[Any], out: Path, uses: Mapping[str, Path]) -> bool:
    """Return whether the results in `out` of the study's trials are of the same configurations."""
    sources = find_sources(study, uses, out, name=type(study).__name__)
    return Progress.read(study, out, used_studies(sources)).find_other_result() is None


def report_study(name: str, out: Path, *, code: str | None = None) -> tuple[Path, Findings]:
    """Write the report of study `name`, finished or not, from and into `out`; `code` as for `run_study`.

    Raises:
        UserError: `out` holds no study, or another one, or no result yet.
    """
    stored = read_study(out)
    request = stored["request"]
    if modules.label(request["study"]) != modules.label(name):
        raise UserError(f"{out} holds the study {request['study']}, not {name}: name that one")
    kind = type(resolve_study(code or name, is_short=request["short"]))
    modules.load_all(stored["study"], out)
    try:
        study = from_dict(kind, stored["study"])
    except ValueError as error:
        raise UserError(f"{out / STUDY} does not describe a study ({error}): choose another --out") from error
    sources = find_sources(study, {}, out, name=modules.label(name))
    progress = Progress.read(study, out, used_studies(sources))
    if not progress.results.by_name:
        raise UserError(f"{out} has no result yet: run `trimask study run`")
    progress.derived.check(progress.results.by_name)
    done, findings = progress.done(), progress.findings()
    pending = len(progress.pending())
    environment = stored["environment"]
    facts = {
        "command": f"`{format_command(request)}`",
        "trials": f"{len(done)}" + (f", {pending} are still to run" if pending else ""),
        "time": f"{sum(result.seconds for result in done) / 60:,.0f} minutes of one process with "
        f"{stored['threads']} threads",
        "machine": f"{environment['device_name']}, {environment['cores']} cores",
        "torch": environment["torch"],
    }
    facts |= {
        f"uses {each}": f"{source.study.study}, {len(source.study.results)} results, {source.hash[:23]}…"
        for each, source in sources.items()
    }
    derived = describe_derived(progress.derived)
    return write_report(findings, out, title=purpose(code or name), facts=facts, derived=derived), findings


def _tag_function(name: str, *, is_short: bool) -> str | None:
    short = f"{name}_short" if is_short else name
    return modules.tag(modules.load(short)) if modules.is_own(name) else short


def _check_results(progress: Progress, described: Mapping[str, Any], out: Path) -> None:
    """Raise UserError if a result or derived value does not belong to this study."""
    progress.derived.check(progress.results.by_name)
    other = progress.find_other_result()
    if other is None:
        return
    message = f"the result of {other} is of another configuration"
    stored = read_description(out / STUDY) if (out / STUDY).is_file() else {}
    for copy in modules.list_changed_copies(stored, described):
        raise UserError(
            f"{message}: {copy[:-20]}.py has changed since {out} was run with it: restore it from "
            f"{out / modules.MODULES / copy}, or choose another --out"
        )
    raise UserError(
        f"{message} (its fields, their defaults or the code of its classes have changed since): remove its "
        "line, or choose another --out"
    )


def _count(progress: Progress, newest: Result | None) -> StudyProgress:
    trials, cost = progress.trials(), progress.study.estimate_cost
    done = [trial for trial in trials if trial.name in progress.results.by_name]
    return StudyProgress(
        num_done=len(done),
        num_trials=len(trials),
        cost_done=sum(map(cost, done)),
        cost=sum(map(cost, trials)),
        newest=newest,
    )


@contextmanager
def _claim(out: Path, described: dict[str, Any]) -> Iterator[None]:
    """Lock `out` for this process, if it is new or holds such a study."""
    path = out / STUDY
    with locks.claim(out, marker=STUDY, what="study"):
        if path.exists():
            _check_kind(read_description(path), described, out)
        yield


def _check_kind(stored: Mapping[str, Any], described: Mapping[str, Any], out: Path) -> None:
    """Raise UserError if `out` holds a study that differs in one of the facts that `described` has."""
    before = {"device": "cpu", **stored}  # earlier versions ran no trial elsewhere
    for what in ("type", "threads", "weights", "device"):
        if what in described and before.get(what) != described[what]:
            raise UserError(
                f"{out} holds a study of {what} {before.get(what)!r}, and this one's is "
                f"{described[what]!r}: choose another --out"
            )
