"""Run the trials of a study in any number of processes; finished trials never run again."""

import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from trimask import io, locks, modules, parallel
from trimask.config import from_dict, to_dict
from trimask.devices import describe
from trimask.errors import UserError
from trimask.studies.catalog import purpose, resolve_study
from trimask.studies.findings import Findings
from trimask.studies.question import Question
from trimask.studies.report import write_report
from trimask.studies.store import Results
from trimask.studies.trial import AnyTrial, Result
from trimask.training.loop import NonFiniteLoss

STUDY = "study.json"
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


def run_study(
    study: Question[Any],
    out: Path,
    *,
    request: Mapping[str, Any],
    engine: parallel.Engine,
    code: str | None = None,
    threads: int = 1,
    report: Callable[[str], None] = lambda message: None,
    on_progress: Callable[[StudyProgress], None] = lambda progress: None,
) -> list[Result]:
    """Run all trials of `study` without a result in `out`. `request` records how it was called, and `code`
    names the study's function, if that is another one than the requested (`find_own_copy`).

    The study may have more trials than when `out` was created: each result is checked against its own trial.
        `threads` per trial must stay the same, since it determines the order of float additions. The number
        of parallel trials has no effect.

    Raises:
        UserError: `out` holds another kind of study, or a result of another configuration.
        OSError: no space, no permission; finished results are kept.
    """
    described = {
        "request": dict(request),
        "threads": threads,
        "type": type(study).__name__,
        "weights": study.weights,
        "study": to_dict(study),
        _FUNCTION: {"type": _tag_function(code or request["study"], is_short=request["short"])},
    }
    with _claim(out, described):
        results = Results(out)
        _check_results(study, results, described, out)  # before anything is written
        io.keep_modules(described, out)
        io.write_sealed(out / STUDY, {**described, "environment": describe(torch.device("cpu"))})
        study.make_tokens(out / _TOKENS, report)
        work = Measuring(study=study, out=out.resolve(), threads=threads)
        on_progress(_progress(study, results, None))
        while pending := _pending(study, results):
            # Longest first, so that all workers end at about the same time.
            for result in engine.run(work, sorted(pending, key=study.estimate_cost, reverse=True)):
                results.add(result)
                on_progress(_progress(study, results, result))
        return sort_results(study, results)


def sort_results(study: Question[Any], results: Results) -> list[Result]:
    """Return the results in the order of the study's trials."""
    names = [trial.name for trial in study.trials(results.by_name)]
    return [results.by_name[name] for name in names if name in results.by_name]


def find_study(out: Path) -> tuple[str, str]:
    """Return the name of the study in `out` as it was requested, and the name of its function: for a user's
    study that in the copy of its file, which is loaded.

    Raises:
        UserError: `out` holds no study, or the copy is missing or has changed.
    """
    stored = _read_study(out)
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
    stored = _read_request(out / STUDY)
    copy = modules.find_changed_copy(name, stored)
    if copy is None or modules.label(stored["request"]["study"]) != modules.label(name):
        return None
    modules.load_all(stored, out)
    return f"{out / modules.MODULES / copy}:{name.rpartition(':')[2]}"


def has_results_of(study: Question[Any], out: Path) -> bool:
    """Return whether the results in `out` of the study's trials are of the same configurations."""
    return _find_other_result(study, Results(out)) is None


def report_study(name: str, out: Path, *, code: str | None = None) -> tuple[Path, Findings]:
    """Write the report of study `name`, finished or not, from and into `out`; `code` as for `run_study`.

    Raises:
        UserError: `out` holds no study, or another one, or no result yet.
    """
    stored = _read_study(out)
    request = stored["request"]
    if modules.label(request["study"]) != modules.label(name):
        raise UserError(f"{out} holds the study {request['study']}, not {name}: name that one")
    kind = type(resolve_study(code or name, is_short=request["short"]))
    modules.load_all(stored["study"], out)
    try:
        study = from_dict(kind, stored["study"])
    except ValueError as error:
        raise UserError(f"{out / STUDY} does not describe a study ({error}): choose another --out") from error
    results = Results(out)
    if not results.by_name:
        raise UserError(f"{out} has no result yet: run `trimask study run`")
    done = sort_results(study, results)
    pending = len([trial for trial in study.trials(results.by_name) if trial.name not in results.by_name])
    findings = study.findings(done)
    environment = stored["environment"]
    facts = {
        "command": f"`{format_command(request)}`",
        "trials": f"{len(done)}" + (f", {pending} are still to run" if pending else ""),
        "time": f"{sum(result.seconds for result in done) / 60:,.0f} minutes of one process with "
        f"{stored['threads']} threads",
        "machine": f"{environment['device_name']}, {environment['cores']} cores",
        "torch": environment["torch"],
    }
    return write_report(findings, out, title=purpose(code or name), facts=facts), findings


def format_command(request: Mapping[str, Any], out: str = "DIR") -> str:
    """Return the command that started a study."""
    words = ["trimask", "study", "run", request["study"], "--out", out]
    words += ["--short"] if request["short"] else []
    words += ["--run", request["run"]] if request.get("run") else []
    for folder in request["data"]:
        words += ["--data", folder]
    words += ["--judges", *request["judges"]] if request.get("judges") else []
    words += [f"--{path}={value}" for path, value in request["overrides"].items()]
    return shlex.join(words)


def _tag_function(name: str, *, is_short: bool) -> str | None:
    short = f"{name}_short" if is_short else name
    return modules.tag(modules.load(short)) if modules.is_own(name) else short


def _pending(study: Question[Any], results: Results) -> list[AnyTrial]:
    return [trial for trial in study.trials(results.by_name) if trial.name not in results.by_name]


def _find_other_result(study: Question[Any], results: Results) -> str | None:
    """Return the name of the first trial whose result is of another configuration."""
    done = [trial for trial in study.trials(results.by_name) if trial.name in results.by_name]
    others = [trial.name for trial in done if results.by_name[trial.name].fingerprint != trial.fingerprint]
    return others[0] if others else None


def _check_results(study: Question[Any], results: Results, described: Mapping[str, Any], out: Path) -> None:
    """Raise UserError if a result does not belong to this study."""
    other = _find_other_result(study, results)
    if other is None:
        return
    message = f"the result of {other} is of another configuration"
    stored = _read_request(out / STUDY) if (out / STUDY).is_file() else {}
    for copy in modules.list_changed_copies(stored, described):
        raise UserError(
            f"{message}: {copy[:-20]}.py has changed since {out} was run with it: restore it from "
            f"{out / modules.MODULES / copy}, or choose another --out"
        )
    raise UserError(
        f"{message} (its fields, their defaults or the code of its classes have changed since): remove its "
        "line, or choose another --out"
    )


def _progress(study: Question[Any], results: Results, newest: Result | None) -> StudyProgress:
    trials = study.trials(results.by_name)
    done = [trial for trial in trials if trial.name in results.by_name]
    return StudyProgress(
        num_done=len(done),
        num_trials=len(trials),
        cost_done=sum(map(study.estimate_cost, done)),
        cost=sum(map(study.estimate_cost, trials)),
        newest=newest,
    )


def _read_study(out: Path) -> dict[str, Any]:
    """Read the description of the study in `out`. UserError if there is none."""
    if not os.path.lexists(out / STUDY):
        raise UserError(f"{out} holds no study: run one there first")
    return _read_request(out / STUDY)


def _read_request(path: Path) -> dict[str, Any]:
    """Read what `run_study` wrote. UserError if it is damaged or something else."""
    stored = io.read_sealed(path)
    names = {"request": dict, "study": dict, "environment": dict, "threads": int}
    asked = {"study": str, "short": bool, "data": list, "overrides": dict}
    made_on = {"device_name": str, "cores": int, "torch": str}
    if not (_has(stored, names) and _has(stored["request"], asked) and _has(stored["environment"], made_on)):
        raise UserError(f"{path} does not describe a study: choose another --out")
    return stored


def _has(stored: Any, kinds: Mapping[str, type]) -> bool:
    """Return whether `stored` is an object with these values."""
    return isinstance(stored, dict) and all(isinstance(stored.get(name), kinds[name]) for name in kinds)


@contextmanager
def _claim(out: Path, described: dict[str, Any]) -> Iterator[None]:
    """Lock `out` for this process, if it is new or holds such a study."""
    path = out / STUDY
    with locks.claim(out, marker=STUDY, what="study"):
        if path.exists():
            stored = _read_request(path)
            for what in ("type", "threads", "weights"):
                if stored.get(what) != described[what]:
                    raise UserError(
                        f"{out} holds a study of {what} {stored.get(what)!r}, and this one's is "
                        f"{described[what]!r}: choose another --out"
                    )
        yield
