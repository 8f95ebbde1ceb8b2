"""`trimask train`: run a recipe."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, final

import tyro

from trimask.cli.arguments import MOST_MINUTES, Verb, check_parallel
from trimask.cli.console import print_json, say
from trimask.cli.destination import check_writable
from trimask.cli.failure import Failed, UsageError, convert_file_errors
from trimask.cli.job import Job
from trimask.cli.jobs import make_job, resume_job
from trimask.cli.program import program
from trimask.config import to_dict

if TYPE_CHECKING:  # these import torch, which takes seconds: wrong arguments must be reported before that
    from trimask.training.distributed import World
    from trimask.training.loop import TrainResult

_INTERRUPTED = 130


@final
@dataclass(frozen=True, kw_only=True)
class Train(Verb):
    """Run a recipe in its own directory, with checkpoints. Ctrl-C ends it after the current step.

    On many devices: `torchrun --nproc-per-node 8 -m trimask train RECIPE --out RUN`. A run may be resumed on
    another number of devices.

    Any field can be overridden by its path: `trimask train debug --out runs/x --model.depth 6 --seed 1`.
    """

    takes_overrides: ClassVar[bool] = True

    recipe: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="RECIPE")] = None
    """one of `trimask list`, or your own function (mine.py:NAME); optional with --resume"""
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """the run's directory: new, or with --resume an earlier one"""
    resume: bool = False
    """continue from the newest checkpoint in RUN, with the run's configuration; --num-steps may be larger
    than it was, and --data DIR gives the new place of data that has moved"""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="M")] = None
    """stop after so many minutes of training, over all resumes"""
    dry_run: bool = False
    """check everything, show what would run, and write nothing"""
    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """CPU threads (default: all cores)"""
    device: str | None = None
    """cpu, cuda or cuda:N (default: a GPU if there is one)"""
    tokenizers: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """tokenizers to train over (default: the shipped ones)"""
    data: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="DIR")] = ()
    """data that `trimask prepare` made, instead of the recipe's; for a tokenizer, raw pictures or recordings
    as `prepare` reads them; may be given several times"""
    group_by: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """for a tokenizer's raw --data: column whose equal values share a split, as in `prepare`"""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """start from weights that `trimask export` wrote, of a model of the same size and tokenizers"""
    tracker: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME")] = ()
    """show the metrics in tensorboard, wandb, trackio, mlflow or mine.py:Class too; may be given several
    times, and changes nothing of the run"""
    json: bool = False
    """print one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        if self.minutes is not None and not 0 < self.minutes <= MOST_MINUTES:
            raise UsageError(
                f"--minutes is {self.minutes:g}: give a number above 0, at most {MOST_MINUTES:,}"
            )
        check_parallel(threads=self.threads)
        if self.group_by is not None and not self.data:
            raise UsageError("--group-by is for a tokenizer's raw data: give the data with --data")
        job = self._make_job(overrides)
        job.check()
        if self.tracker and not job.has_metrics:
            raise UsageError(f"{job.recipe} has no metrics to track: leave --tracker out")
        from trimask.training.distributed import open_world
        from trimask.training.placement import check

        with open_world(self.device, replicas=job.compute.replicas) as world:
            check(job.compute, world)
            world.run_on_main(lambda: self._check(job))
            if not self.dry_run:
                return self._train(job, overrides, world)
            if world.is_main:
                self._print_plan(job)
        return 0

    def _make_job(self, overrides: Mapping[str, str]) -> Job:
        given = {"data": self.data, "tokenizers": self.tokenizers, "weights": self.weights}
        found = resume_job(self.out, overrides, recipe=self.recipe, **given) if self.resume else None
        if found is not None:
            if self.group_by is not None:
                raise UsageError(f"the data of {self.out} has been grouped already: leave out --group-by")
            return found
        if self.recipe is None:
            problem = f"no run has begun in {self.out}" if self.resume else "no recipe is given"
            raise UsageError(f"{problem}: name a recipe, one of `trimask list`")
        return make_job(self.recipe, overrides, group_by=self.group_by, **given)

    def _print_plan(self, job: Job) -> None:
        job.print_summary(as_json=self.json)
        say(f"dry run: {job.recipe} can start in {self.out}; nothing was written")

    def _check(self, job: Job) -> None:
        self._check_out(job)
        check_writable(self.out, num_bytes=job.num_bytes)

    def _check_out(self, job: Job) -> None:
        """Check that `out` may hold this run. The run itself compares what the arguments do not decide."""
        from trimask.training.run_directory import check_run, read_config

        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file: name a folder")
        has_files = self.out.is_dir() and any(not entry.name.startswith(".") for entry in self.out.iterdir())
        check_writable(self.out)
        if not has_files:
            return
        stored: Any = {}
        if self.resume and (self.out / "config.json").exists():
            with convert_file_errors():
                stored = read_config(self.out)
        wanted = stored | {"recipe": job.recipe, "run": job.config}
        check_run(
            self.out,
            wanted,
            resume=self.resume,
            may_change=job.may_change,
            leftovers=job.leftovers,
        )

    def _train(self, job: Job, overrides: Mapping[str, str], world: "World") -> int:
        import torch

        from trimask.training.loop import NonFiniteLoss
        from trimask.training.trackers import open_trackers

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            described = {"recipe": job.recipe, "run": to_dict(job.config)}
            with open_trackers(self.tracker, self.out, described) as track, convert_file_errors():
                deadline = None if self.minutes is None else self.minutes * 60
                result = job.run(
                    self.out, resume=self.resume, deadline=deadline, world=world, on_progress=track
                )
        except NonFiniteLoss as error:
            raise Failed(f"{error} Lower the optimizer's learning rate or change --seed") from error
        except KeyboardInterrupt:
            say(f"interrupted; checkpoints are kept in {self.out}; resume with: {self._command(overrides)}")
            return _INTERRUPTED
        if world.is_main:
            self._print_result(job, overrides, result)
        return _INTERRUPTED if result.stopped == "interrupted" else 0

    def _print_result(self, job: Job, overrides: Mapping[str, str], result: "TrainResult") -> None:
        if self.json:
            print_json(
                {
                    "run": str(self.out),
                    "recipe": job.recipe,
                    "steps": result.steps,
                    "num_steps": job.num_updates,
                    "seconds": round(result.seconds, 3),
                    "stopped": result.stopped,
                }
            )
        steps = f"{result.steps} of {job.num_updates} steps"
        say(f"{result.stopped} after {steps}, {result.seconds:.0f} s: {self.out}")
        if result.steps < job.num_updates:
            say(f"resume with: {self._command(overrides)}")
        caution = job.caution(result.seconds)
        if caution is not None:
            say(caution)
        say(job.try_it(self.out))

    def _command(self, overrides: Mapping[str, str]) -> str:
        """Return the command that resumes this run, or starts it if it has not begun."""
        start = [program()]
        if "TORCHELASTIC_RUN_ID" in os.environ:
            start = ["torchrun", f"--nproc-per-node={os.environ['LOCAL_WORLD_SIZE']}", "-m", "trimask"]
        recipe = [self.recipe] if self.recipe else []
        words = ["train", *recipe, "--out", str(self.out), "--resume"]
        for name in self.tracker:
            words += ["--tracker", name]
        if (self.out / "config.json").exists():
            return f"{' '.join(start)} {shlex.join(words)}"
        if self.tokenizers is not None:
            words += ["--tokenizers", str(self.tokenizers)]
        if self.weights is not None:
            words += ["--weights", str(self.weights)]
        for folder in self.data:
            words += ["--data", str(folder)]
        if self.group_by is not None:
            words += ["--group-by", self.group_by]
        for path, value in overrides.items():
            words.append(f"--{path}={value}")
        return f"{' '.join(start)} {shlex.join(words)}"
