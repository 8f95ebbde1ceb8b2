"""A study becomes results: its trials run, in any number of processes, and none that is done runs again."""

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
from trimask.model.flops import block_parameters
from trimask.studies.catalog import purpose, resolve_study
from trimask.studies.findings import Findings
from trimask.studies.pretraining import load_tokenizers, sources_of
from trimask.studies.report import write_report
from trimask.studies.store import Results
from trimask.studies.study import Study
from trimask.studies.trial import Result, Trial
from trimask.training.loop import NonFiniteLoss
from trimask.training.run_directory import keep_modules

STUDY = "study.json"
_TOKENS, _TRIALS = "tokens", "trials"
# What a position costs beside the blocks' weights, in parameters [D]: a network of 160,000 takes as long.
_OVERHEAD = 300_000


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class StudyProgress:
    """How far the trials that are known to be needed are. `cost` is proportional to the time they take."""

    num_done: int
    num_trials: int
    cost_done: int
    cost: int
    newest: Result | None


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Measuring(parallel.Work[Trial, Result]):
    """Runs a trial in a folder of its own, which goes when its figures are there."""

    study: Study
    out: Path
    threads: int

    def __call__(self, item: Trial) -> Result:
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        folder = self.out / _TRIALS / item.name
        began = time.monotonic()
        try:
            figures = self.study.measure(item, folder, self.out / _TOKENS)
        except NonFiniteLoss:
            figures = {}  # to diverge is a result
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
    study: Study,
    out: Path,
    *,
    request: Mapping[str, Any],
    engine: parallel.Engine,
    threads: int = 1,
    report: Callable[[str], None] = lambda message: None,
    on_progress: Callable[[StudyProgress], None] = lambda progress: None,
) -> list[Result]:
    """Run all trials of `study` that `out` has no result of. `request` says how it was asked for.

    The study may have more trials than when `out` was begun: each result is compared with its own. `threads`
    of each trial must be as then: another number of them adds floats in another order. The number of trials
    at once changes nothing.

    Raises:
        UserError: `out` holds another kind of study, or a result of another configuration.
        OSError: no space, no permission; what is done stays.
    """
    described = {
        "request": dict(request),
        "threads": threads,
        "type": type(study).__name__,
        "study": to_dict(study),
    }
    with _claimed(out, described):
        results = Results(out)
        _pending(study, results)  # before anything is written: whether the results are of this study
        keep_modules(described, out)
        io.write_sealed(out / STUDY, {**described, "environment": describe(torch.device("cpu"))})
        _make_tokens(study, out, report)
        work = Measuring(study=study, out=out.resolve(), threads=threads)
        on_progress(_progress(study, results, None))
        while pending := _pending(study, results):
            # The longest first: so all workers end at about the same time.
            for result in engine.run(work, sorted(pending, key=cost, reverse=True)):
                results.add(result)
                on_progress(_progress(study, results, result))
        return in_order(study, results)


def in_order(study: Study, results: Results) -> list[Result]:
    """The results in the order in which the study names its trials."""
    names = [trial.name for trial in study.trials(results.by_name)]
    return [results.by_name[name] for name in names if name in results.by_name]


def report_study(name: str, out: Path) -> tuple[Path, Findings]:
    """Writes what the results of study `name` in `out` say, finished or not, into `out`.

    Raises:
        UserError: `out` holds no study, or another one, or no result yet.
    """
    path = out / STUDY
    if not os.path.lexists(path):
        raise UserError(f"{out} holds no study: run one there first")
    stored = _stored(path)
    request = stored["request"]
    if modules.label(request["study"]) != modules.label(name):
        raise UserError(f"{out} holds the study {request['study']}, not {name}: name that one")
    kind = type(resolve_study(name, is_short=request["short"]))
    modules.load_all(stored["study"], out)
    try:
        study = from_dict(kind, stored["study"])
    except ValueError as error:
        raise UserError(f"{path} does not describe a study ({error}): choose another --out") from error
    results = Results(out)
    if not results.by_name:
        raise UserError(f"{out} has no result yet: go on with `trimask study run`")
    done = in_order(study, results)
    pending = len([trial for trial in study.trials(results.by_name) if trial.name not in results.by_name])
    findings = study.findings(done)
    environment = stored["environment"]
    facts = {
        "command": f"`{command(request)}`",
        "trials": f"{len(done)}" + (f", {pending} are still to run" if pending else ""),
        "time": f"{sum(result.seconds for result in done) / 60:,.0f} minutes of one process with "
        f"{stored['threads']} threads",
        "machine": f"{environment['device_name']}, {environment['cores']} cores",
        "torch": environment["torch"],
    }
    return write_report(findings, out, title=purpose(name), facts=facts), findings


def command(request: Mapping[str, Any], out: str = "DIR") -> str:
    """The command that a study was asked for with."""
    words = ["trimask", "study", "run", request["study"], "--out", out]
    words += ["--short"] if request["short"] else []
    for folder in request["data"]:
        words += ["--data", folder]
    words += [f"--{path}={value}" for path, value in request["overrides"].items()]
    return shlex.join(words)


def cost(trial: Trial) -> int:
    """Proportional to the time of a trial, roughly: sequences times weights, and what comes beside them."""
    return trial.config.horizon * (block_parameters(trial.config.model) + _OVERHEAD)


def _pending(study: Study, results: Results) -> list[Trial]:
    trials = study.trials(results.by_name)
    for trial in trials:
        done = results.by_name.get(trial.name)
        if done is not None and done.fingerprint != trial.fingerprint:
            raise UserError(
                f"the result of {trial.name} is of another configuration (its fields or their defaults have "
                "changed since): remove its line, or choose another --out"
            )
    return [trial for trial in trials if trial.name not in results.by_name]


def _make_tokens(study: Study, out: Path, report: Callable[[str], None]) -> None:
    """Before the trials, which read them side by side."""
    tokenizers = load_tokenizers(study.base)
    for split in ("train", "validation"):
        sources_of(study.base, tokenizers, split, out / _TOKENS, report=report)


def _progress(study: Study, results: Results, newest: Result | None) -> StudyProgress:
    trials = study.trials(results.by_name)
    done = [trial for trial in trials if trial.name in results.by_name]
    return StudyProgress(
        num_done=len(done),
        num_trials=len(trials),
        cost_done=sum(map(cost, done)),
        cost=sum(map(cost, trials)),
        newest=newest,
    )


def _stored(path: Path) -> dict[str, Any]:
    """What `run_study` wrote there. UserError if it is damaged or something else."""
    stored = io.read_sealed(path)
    names = {"request": dict, "study": dict, "environment": dict, "threads": int}
    asked = {"study": str, "short": bool, "data": list, "overrides": dict}
    made_on = {"device_name": str, "cores": int, "torch": str}
    if not (_has(stored, names) and _has(stored["request"], asked) and _has(stored["environment"], made_on)):
        raise UserError(f"{path} does not describe a study: choose another --out")
    return stored


def _has(stored: Any, kinds: Mapping[str, type]) -> bool:
    """Whether `stored` is an object with these values."""
    return isinstance(stored, dict) and all(isinstance(stored.get(name), kinds[name]) for name in kinds)


@contextmanager
def _claimed(out: Path, described: dict[str, Any]) -> Iterator[None]:
    """`out` for this process alone, if it is new or holds such a study."""
    path = out / STUDY
    with locks.claimed(out, marker=STUDY, what="study"):
        if path.exists():
            stored = _stored(path)
            for what in ("type", "threads"):
                if stored.get(what) != described[what]:
                    raise UserError(
                        f"{out} holds a study of {what} {stored.get(what)!r}, and this one's is "
                        f"{described[what]!r}: choose another --out"
                    )
        yield
