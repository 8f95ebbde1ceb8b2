"""`trimask study plan | run | report | fit`: answer a question by many small runs, or by a table of runs."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

import tyro

from trimask import modules
from trimask.cli.arguments import Verb, check_parallel, check_range, choose, closest
from trimask.cli.console import Report, print_json, say
from trimask.cli.destination import check_writable
from trimask.cli.failure import Failed, UsageError, convert_file_errors
from trimask.cli.progress import JobProgress
from trimask.cli.study_fit import DRAWS, SCALING, TableFit
from trimask.cli.study_plan import print_plan
from trimask.cli.study_progress import ShownProgress
from trimask.config import override
from trimask.studies.catalog import STUDIES, resolve_study

if TYPE_CHECKING:  # these import torch, which takes seconds: wrong arguments must be reported before that
    from trimask.parallel import Engine
    from trimask.studies.findings import Findings
    from trimask.studies.question import Question

_INTERRUPTED = 130
_LEAST, _MOST_HOURS = 1e-6, 1e6
_ACTIONS = ("plan", "run", "report", "fit")
_OF_TRIALS = (
    "short",
    "data",
    "model",
    "judges",
    "uses",
    "budget",
    "seconds_per_cost",
    "engine",
    "workers",
    "threads",
)
"""Options that say what trials are and how they run."""
_LISTED = "`trimask list` names the studies"


def _arg(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


@final
@dataclass(frozen=True, kw_only=True)
class Study(Verb):
    """Answer a question by many small runs: `trimask study run batch_invariance --out DIR`.

    plan lists the trials, and with --out which are done; run runs the missing ones and writes the report;
    report rewrites the report from the results so far. A stopped study continues with the same command. With
    --budget the trials that tell most for their time come first. Any field can be overridden by its path:
    --base.num-steps 500 --seeds 0,1. fit fits a law to any table of runs:
    `trimask study fit FILE.csv --law scaling --columns n=params,d=tokens,loss=val_loss`.
    """

    takes_overrides = True
    renamed = MappingProxyType({"model": "run"})

    action: Annotated[tyro.conf.Positional[str], _arg("plan|run|report|fit")]
    """what to do"""
    study: Annotated[tyro.conf.Positional[str | None], _arg("STUDY")] = None
    """one of `trimask list`, or your own function (mine.py:NAME); for report, also a study's folder; for fit,
    a table of runs (CSV)"""
    out: Annotated[Path | None, _arg("DIR")] = None
    """folder of the study: new, or that of the same command stopped earlier"""
    short: bool = False
    """the short form: minutes on two cores, indicative results"""
    data: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, _arg("DIR")] = ()
    """data that `trimask prepare` made, instead of the embedded data; with --run, where the run's data is
    now; may be given several times"""
    model: Annotated[str | None, tyro.conf.arg(name="run", metavar="RUN")] = None
    """for a study of a trained model: a run directory, an exported file, or quickstart, the default"""
    judges: Annotated[tuple[str, ...], _arg("DIR|ROLE=NAME")] = ()
    """for a study that judges samples: outside models, as for `trimask evaluate`"""
    uses: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, _arg("NAME=DIR")] = ()
    """for a study that builds on others: the folder of one, by the name that the study has for it; may be
    given several times, and is not needed again once --out has its results"""
    budget: Annotated[float | None, _arg("HOURS")] = None
    """for run, stop starting trials when they would end later than this; for plan, show which trials fit"""
    seconds_per_cost: Annotated[float | None, _arg("S")] = None
    """for plan, the time of a trial by its cost, instead of that measured in --out"""
    engine: Literal["local", "ray"] = "local"
    """where to run trials: processes of this machine, or a Ray cluster that sees the same files"""
    workers: Annotated[int | None, _arg("N")] = None
    """number of trials at the same time (default: the number of GPUs, or else of cores)"""
    threads: Annotated[int, _arg("N")] = 1
    """CPU threads of each trial; results depend on it in the last digits (order of sums)"""
    law: Annotated[str, _arg("NAME")] = SCALING
    """for fit: scaling, mixing, additive_mixing, or your own class (mine.py:NAME); its fields
    are options, such as --ceiling 8.3"""
    columns: Annotated[str, _arg("n=…,d=…,loss=…")] = ""
    """for fit: the columns of the law's inputs and of the loss; run=… groups rows of one run"""
    at: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, _arg("n=…,d=…")] = ()
    """for fit: forecast the loss there; may be given several times"""
    draws: Annotated[int, _arg("N")] = DRAWS
    """for fit: bootstrap draws for the intervals"""
    json: bool = False
    """print one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        if self.action not in _ACTIONS:
            close = closest(self.action, _ACTIONS)
            fix = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(_ACTIONS)}"
            raise UsageError(f"unknown action {self.action!r}: {fix} ({_LISTED})")
        if self.study is None and self.action == "fit":
            raise UsageError("name a table of runs: trimask study fit FILE.csv --columns …")
        if self.study is None:
            raise UsageError(f"name a study: trimask study {self.action} STUDY ({_LISTED})")
        check_parallel(workers=self.workers, threads=self.threads)
        check_range("--budget", self.budget, _LEAST, _MOST_HOURS)
        check_range("--seconds-per-cost", self.seconds_per_cost, 1e-30, 1e9)
        if self.action == "fit":
            return self._fit(Path(self.study), overrides)
        if self.columns or self.at or self.law != SCALING or self.draws != DRAWS:
            raise UsageError(
                "--law, --columns, --at and --draws are for trimask study fit FILE: leave them out"
            )
        if self.study not in STUDIES and Path(self.study).is_dir():
            self._refuse_overrides(overrides)
            return self._report_folder(Path(self.study))
        if not modules.is_own(self.study):
            choose("study", self.study, STUDIES)
        if self.action == "plan":
            return self._plan(self.study, overrides)
        if self.out is None:
            raise UsageError(f"give the study's folder: trimask study {self.action} {self.study} --out DIR")
        if self.action == "report":
            self._refuse_overrides(overrides)
            return self._report(self.study, self.out)
        return self._run(self.study, self.out, overrides)

    def _fit(self, file: Path, overrides: Mapping[str, str]) -> int:
        defaults = {each.name: each.default for each in fields(self)}
        for name in _OF_TRIALS:
            if getattr(self, name) != defaults[name]:
                option = self.renamed.get(name, name).replace("_", "-")
                raise UsageError(f"--{option} is for studies that run trials: leave it out")
        check_range("--draws", self.draws, 100, 100_000)
        fit = TableFit(
            file=file,
            law=self.law,
            columns=self.columns,
            at=self.at,
            draws=self.draws,
            out=self.out,
            is_json=self.json,
        )
        return fit.run(overrides)

    def _refuse_overrides(self, overrides: Mapping[str, str]) -> None:
        for name in overrides if self.action == "report" else ():
            raise UsageError(f"report takes the study's fields from its folder: leave --{name} out")

    def _report_folder(self, folder: Path) -> int:
        """Report the study in `folder`, given in place of its name."""
        if self.out is not None and self.out.resolve() != folder.resolve():
            raise UsageError(f"{folder} is a folder, and --out {self.out} another one: leave one of them out")
        from trimask.studies.run import find_study

        with convert_file_errors():
            name, code = find_study(folder)
        if self.action != "report":
            raise UsageError(
                f"{folder} is a folder: name its study, trimask study {self.action} {name} --out {folder}"
            )
        return self._report(name, folder, code)

    def _resolve(self, name: str, overrides: Mapping[str, str]) -> "Question[Any]":
        study = resolve_study(name, is_short=self.short)
        if self.model is not None:
            from trimask.studies.model_study import ModelStudy

            if not isinstance(study, ModelStudy):
                raise UsageError(f"the trials of {modules.label(name)} train their own runs: leave --run out")
            with convert_file_errors():
                study = study.with_run(self.model)
        if self.data:
            study = study.with_data(self.data)
        if self.judges:
            study = self._with_judges(study)
        found = override(study, overrides)
        found.check()
        return found

    def _with_judges(self, study: "Question[Any]") -> "Question[Any]":
        from trimask.studies.model_study import ModelStudy

        if not isinstance(study, ModelStudy):
            raise UsageError("the trials of this study are not judged: leave --judges out")
        # A study may run elsewhere than it was planned.
        words = [str(Path(word).absolute()) if Path(word).is_dir() else word for word in self.judges]
        return study.with_judges(words)

    def _uses(self) -> dict[str, Path]:
        """Parse --uses. UsageError if a word has no name or folder, or a name is given twice."""
        found: dict[str, Path] = {}
        for word in self.uses:
            name, equals, folder = word.partition("=")
            if not (name and equals and folder):
                raise UsageError(f"--uses {word}: give NAME=DIR, a name that the study needs and a folder")
            if name in found:
                raise UsageError(f"--uses {name} is given twice: give it once")
            found[name] = Path(folder)
        return found

    def _plan(self, name: str, overrides: Mapping[str, str]) -> int:
        from trimask.studies.run import read_progress

        if self.out is not None and self.out.is_dir():
            code, study = self._resolve_code(name, self.out, overrides)
        else:
            code, study = name, self._resolve(name, overrides)
        with convert_file_errors():
            progress = read_progress(study, self.out, code=code, is_short=self.short, uses=self._uses())
        print_plan(
            name,
            progress,
            budget=self.budget,
            workers=self._count_workers(study),
            pace=self.seconds_per_cost,
            as_json=self.json,
        )
        return 0

    def _resolve_code(
        self, name: str, out: Path, overrides: Mapping[str, str]
    ) -> tuple[str, "Question[Any]"]:
        """Return the study and the name of its function: that in the copy that `out` keeps of a user's file,
        if the results there are of the copy alone.
        """
        from trimask.studies.run import find_own_copy, has_results_of

        study = self._resolve(name, overrides)
        with convert_file_errors():
            own = find_own_copy(name, out)
            if own is None or has_results_of(study, out, self._uses()):
                return name, study
        say(
            f"{name} has changed: {out} continues with its own copy, {modules.MODULES}/"
            f"{modules.label(own).partition(':')[0]}; for the changed file, choose another --out"
        )
        return own, self._resolve(own, overrides)

    def _run(self, name: str, out: Path, overrides: Mapping[str, str]) -> int:
        from trimask.parallel import WorkerLost
        from trimask.studies.budget import Budget
        from trimask.studies.run import run_study

        budget = None if self.budget is None else Budget(seconds=self.budget * 3600, began=time.monotonic())

        code, study = self._resolve_code(name, out, overrides)
        check_writable(out)
        request = {
            "study": name,
            "short": self.short,
            "run": self.model,
            "data": [str(folder) for folder in self.data],
            "judges": list(self.judges),
            "uses": {each: str(folder) for each, folder in self._uses().items()},
            "overrides": dict(overrides),
        }
        try:
            with JobProgress(modules.label(name), "trial") as progress:
                show = ShownProgress(progress)
                run_study(
                    study,
                    out,
                    request=request,
                    engine=self._engine(study),
                    code=code,
                    threads=self.threads,
                    uses=self._uses(),
                    budget=budget,
                    report=progress.report,
                    on_progress=show,
                )
        except WorkerLost as error:
            raise Failed(str(error)) from error
        except KeyboardInterrupt:
            say(f"interrupted; finished trials are kept in {out}: continue with the same command")
            return _INTERRUPTED
        if show.num_left:
            say(
                f"--budget {self.budget:g} hours: {show.num_left} trials are left; the same command spends "
                "as much again on them"
            )
        return self._report(name, out, code)

    def _report(self, name: str, out: Path, code: str | None = None) -> int:
        from trimask.studies.run import report_study

        with convert_file_errors(), Report() as report:
            report.expect("writing the report")
            path, findings = report_study(name, out, code=code)
        self._print_findings(path, findings)
        return 0

    def _print_findings(self, path: Path, findings: "Findings") -> None:
        from trimask.studies.report import findings_to_json, format_claim

        if self.json:
            print_json({"report": str(path), **findings_to_json(findings)})
            return
        for claim in findings.claims:
            print(format_claim(claim))
        say(f"tables and plots: {path}")

    def _count_workers(self, study: "Question[Any]") -> int:
        from trimask.devices import count_gpus

        num_gpus = count_gpus() if study.uses_gpu else 0
        return self.workers or num_gpus or os.cpu_count() or 1

    def _engine(self, study: "Question[Any]") -> "Engine":
        from trimask.devices import count_gpus
        from trimask.parallel import Local, Ray

        workers = self._count_workers(study)
        if self.engine == "ray":
            return Ray(workers=workers, on_gpus=study.uses_gpu)
        return Local(workers=workers, num_gpus=count_gpus() if study.uses_gpu else 0)
