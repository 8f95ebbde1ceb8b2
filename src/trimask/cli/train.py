"""`trimask train`: a recipe becomes a run."""

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

if TYPE_CHECKING:  # they take torch, and wrong arguments should be told at once
    from trimask.training.distributed import World
    from trimask.training.loop import TrainResult

_INTERRUPTED = 130


@final
@dataclass(frozen=True, kw_only=True)
class Train(Verb):
    """Run a recipe in a directory of its own, with checkpoints. Ctrl-C ends it at a whole step.

    On many devices: `torchrun --nproc-per-node 8 -m trimask train RECIPE --out RUN`. A run may go on with
    more or fewer of them than it began with.

    Any field can be overridden by its path: `trimask train debug --out runs/x --model.depth 6 --seed 1`.
    """

    takes_overrides: ClassVar[bool] = True

    recipe: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="RECIPE")] = None
    """one of `trimask list`, or a function of your own (mine.py:NAME); with --resume it may be left out"""
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """the run's directory: new, or with --resume an earlier one"""
    resume: bool = False
    """go on from the newest checkpoint in RUN, with the run's own fields; --num-steps may be more than
    they say, and --data DIR is where data that moved is now"""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="M")] = None
    """stop after so many minutes of training, all resumes together"""
    dry_run: bool = False
    """check everything, show what would run, and write nothing"""
    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """CPU threads; else all cores"""
    device: str | None = None
    """cpu, cuda or cuda:N; else a GPU where there is one"""
    tokenizers: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """tokenizers to train over; else those that ship"""
    data: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="DIR")] = ()
    """data that `trimask prepare` made, instead of the recipe's; for a tokenizer, raw pictures or recordings
    as `prepare` reads them; may be given several times"""
    group_by: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """of a tokenizer's raw --data: column whose equal values share a split, as `prepare` takes it"""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """start from these weights, that `trimask export` wrote, of the same size and tokenizers"""
    json: bool = False
    """one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        if self.minutes is not None and not 0 < self.minutes <= MOST_MINUTES:
            raise UsageError(
                f"--minutes is {self.minutes:g}: give a number above 0, at most {MOST_MINUTES:,}"
            )
        check_parallel(threads=self.threads)
        if self.group_by is not None and not self.data:
            raise UsageError("--group-by is of a tokenizer's raw data: name it with --data")
        planned = self._make_job(overrides)
        planned.check()
        from trimask.training.distributed import open_world
        from trimask.training.placement import check

        with open_world(self.device, replicas=planned.compute.replicas) as world:
            check(planned.compute, world)
            world.run_on_main(lambda: self._check(planned))
            if not self.dry_run:
                return self._train(planned, overrides, world)
            if world.is_main:
                self._print_plan(planned)
        return 0

    def _make_job(self, overrides: Mapping[str, str]) -> Job:
        given = {"data": self.data, "tokenizers": self.tokenizers, "weights": self.weights}
        found = resume_job(self.out, overrides, recipe=self.recipe, **given) if self.resume else None
        if found is not None:
            if self.group_by is not None:
                raise UsageError(f"{self.out} has begun, grouped as it was then: leave out --group-by")
            return found
        if self.recipe is None:
            mend = f"no run has begun in {self.out}: name its recipe" if self.resume else "name a recipe"
            raise UsageError(f"{mend}, one of `trimask list`")
        return make_job(self.recipe, overrides, group_by=self.group_by, **given)

    def _print_plan(self, planned: Job) -> None:
        planned.print_summary(as_json=self.json)
        say(f"dry run: {planned.recipe} can start in {self.out}; nothing was written")

    def _check(self, planned: Job) -> None:
        self._check_out(planned)
        check_writable(self.out, num_bytes=planned.num_bytes)

    def _check_out(self, planned: Job) -> None:
        """Whether `out` may hold this run. The run itself compares what the arguments do not decide."""
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
        wanted = stored | {"recipe": planned.recipe, "run": planned.config}
        check_run(
            self.out,
            wanted,
            resume=self.resume,
            may_change=planned.may_change,
            leftovers=planned.leftovers,
        )

    def _train(self, planned: Job, overrides: Mapping[str, str], world: "World") -> int:
        import torch

        from trimask.training.loop import NonFiniteLoss

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            with convert_file_errors():
                deadline = None if self.minutes is None else self.minutes * 60
                result = planned.run(self.out, resume=self.resume, deadline=deadline, world=world)
        except NonFiniteLoss as error:
            raise Failed(f"{error} Lower the optimizer's learning rate or change --seed") from error
        except KeyboardInterrupt:
            say(f"interrupted; {self.out} keeps what was saved; go on with: {self._command(overrides)}")
            return _INTERRUPTED
        if world.is_main:
            self._print_result(planned, overrides, result)
        return _INTERRUPTED if result.stopped == "interrupted" else 0

    def _print_result(self, planned: Job, overrides: Mapping[str, str], result: "TrainResult") -> None:
        if self.json:
            print_json(
                {
                    "run": str(self.out),
                    "recipe": planned.recipe,
                    "steps": result.steps,
                    "num_steps": planned.num_updates,
                    "seconds": round(result.seconds, 3),
                    "stopped": result.stopped,
                }
            )
        steps = f"{result.steps} of {planned.num_updates} steps"
        say(f"{result.stopped} after {steps}, {result.seconds:.0f} s: {self.out}")
        if result.steps < planned.num_updates:
            say(f"go on with: {self._command(overrides)}")
        caution = planned.caution(result.seconds)
        if caution is not None:
            say(caution)
        say(planned.try_it(self.out))

    def _command(self, overrides: Mapping[str, str]) -> str:
        """The command that resumes this run, or begins it where it has not begun."""
        start = [program()]
        if "TORCHELASTIC_RUN_ID" in os.environ:
            start = ["torchrun", f"--nproc-per-node={os.environ['LOCAL_WORLD_SIZE']}", "-m", "trimask"]
        recipe = [self.recipe] if self.recipe else []
        words = ["train", *recipe, "--out", str(self.out), "--resume"]
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
